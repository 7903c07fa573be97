"""What can go wrong in the registry, as a tree."""

import errno
import os


class RegistryError(Exception):
    """Something about the registry is wrong; the message is for the operator and says the remedy."""


class NoSuchVersion(RegistryError):
    """The adapter or its version is not published here."""


class VersionRefused(RegistryError):
    """A published version must not be served: damaged, unsafe, or made for something else."""


class RegistryBusy(RegistryError):
    """Another process holds the lock; the message says which."""


def unwritable(where: object, error: OSError) -> RegistryError:
    """What a volume refused at ``where``, and what mends it."""
    match error.errno:
        case errno.EROFS:
            remedy = "mount it writable"
        case errno.EACCES | errno.EPERM:
            remedy = f"give the registry to user {os.geteuid()}, who writes there (`make preflight` names the folders)"
        case _:
            remedy = "check the volume and its free space"
    return RegistryError(f"{where}: {error.strerror}; {remedy}")


def because(error: OSError) -> str:
    """Why a file of a version cannot be read; where it is another user's, what mends it."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{error.strerror}; give the registry to user {os.geteuid()}, or let everyone read it"
    return error.strerror or str(error)
