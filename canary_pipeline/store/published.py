"""A rollout's folder as other hosts see it: published to an object store as it grows.

Work is done in the local folder. What cannot be published now is `pending`, and is published with
the next call; nothing that concludes is published before all that it rests on.
"""

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from canary_pipeline.outside.object_store import (
    ConflictError,
    ObjectStore,
    Stored,
    StoreUnreachableError,
)
from canary_pipeline.store.known import Entry, Known, Seen, digest, seen_at, write
from canary_pipeline.store.layout import DECISION, HEADER, SIGNATURE, SUMMARY, UNPUBLISHED
from canary_pipeline.store.order import (
    CONCLUDING,
    is_evidence,
    is_log,
    names_in,
    order,
    passes,
    rests_on,
)
from canary_pipeline.store.writing import write_whole

ATTEMPTS = 5

PATIENCE_SECONDS = 5.0
"""How long files that cannot be published may take before the others are left for later: a store
that has no room for one says so at once, and one that is away may let each wait for a timeout."""


class PublishedByAnotherError(Exception):
    """Another host has gone on with this rollout: what is here must not be written over it."""


class Published:
    """One rollout's folder and its objects."""

    def __init__(self, folder: Path, store: ObjectStore, prefix: str) -> None:
        """Connect a rollout's folder with its objects, by `rollout_prefix`."""
        self._folder, self._store, self._prefix = folder, store, prefix
        self._guard = threading.RLock()
        self._known = Known(folder)

    def pending(self) -> list[str]:
        """The files that are not published as they are now, in the order of publishing."""
        here = {name: seen_at(self._folder / name) for name in names_in(self._folder)}
        with self._guard:
            known = {name: self._known.of(name).seen for name in self._known}
        changed = {name for name, seen in here.items() if known.get(name) != seen}
        ended = {name for name in known if passes(name) and name not in here}
        return sorted(changed | ended, key=order)

    def publish_all(self) -> bool:
        """Publish everything that is pending; otherwise like `publish`."""
        return self.publish(self.pending())

    def publish(self, names: Iterable[str]) -> bool:
        """Publish some files by their names in the folder; with what concludes, all the others.

        Returns:
            Whether they are published; if not, the store is away or has no room, and what is not
            published stays pending.

        Raises:
            OSError: When the folder cannot be read or written.
            PublishedByAnotherError: When another host has gone on with the rollout.
        """
        wanted = set(names)
        if wanted & {*CONCLUDING}:
            wanted |= {name for name in self.pending() if name not in CONCLUDING}
        with self._guard:
            return self._publish_each(sorted(wanted, key=order))

    def _publish_each(self, names: Iterable[str]) -> bool:
        """Publish files in their order; one that cannot be keeps back only what rests on it."""
        failed: list[str] = []
        patience = PATIENCE_SECONDS
        for name in names:
            began = time.monotonic()
            try:
                if not any(rests_on(name, other) for other in failed):
                    self._publish(name)
            except StoreUnreachableError:
                failed.append(name)
                patience -= time.monotonic() - began
                if patience < 0:
                    break
        return not failed

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
            published = {"seen": seen_at(self._folder / name)}
            self._known.note(name, self._known.of(name).model_copy(update=published))
        return True

    def is_current(self) -> bool:
        """Whether what is here says of the last attempt, and of the decision, what is published.

        Raises:
            StoreUnreachableError: When the store does not answer.
        """
        # Older versions kept a log that they had fetched half, and took it for their own.
        if any(self._known.of(name).seen is None for name in self._known if is_log(name)):
            return False
        for name in (HEADER, SUMMARY):
            stored, known = self._store.get(self._key(name)), self._known.of(name)
            now = seen_at(self._folder / name)
            if stored is None or (stored.etag, now) != (known.etag, known.seen):
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
            for name in self._known:
                if passes(name) and name not in names:
                    (self._folder / name).unlink(missing_ok=True)
                    self._known.note(name, None)
        return names

    def _bring(self, name: str, stored: Stored) -> None:
        path, known = self._folder / name, self._known.of(name)
        here, now = path.read_bytes() if path.exists() else None, seen_at(path)
        if here is not None and here != stored.data:
            if known.goes_on(name, here, now, stored.data):
                before = None if known.seen == now else known.seen
                self._known.note(name, Entry(seen=before, etag=stored.etag, sent=known.sent))
                return
            if known.seen != now and not stored.data.startswith(here):
                write(self._folder / UNPUBLISHED / name, here)
        if here != stored.data:
            write(path, stored.data)
        entry = Entry(seen=seen_at(path), etag=stored.etag, sent=(digest(stored.data),))
        self._known.note(name, entry)

    def _publish(self, name: str) -> None:
        path = self._folder / name
        seen = seen_at(path)
        if seen is not None and is_log(name):  # may be big, and no attempt writes another's
            self._store.put(self._key(name), path)
            self._known.note(name, Entry(seen=seen))
            return
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # also a step that has ended since, in another thread
            if passes(name) and name in self._known:
                self._store.delete(self._key(name))
                self._known.note(name, None)
            return
        if name.endswith(".jsonl"):
            data = data[: data.rfind(b"\n") + 1]  # a row that is being written is none yet
        self._swap(name, data, seen)

    def _swap(self, name: str, data: bytes, seen: Seen | None) -> None:
        """Replace nothing but what this host has published before."""
        known, key, sent = self._known.of(name), self._key(name), digest(data)
        known = Entry(etag=known.etag, sent=tuple(dict.fromkeys((sent, *known.sent))))
        self._known.note(name, known)
        etag = known.etag
        for _ in range(ATTEMPTS):
            with suppress(ConflictError):
                swapped = self._store.swap(key, data, etag) if etag else None
                new = swapped or self._store.create(key, data)
                self._known.note(name, Entry(seen=seen, etag=new, sent=(sent,)))
                return
            stored = self._store.get(key)
            if stored is not None and not known.goes_on(name, data, seen, stored.data):
                raise PublishedByAnotherError(f"{key} was written by another host meanwhile")
            etag = stored.etag if stored else None
        raise StoreUnreachableError(f"{key} is changed by others all the time")

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"
