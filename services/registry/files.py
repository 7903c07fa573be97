"""Open files that somebody else may have put there: no link is followed, and no pipe can make the reader wait for ever."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(file: Path) -> BufferedReader:
    """Open ``file`` for reading if it is a regular file.

    Raises:
        OSError: it cannot be opened, or it is a link, a pipe, a device or a folder; ``strerror`` says which.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "is a link, not a regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(file: Path, *, most: int) -> bytes:
    """Read a regular file of at most ``most`` bytes.

    Raises:
        OSError: see ``open_regular``; or the file is larger.
    """
    with open_regular(file) as stream:
        if os.fstat(stream.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"is over {most} bytes")
        return stream.read(most)
