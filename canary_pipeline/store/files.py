"""The files of one folder: read as they are, written whole, and never with a secret in them.

Whatever is written goes through the redactor, so that no caller can forget the token in it.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path
from typing import Any

from canary_pipeline.model.record import Header
from canary_pipeline.outside.token import Redactor
from canary_pipeline.store import layout
from canary_pipeline.store.holding import NOTHING, Holding
from canary_pipeline.store.log import Log
from canary_pipeline.store.order import CONCLUDING
from canary_pipeline.store.writing import append_row, write_whole

MOST_BYTES = 64 * 1024 * 1024
"""What is read at once: only logs grow to that, and they are not."""


class Files:
    """A rollout's folder, as files."""

    def __init__(
        self, folder: Path, redactor: Redactor | None = None, holding: Holding = NOTHING
    ) -> None:
        """Look at a folder; nothing is read or written yet.

        Args:
            folder: The rollout's folder, absolute.
            redactor: Knows what must not be written; by default nothing is known.
            holding: What is held by whoever writes.
        """
        self.folder = folder
        self.redactor = redactor or Redactor(None)
        self.holding = holding
        self._known: Header | None = None

    def exists(self, name: str) -> bool:
        """Whether the folder holds a file of this name."""
        return (self.folder / name).is_file()

    def read_bytes(self, name: str) -> bytes:
        """What a file holds; nothing where it cannot be read."""
        try:
            return self.read_whole(name)
        except OSError:
            return b""

    def read_text(self, name: str) -> str | None:
        """A file's text, or None where it cannot be read."""
        try:
            return self.read_whole(name).decode("utf-8", "replace")
        except OSError:
            return None

    def read_whole(self, name: str) -> bytes:
        """What a file holds.

        Raises:
            OSError: When it cannot be read, is no regular file, or larger than `MOST_BYTES`.
        """
        with _opened(self.folder / name) as file:
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
            return file.read()

    def changed_at(self) -> datetime | None:
        """When a file was last added to or taken from the folder, or None where unknown."""
        try:
            return datetime.fromtimestamp(self.folder.stat().st_mtime, UTC)
        except (OSError, ValueError, OverflowError):
            return None

    def size(self, name: str) -> int | None:
        """A file's size in bytes, or None where there is none."""
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return None

    def sha256(self, name: str) -> str | None:
        """A file's SHA-256 in hexadecimal, or None where it cannot be read."""
        try:
            with _opened(self.folder / name) as file:
                return file_digest(file, sha256).hexdigest()
        except OSError:
            return None

    def digests(self) -> dict[str, str]:
        """By name, the SHA-256 of every file that a decision is about.

        It is empty for what is no regular file, or cannot be read.
        """
        names = (found for found in _below(self.folder) if layout.is_decided_on(found[0]))
        return {name: (self.sha256(name) or "") if regular else "" for name, regular in names}

    def tail(self, name: str, lines: int, most_bytes: int = 16384) -> str:
        """The last lines of a file, as text."""
        try:
            with _opened(self.folder / name) as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - most_bytes, 0))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Write a file whole or not at all; return its path.

        What concludes is published first, where other hosts read it.

        Raises:
            OSError: When it cannot be written; the file is as it was before.
            LostError: When it concludes, and the environment may be another's.
        """
        path, clean = self.folder / name, self.redactor.data(data)
        if name in CONCLUDING and self.holding.conclude(name, clean):
            return path
        if path.parent != self.folder:
            path.parent.mkdir(exist_ok=True)
        write_whole(path, clean)
        self.holding.written()
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file whole or not at all; return its path."""
        return self.write_bytes(name, text.encode("utf-8", "replace"))

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def append(self, name: str, row: Mapping[str, object]) -> None:
        """Add a row to a file of rows."""
        append_row(self.folder / name, self._clean(dict(row)))
        self.holding.written()

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redactor.text(value)
        if isinstance(value, dict):
            return {self._clean(key): self._clean(item) for key, item in value.items()}
        return [self._clean(item) for item in value] if isinstance(value, (list, tuple)) else value

    def open_log(self, name: str) -> Log:
        """Open a command's log, emptied, for writing as the command runs."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        return Log(path.open("wb", buffering=0), self.redactor)


def _opened(path: Path) -> BufferedReader:
    """Open a regular file: a pipe would be waited for, and a device may never end.

    Raises:
        OSError: When it is anything else, or cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, str(error), repr(path)) from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, os.strerror(code), str(path))
    return os.fdopen(handle, "rb")


def _below(folder: Path) -> Iterator[tuple[str, bool]]:
    """The names of all that a folder holds, links not followed, and whether each is a file."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{prefix}{entry.name}/")
                    else:
                        yield f"{prefix}{entry.name}", entry.is_file(follow_symlinks=False)
        except OSError:
            yield prefix or ".", False
