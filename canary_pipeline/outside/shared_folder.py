"""An object store that is a folder which many hosts mount; the kernel makes writes conditional."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from canary_pipeline.outside.durable import sync
from canary_pipeline.outside.file_lock import take
from canary_pipeline.outside.object_store import (
    PAGE,
    ConflictError,
    Stored,
    StoreUnreachableError,
    StoreUnusableError,
)

LOCK_SECONDS = 10.0
"""How long a swap waits for another; a host may be paused amid one."""


class SharedFolder:
    """Objects as files below a folder; a reader never sees half of one."""

    def __init__(self, root: Path, *, writes: bool = True) -> None:
        """Use a folder that is there.

        Args:
            root: The folder.
            writes: Whether more is to be done than to read.

        Raises:
            StoreUnusableError: When it is not: a share that is not mounted must not be made up.
        """
        may_write = os.access(root, os.W_OK)
        if not root.is_dir() or (writes and not may_write):
            done = "written" if writes else "read"
            raise StoreUnusableError(
                f"file://{root} is no folder that can be {done}: is it mounted?"
            )
        self._root = root
        self._marker = root / ".canary-evidence"
        if may_write and not self._marker.exists():
            self._marker.touch()

    def get(self, key: str) -> Stored | None:
        """Read an object, or None where there is none."""
        with self._answering():
            try:
                with (self._root / key).open("rb") as file:
                    data, modified = file.read(), os.fstat(file.fileno()).st_mtime
            except FileNotFoundError:
                return None
        return Stored(data, _etag(data), datetime.fromtimestamp(modified, UTC))

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, whatever was there."""
        with self._written(key, content) as new:
            new.replace(self._root / key)

    def create(self, key: str, data: bytes) -> str:
        """Write an object that is not there yet."""
        with self._written(key, data) as new:
            try:
                (self._root / key).hardlink_to(new)
            except FileExistsError:
                raise ConflictError(key) from None
        return _etag(data)

    def swap(self, key: str, data: bytes, etag: str) -> str:
        """Write an object in place of the one with this etag."""
        with self._locked(key):
            now = self.get(key)
            if now is None or now.etag != etag:
                raise ConflictError(key)
            self.put(key, data)
        return _etag(data)

    def keys(self, prefix: str, after: str = "") -> Iterator[list[str]]:
        """The keys below a folder in pages."""
        with self._answering():
            files = (path for path in (self._root / prefix).rglob("*") if path.is_file())
            found = sorted(str(path.relative_to(self._root)) for path in files)
        found = [key for key in found if key > after]
        yield from (found[start : start + PAGE] for start in range(0, len(found), PAGE))

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below a folder."""
        with self._answering():
            try:
                with os.scandir(self._root / prefix) as entries:
                    return sorted(entry.name for entry in entries if entry.is_dir())
            except FileNotFoundError:
                return []

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        with self._answering():
            (self._root / key).unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        """Make a folder for whoever may write to the root, whatever this user's umask."""
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
            with suppress(PermissionError):  # another user made it at the same moment
                folder.chmod(self._root.stat().st_mode & 0o2777)

    @contextmanager
    def _written(self, key: str, content: bytes | Path) -> Iterator[Path]:
        """A complete file beside the object, gone afterwards if it was not moved."""
        new = self._root / ".new" / str(uuid4())
        with self._answering():
            self._make(new.parent)
            self._make((self._root / key).parent)
            try:
                with new.open("xb") as file:
                    if isinstance(content, Path):
                        with content.open("rb") as source:
                            shutil.copyfileobj(source, file)
                    else:
                        file.write(content)
                    file.flush()
                    sync(file.fileno())
                yield new
            finally:
                new.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        path = self._root / ".locks" / sha256(key.encode()).hexdigest()[:32]
        deadline = time.monotonic() + LOCK_SECONDS
        with self._answering():
            self._make(path.parent)
            while True:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                with suppress(OSError):  # another user's already
                    os.fchmod(handle, 0o666)
                try:
                    if take(handle, path):
                        try:
                            yield
                        finally:
                            path.unlink(missing_ok=True)
                        return
                finally:
                    os.close(handle)
                if time.monotonic() > deadline:
                    raise TimeoutError("another host is amid a write")
                time.sleep(0.01)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell a share that is not mounted any more from one where nothing was written."""
        try:
            self._marker.stat()
            yield
        except OSError as error:
            message = f"the evidence store file://{self._root} fails: {error.strerror or error}"
            raise StoreUnreachableError(message) from None


def _etag(data: bytes) -> str:
    return sha256(data).hexdigest()
