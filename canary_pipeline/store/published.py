"""A rollout's folder as other hosts see it: published to an object store as it grows.

Work is done in the local folder. What cannot be published now is `pending`, and is published with
the next call; nothing that concludes is published before all that it rests on.
"""

import threading
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from canary_pipeline.outside.object_store import (
    ConflictError,
    ObjectStore,
    Stored,
    StoreUnreachableError,
)
from canary_pipeline.store.layout import (
    DECISION,
    HEADER,
    LOGS,
    PUBLISHED,
    SIGNATURE,
    SUMMARY,
    UNPUBLISHED,
)
from canary_pipeline.store.order import CONCLUDING, is_evidence, names_in, order, passes
from canary_pipeline.store.writing import write_whole

ATTEMPTS = 5


class PublishedByAnotherError(Exception):
    """Another host has gone on with this rollout: what is here must not be written over it."""


class _Entry(BaseModel):
    """What is known of a published file.

    Attributes:
        seen: Inode, size, modification time in ns as it was published; None if it was not.
        etag: The object's.
        sent: SHA-256 of what the object may hold: what it held when the store answered last, and
            all that was sent since.
    """

    model_config = ConfigDict(frozen=True)

    seen: tuple[int, int, int] | None = None
    etag: str | None = None
    sent: tuple[str, ...] = ()


_STATE = TypeAdapter(dict[str, _Entry])


