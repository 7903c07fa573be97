"""What can go wrong in the registry, as a tree."""


class RegistryError(Exception):
    """Something about the registry is wrong; the message is for the operator and says the remedy."""


class NoSuchVersion(RegistryError):
    """The adapter or its version is not published here."""


class VersionRefused(RegistryError):
    """A published version must not be served: damaged, unsafe, or made for something else."""


class RegistryBusy(RegistryError):
    """Another process holds the lock; the message says which."""
