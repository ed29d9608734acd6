"""Files that are kept: as far as their file system can promise it, and why where it does not."""

import errno
import os

_NOT_OFFERED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
"""What file systems without such a promise answer: some network mounts, and FUSE."""


def sync(handle: int) -> None:
    """Wait until what was written to a file is kept; where that is not offered, do nothing.

    Raises:
        OSError: When it could not be kept.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise


def in_words(error: OSError) -> str:
    """What could not be done with which file, where the error names one."""
    what = f"{error.filename} cannot be used: " if error.filename else ""
    return f"{what}{error.strerror or error}"