class Published:
    """One rollout's folder and its objects."""

    def __init__(self, folder: Path, store: ObjectStore, prefix: str) -> None:
        """Connect a rollout's folder with its objects, by `rollout_prefix`."""
        self._folder, self._store, self._prefix = folder, store, prefix
        self._guard = threading.RLock()
        self._known: dict[str, _Entry] = {}
        with suppress(OSError, ValidationError):
            self._known = _STATE.validate_json((folder / PUBLISHED).read_bytes())

    def pending(self) -> list[str]:
        """The files that are not published as they are now, in the order of publishing."""
        here = {name: _seen(self._folder / name) for name in names_in(self._folder)}
        with self._guard:
            known = {name: entry.seen for name, entry in self._known.items()}
        changed = {name for name, seen in here.items() if known.get(name) != seen}
        ended = {name for name in known if passes(name) and name not in here}
        return sorted(changed | ended, key=order)

    def publish_all(self) -> bool:
        """Publish everything that is pending; otherwise like `publish`."""
        return self.publish(self.pending())

    def publish(self, names: Iterable[str]) -> bool:
        """Publish some files by their names in the folder; with what concludes, all the others.

        Returns:
            Whether they are published; if not, the store is away, and they stay pending.

        Raises:
            OSError: When the folder cannot be read or written.
            PublishedByAnotherError: When another host has gone on with the rollout.
        """
        wanted = set(names)
        if wanted & {*CONCLUDING}:
            wanted |= {name for name in self.pending() if name not in CONCLUDING}
        with self._guard:
            try:
                for name in sorted(wanted, key=order):
                    self._publish(name)
            except StoreUnreachableError:
                return False
        return True

    def put(self, name: str, data: bytes) -> bool:
        """Publish all that is pending, then a file that concludes, and only then write that here.

        Returns:
            Whether that was done; if not, the store is away, and the file is as it was.

        Raises:
            OSError: When the folder cannot be read or written.
            PublishedByAnotherError: When another host has gone on with the rollout.
        """
        with self._guard:
            before = (other for other in self.pending() if other not in CONCLUDING)
            gone = (other for other in (SIGNATURE, DECISION) if not (self._folder / other).exists())
            if not self.publish([*gone, *before]):
                return False
            try:
                self._swap(name, data, None)
            except StoreUnreachableError:
                return False
            write_whole(self._folder / name, data)
            published = self._known[name].model_copy(update={"seen": _seen(self._folder / name)})
            self._note(name, published)
        return True

    def is_current(self) -> bool:
        """Whether what is here says of the last attempt, and of the decision, what is published.

        Raises:
            StoreUnreachableError: When the store does not answer.
        """
        for name in (HEADER, SUMMARY):
            stored, known = self._store.get(self._key(name)), self._known.get(name, _Entry())
            if stored is None or (stored.etag, _seen(self._folder / name)) != (
                known.etag,
                known.seen,
            ):
                return False
        return True

    def fetch(self) -> list[str]:
        """Bring the folder up to what is published, and return the names of these files.

        What was changed here and could not be published stays, and is pending; unless another
        host has gone on: then it is put aside, under `unpublished/`.

        Raises:
            OSError: When the folder cannot be written.
            StoreUnreachableError: When the store does not answer.
        """
        keys = (key for page in self._store.keys(self._prefix) for key in page)
        found = (key.removeprefix(f"{self._prefix}/") for key in keys)
        # Last first: whoever publishes meanwhile writes what it rests on before it.
        names = sorted(filter(is_evidence, found), key=order, reverse=True)
        with self._guard:
            for name in names:
                if stored := self._store.get(self._key(name)):
                    self._bring(name, stored)
            for name in [name for name in self._known if passes(name)]:
                if name not in names:
                    (self._folder / name).unlink(missing_ok=True)
                    self._note(name, None)
        return names

    def _bring(self, name: str, stored: Stored) -> None:
        path, known = self._folder / name, self._known.get(name, _Entry())
        here = path.read_bytes() if path.exists() else None
        if here is not None and here != stored.data:
            if name.startswith(f"{LOGS}/") or _goes_on(name, here, stored, known):
                self._note(name, _Entry(etag=stored.etag, sent=known.sent))
                return
            if known.seen != _seen(path) and not stored.data.startswith(here):
                _write(self._folder / UNPUBLISHED / name, here)
        if here != stored.data:
            _write(path, stored.data)
        entry = _Entry(seen=_seen(path), etag=stored.etag, sent=(_digest(stored.data),))
        self._note(name, entry)

    def _publish(self, name: str) -> None:
        path = self._folder / name
        seen = _seen(path)
        if seen is None:
            if passes(name) and name in self._known:
                self._store.delete(self._key(name))
                self._note(name, None)
        elif name.startswith(f"{LOGS}/"):  # may be big, and no attempt writes another's
            self._store.put(self._key(name), path)
            self._note(name, _Entry(seen=seen))
        else:
            data = path.read_bytes()
            if name.endswith(".jsonl"):
                data = data[: data.rfind(b"\n") + 1]  # a row that is being written is none yet
            self._swap(name, data, seen)

    def _swap(self, name: str, data: bytes, seen: tuple[int, int, int] | None) -> None:
        """Replace nothing but what this host has published before."""
        known, key, sent = self._known.get(name, _Entry()), self._key(name), _digest(data)
        known = _Entry(etag=known.etag, sent=tuple(dict.fromkeys((sent, *known.sent))))
        self._note(name, known)
        etag = known.etag
        for _ in range(ATTEMPTS):
            with suppress(ConflictError):
                swapped = self._store.swap(key, data, etag) if etag else None
                new = swapped or self._store.create(key, data)
                self._note(name, _Entry(seen=seen, etag=new, sent=(sent,)))
                return
            stored = self._store.get(key)
            if stored is not None and not _goes_on(name, data, stored, known):
                raise PublishedByAnotherError(f"{key} was written by another host meanwhile")
            etag = stored.etag if stored else None
        raise StoreUnreachableError(f"{key} is changed by others all the time")

    def _note(self, name: str, entry: _Entry | None) -> None:
        if entry is None:
            self._known.pop(name, None)
        else:
            self._known[name] = entry
        _write(self._folder / PUBLISHED, _STATE.dump_json(self._known))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"


def _goes_on(name: str, here: bytes, stored: Stored, known: _Entry) -> bool:
    """Whether what is here comes after what is stored: this host wrote both, or added rows."""
    added = name.endswith(".jsonl") and here.startswith(stored.data)
    return added or _digest(stored.data) in known.sent


def _seen(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-new")
    temporary.write_bytes(data)
    temporary.replace(path)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
