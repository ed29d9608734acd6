"""A lock on a file that belongs to the file's opening: not to a thread, and to no pid.

Linux's open file description locks; a kernel without them has `flock`, which is asked by taking it.
"""

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path

_FLOCK = "hhqqi4x"
"""Linux's `struct flock`: type, whence, start, length, pid."""


def take(handle: int, path: Path) -> bool:
    """Lock an open file, unless somebody has it.

    Args:
        handle: The file, open for writing.
        path: Where it must be: a lock on a file that was replaced meanwhile protects nobody.

    Returns:
        Whether it is locked, and is the one at the path.

    Raises:
        OSError: Where the file system has no locks.
    """
    try:
        if not _described(handle, "F_OFD_SETLK"):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return is_at(handle, path)


def is_taken(handle: int) -> bool:
    """Whether somebody else has the lock of an open file.

    Raises:
        OSError: Where the file system has no locks.
    """
    if answer := _described(handle, "F_OFD_GETLK"):
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _described(handle: int, command: str) -> bytes:
    """What the kernel answers about an open file description's lock; nothing if it has none."""
    if sys.platform != "linux":
        return b""
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        return fcntl.fcntl(handle, getattr(fcntl, command), wanted)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return b""
        raise
