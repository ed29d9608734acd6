"""Publishing a rollout's folder while it is worked on: at once, soon, or before anything else."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from canary_pipeline.outside.held_lease import RETRY_SECONDS, elapsed
from canary_pipeline.outside.lease import CUT_OFF_SECONDS
from canary_pipeline.outside.object_store import ObjectStore
from canary_pipeline.store.held import Held, LostError
from canary_pipeline.store.layout import LOGS
from canary_pipeline.store.listing import rollout_prefix
from canary_pipeline.store.order import CONCLUDING
from canary_pipeline.store.published import Published

PUBLISH_SECONDS = 5.0
"""How often it is looked whether something is not published yet; what is written is at once."""

LOG_RESTS_SECONDS = 10.0
"""A log that was not written to for so long is published although its command goes on."""


class Publishing:
    """The folder of a rollout whose environment is held, and how it gets to other hosts."""

    def __init__(self, folder: Path, store: ObjectStore, held: Held) -> None:
        """Connect a rollout's folder with what is published of it."""
        self._folder, self._held = folder, held
        prefix = rollout_prefix(held.environment, folder.name)
        self._published = Published(folder, store, prefix)
        self._over, self._changed = threading.Event(), threading.Event()

    def fetch(self) -> None:
        """Bring the folder up to what is published of it.

        Raises:
            OSError: When the folder cannot be written.
            StoreUnreachableError: When the store does not answer.
        """
        self._published.fetch()

    def keep(self) -> None:
        """Publish what is written from now on, until the end."""
        threading.Thread(target=self._keep, name="publish", daemon=True).start()

    def end(self) -> None:
        """Begin to publish nothing more by oneself."""
        self._over.set()
        self._changed.set()

    def written(self) -> None:
        """Have what was written published soon, without waiting for it."""
        self._changed.set()

    def publish(self, *names: str) -> bool:
        """Publish some files, or else everything that is pending; returns whether all of it is.

        Raises:
            LostError: When the environment is, or may be, another's.
        """
        with self._held.losing():
            if names:
                return self._published.publish(names)
            return self._published.publish_all()

    def conclude(
        self,
        name: str,
        data: bytes,
        *,
        now: Callable[[], float] = elapsed,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Publish a file that concludes, then write it here: nothing is decided unseen.

        A store that has no room for evidence may still renew the lease, which is small. So it is
        waited for no longer than one that is away; the environment stays held then, and whoever
        rolls back may do so.

        Raises:
            LostError: When it cannot be published before the lease is cut off, or for as long.
        """
        until = now() + CUT_OFF_SECONDS
        while True:
            self._held.confirm()
            with self._held.losing():
                if self._published.put(name, data):
                    return
            if now() >= until:
                raise LostError(self._why_unseen(name))
            wait(RETRY_SECONDS)

    def _why_unseen(self, name: str) -> str:
        waiting = [other for other in self._published.pending() if other not in CONCLUDING]
        return (
            f"the evidence store has not taken {', '.join(waiting[:3]) or name} for "
            f"{CUT_OFF_SECONDS} s (is it full?), although {self._held.environment} is still held"
        )

    def _keep(self) -> None:
        while not self._over.is_set():
            self._changed.wait(PUBLISH_SECONDS)
            self._changed.clear()
            try:
                published = self._publish_what_rests()
            except (LostError, OSError):  # whoever waits will see it
                published = False
            if not published:
                self._over.wait(RETRY_SECONDS)

    def _publish_what_rests(self) -> bool:
        """Everything but logs that grow: each is published as its command ends."""
        if self._over.is_set():
            return True
        since = time.time() - LOG_RESTS_SECONDS
        growing = {
            f"{LOGS}/{log.name}"
            for log in (self._folder / LOGS).glob("*")
            if log.stat().st_mtime > since
        }
        with self._held.losing():
            names = self._published.pending()
            return self._published.publish(name for name in names if name not in growing)
