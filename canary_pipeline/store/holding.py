"""What a rollout holds while it is worked on: its environment, its folder, and the way to others.

On one machine that is two locks of the kernel's. With a URL for evidence there is the environment's
lease too, and the folder is published as it grows. Both ways into a rollout come through here.
"""

import getpass
import os
import re
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.outside.claim import Claim, lock_folder
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.held_lease import RETRY_SECONDS, HeldLease, LeaseLostError, acquire
from canary_pipeline.outside.lease import LeaseUnreadableError
from canary_pipeline.outside.object_store import ObjectStore, StoreUnreachableError
from canary_pipeline.outside.open_store import open_store
from canary_pipeline.outside.stop import StoppedError
from canary_pipeline.store.journal import Journal, Owed
from canary_pipeline.store.layout import LOGS
from canary_pipeline.store.published import (
    Published,
    PublishedByAnotherError,
    published_rollouts,
    rollout_prefix,
)

PUBLISH_SECONDS = 5.0
"""How often it is looked whether something is not published yet; what is written is at once."""

LOG_RESTS_SECONDS = 10.0
"""A log that was not written to for so long is published although its command goes on."""


class LostError(StoppedError):
    """The environment may be another's by now: nothing is done to it, and nothing published."""


class Holding:
    """One environment, held by this process; use it as a context manager, again and again.

    One that was never entered holds nothing, and stands in nobody's way.
    """

    def __init__(
        self, environment: str, url: str | None = None, holder: Mapping[str, str] | None = None
    ) -> None:
        """Name what is to be held; nothing is yet.

        Args:
            environment: Such as `staging`.
            url: Where every host finds the evidence; None where only this one does.
            holder: What a refused rollout is told.
        """
        self.environment = environment
        self.folder: Path | None = None
        self._url, self._holder = url, dict(holder or {})
        self._store: ObjectStore | None = None
        self._claims: list[Claim] = []
        self._lease: HeldLease | None = None
        self._published: Published | None = None
        self._gone = self._lost = ""
        self._depth, self._stack = 0, ExitStack()
        self._over, self._changed = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        """Hold the environment: the store first, since nothing is to begin that cannot be seen.

        Raises:
            StoreUnusableError: When the store cannot be used as it is configured.
            StoreUnreachableError: When it does not answer.
            EnvironmentTakenError: When somebody else holds the environment, on any host.
            ClaimUnusableError: When the lock file cannot be used.
            LeaseUnreadableError: When nobody can say who holds it.
        """
        self._depth += 1
        if self._depth > 1:
            return self
        try:
            self._store = open_store(self._url) if self._url else None
            self._claim(Claim(self.environment, self._holder))
            if self._store is not None:
                lease = acquire(self._store, self.environment, self._told())
                self._lease = self._stack.enter_context(lease)
        except BaseException:
            self._depth = 0
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back, once what is here is published as far as that can be."""
        self._depth -= 1
        if self._depth == 0:
            with suppress(OSError, LostError):
                self.publish()
            self._over.set()
            self._changed.set()
            self._stack.close()

    def work_in(self, folder: Path, *, new: bool = False) -> None:
        """Hold a rollout's folder too, and bring it up to what is published of it.

        Args:
            folder: The rollout's folder.
            new: Whether the rollout was opened just now, so that nothing can be published of it.

        Raises:
            EnvironmentTakenError: When somebody works in it.
            ClaimUnusableError: When its lock file cannot be used.
            StoreUnreachableError: When what is published cannot be read.
            LostError: When the environment is another's by now.
        """
        if self._depth == 0 or self.folder == folder:
            return
        self._claim(lock_folder(folder, self._holder))
        self.folder = folder
        if self._store is not None:
            prefix = rollout_prefix(self.environment, folder.name)
            self._published = Published(folder, self._store, prefix)
            if not new:
                self._published.fetch()
            self.describe(self._holder)
            self.publish()
            threading.Thread(target=self._keep_published, name="publish", daemon=True).start()

    def beside(self, folder: Path) -> "Holding":
        """What it takes to change another rollout's folder too, brought up to what is published.

        Raises:
            OSError: When the folder cannot be written.
            StoreUnreachableError: When what is published cannot be read.
        """
        other = Holding(self.environment)
        if self._store is not None:
            folder.mkdir(exist_ok=True)
            other.folder, other._claims, other._lease = folder, self._claims, self._lease
            prefix = rollout_prefix(self.environment, folder.name)
            other._published = Published(folder, self._store, prefix)
            other._published.fetch()
        return other

    def describe(self, holder: Mapping[str, str]) -> None:
        """Replace what a refused rollout is told."""
        self._holder = dict(holder)
        for claim in self._claims:
            claim.describe(holder)
        if self._lease is not None:
            with suppress(StoreUnreachableError, LeaseLostError, LeaseUnreadableError):
                self._lease.describe(self._told())

    # -- whether it is still held -------------------------------------------------------------

    @property
    def token(self) -> int | None:
        """Grows with every holder of the environment; None on one machine."""
        return self._lease.token if self._lease else None

    def why_stop(self) -> str | None:
        """Why whatever waits is not to go on, or None; asked several times a second."""
        if not self._gone and not all(claim.still_held() for claim in self._claims):
            self._gone = "a lock file of this rollout was taken away: another may have begun"
        asked = self._lease.stop_requested if self._lease else None
        return self.lost() or self._gone or (f"{asked} asked for it" if asked else None)

    def lost(self) -> str | None:
        """Why staging may be another rollout's by now, or None.

        A lock file that was taken away is locked again, where nobody else has done so.
        """
        if not self._lost and self._lease is not None:
            try:
                self._lease.check()
            except LeaseLostError as error:
                self._lost = str(error)
        if not self._lost and not all(claim.hold_again() for claim in self._claims):
            self._lost = f"another rollout of {self.environment} has begun on this host"
        return self._lost or None

    def confirm(self) -> None:
        """Make sure, at once before it, that something may begin that must not be done twice.

        Raises:
            LostError: When the environment is, or may be, another's.
        """
        self._require()
        if self._lease is not None:
            with self._losing():
                self._lease.confirm()

    def _require(self) -> None:
        if (why := self.lost()) is not None:
            raise LostError(why)

    # -- what is owed -------------------------------------------------------------------------

    def owe(self, owed: dict[str, Any] | None) -> None:
        """Let every host know what is left live if this process dies; None once it is settled.

        Raises:
            LostError: When the environment is, or may be, another's.
        """
        while self._lease is not None:
            with suppress(StoreUnreachableError), self._losing():
                self._lease.owe(owed)
                return
            time.sleep(RETRY_SECONDS)

    @property
    def owed(self) -> Owed | None:
        """What this rollout, or a dead one before it, has left live, as every host knows it."""
        if self._lease is None or self._lease.owed is None or self.folder is None:
            return None
        owed = Owed.model_validate(self._lease.owed)
        return owed.model_copy(update={"folder": self.folder.with_name(owed.folder.name)})

    @property
    def is_shared(self) -> bool:
        """Whether other hosts see what is held and written."""
        return self._lease is not None

    # -- publishing ---------------------------------------------------------------------------

    def written(self) -> None:
        """Have what was written published soon, without waiting for it."""
        self._changed.set()

    def publish(self) -> bool:
        """Publish everything that is pending; returns whether all of it is.

        Raises:
            LostError: When the environment is, or may be, another's.
        """
        if self._published is None:
            return True
        with self._losing():
            return self._published.publish_all()

    def conclude(self, name: str, data: bytes) -> bool:
        """Publish a file that concludes, then write it here: nothing is decided unseen.

        Returns:
            Whether that was done; on one machine nothing is.

        Raises:
            LostError: When it cannot be published before the lease is cut off.
        """
        while self._published is not None:
            self.confirm()
            with self._losing():
                if self._published.put(name, data):
                    return True
            time.sleep(RETRY_SECONDS)
        return False

    def newer_than(self, folder: Path) -> Path | None:
        """The published rollout that was opened after this one, by their usual names, or None.

        Raises:
            StoreUnreachableError: When the store does not answer.
        """
        usual = re.compile(f"{re.escape(self.environment)}-[0-9]{{8}}T[0-9]{{6}}Z")
        if self._store is None or not usual.fullmatch(folder.name):
            return None
        pages = published_rollouts(self._store, self.environment)
        newest = next((name for page in pages for name in page if usual.fullmatch(name)), "")
        return folder.with_name(newest) if newest > folder.name else None

    def _keep_published(self) -> None:
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
        if self._published is None or self.folder is None or self._over.is_set():
            return True
        since = time.time() - LOG_RESTS_SECONDS
        growing = {
            f"{LOGS}/{log.name}"
            for log in (self.folder / LOGS).glob("*")
            if log.stat().st_mtime > since
        }
        with self._losing():
            names = self._published.pending()
            return self._published.publish(name for name in names if name not in growing)

    def _losing(self) -> "_Losing":
        self._require()
        return _Losing(self)

    def lose(self, why: str) -> None:
        """From now on nothing more is done to the environment."""
        self._lost = self._lost or why

    def _claim(self, claim: Claim) -> None:
        self._claims.append(self._stack.enter_context(claim))

    def _told(self) -> dict[str, str]:
        """What a rollout that is refused on another host is told."""
        told = {"since": rfc3339(SystemClock().now()), **self._holder}
        with suppress(KeyError, OSError):
            told["user"] = getpass.getuser()
        rollout = {"rollout": self.folder.name} if self.folder else {}
        return {**told, "host": socket.gethostname(), "pid": str(os.getpid()), **rollout}


class _Losing:
    """Turns what says that the environment is another's into one error, and remembers it."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (LeaseLostError, LeaseUnreadableError, PublishedByAnotherError)):
            self._holding.lose(str(error))
            raise LostError(str(error)) from None


def owed_in(environment: str, holding: Holding) -> Owed | None:
    """What is left live in an environment, as this host knows it, or all hosts where they do."""
    return holding.owed if holding.is_shared else Journal(environment).read().owed


NOTHING = Holding("")
"""What is held by whoever only reads."""
