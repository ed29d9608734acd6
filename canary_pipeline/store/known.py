"""What this host knows of a rollout's objects, kept in its folder for whoever goes on here."""

from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from canary_pipeline.store.layout import PUBLISHED
from canary_pipeline.store.order import is_log

Seen = tuple[int, int, int]
"""Inode, size and modification time in ns of a file."""


class Entry(BaseModel):
    """What is known of a published file.

    Attributes:
        seen: The file as it was published or fetched; None if it was not, or is to be published.
        etag: The object's.
        sent: SHA-256 of what the object may hold: what it held when the store answered last, and
            all that was sent since.
    """

    model_config = ConfigDict(frozen=True)

    seen: Seen | None = None
    etag: str | None = None
    sent: tuple[str, ...] = ()

    def goes_on(self, name: str, here: bytes, now: Seen | None, stored: bytes) -> bool:
        """Whether what is here comes after what is stored, and is to be published over it.

        Rows go on from fewer rows, and a log from less of it. Else this host must have written
        both: of a log that was changed here it has, since no two hosts write the same one.

        Args:
            name: The file's, in the folder.
            here: What it holds.
            now: As it is now, by `seen_at`.
            stored: What its object holds.
        """
        if (is_log(name) or name.endswith(".jsonl")) and here.startswith(stored):
            return True
        if is_log(name):  # one that was fetched and not changed since is another host's
            return self.seen not in (None, now) and digest(here) not in self.sent
        return digest(stored) in self.sent


_STATE = TypeAdapter(dict[str, Entry])


class Known:
    """What is known, by the names of the files."""

    def __init__(self, folder: Path) -> None:
        """Read what is known in a rollout's folder; nothing where that cannot be read."""
        self._path = folder / PUBLISHED
        self._entries: dict[str, Entry] = {}
        with suppress(OSError, ValidationError):
            self._entries = _STATE.validate_json(self._path.read_bytes())

    def __iter__(self) -> Iterator[str]:
        """The names of which something is known."""
        return iter(list(self._entries))

    def __contains__(self, name: str) -> bool:
        """Whether anything is known of a file."""
        return name in self._entries

    def of(self, name: str) -> Entry:
        """What is known of a file; an empty entry where nothing is."""
        return self._entries.get(name, Entry())

    def note(self, name: str, entry: Entry | None) -> None:
        """Keep what is known of a file from now on; None to forget it.

        Raises:
            OSError: When it cannot be written.
        """
        if entry is None:
            self._entries.pop(name, None)
        else:
            self._entries[name] = entry
        write(self._path, _STATE.dump_json(self._entries))


def seen_at(path: Path) -> Seen | None:
    """A file as it is now; None where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def write(path: Path, data: bytes) -> None:
    """Write what can be fetched again: whole or not at all, without waiting until it is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-new")
    temporary.write_bytes(data)
    temporary.replace(path)


def digest(data: bytes) -> str:
    """The SHA-256 of some bytes in hexadecimal."""
    return sha256(data).hexdigest()
