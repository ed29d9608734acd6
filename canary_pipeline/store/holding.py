"""What a rollout holds while it is worked on: its environment, its folder, and the way to others.

On one machine that is two locks of the kernel's. With a URL for evidence there is the environment's
lease too, and the folder is published as it grows. Both ways into a rollout come through here.
"""

import getpass
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from canary_pipeline.model.moment import rfc3339
from canary_pipeline.outside.claim import (
    PROCESS,
    READER,
    Claim,
    EnvironmentTakenError,
    killed_holder,
    lock_folder,
)
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.held_lease import LeaseLostError, acquire
from canary_pipeline.outside.object_store import ObjectStore, StoreUnreachableError
from canary_pipeline.outside.open_store import open_store
from canary_pipeline.outside.process_identity import this_process
from canary_pipeline.store.held import Held, LostError
from canary_pipeline.store.journal import Journal, Owed
from canary_pipeline.store.listing import newer_than, rollout_prefix
from canary_pipeline.store.publishing import Publishing

READER_SECONDS = 20.0
"""How long a reader of a rollout's folder is waited for: it brings there what is published."""


class Holding(Held):
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
        super().__init__(environment)
        self.folder: Path | None = None
        self._url, self._holder = url, dict(holder or {})
        self._store: ObjectStore | None = None
        self._publishing: Publishing | None = None
        self._depth, self._stack = 0, ExitStack()

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
        self._gone = self._lost = ""
        try:
            self._store = open_store(self._url) if self._url else None
            killed = killed_holder(self.environment)
            self._claim(Claim(self.environment, self._holder))
            if self._store is not None:
                lease = acquire(self._store, self.environment, self._told(), killed=killed)
                self.lease = self._stack.enter_context(lease)
        except BaseException:
            self._depth = 0
            self._let_go()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back, once what is here is published as far as that can be."""
        self._depth -= 1
        if self._depth == 0:
            with suppress(OSError, LostError):
                self.publish()
            if self._publishing is not None:
                self._publishing.end()
            self._let_go()

    def _let_go(self) -> None:
        """Hold nothing of this host any more; the lease stays, and says that it was given back."""
        self.folder = self._publishing = None
        self.claims.clear()
        self._stack.close()

    def work_in(
        self,
        folder: Path,
        *,
        new: bool = False,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """Hold a rollout's folder too, and bring it up to what is published of it.

        Args:
            folder: The rollout's folder.
            new: Whether the rollout was opened just now, so that nothing can be published of it.
            wait: Waits for a reader that brings the folder here.

        Raises:
            EnvironmentTakenError: When somebody works in it.
            ClaimUnusableError: When its lock file cannot be used.
            StoreUnreachableError: When what is published cannot be read.
            LostError: When the environment is another's by now.
        """
        if self._depth == 0 or self.folder == folder:
            return
        until = time.monotonic() + READER_SECONDS
        while not self._claim_beside_readers(folder, wait_longer=time.monotonic() < until):
            wait(0.1)
        self.folder = folder
        if self._store is not None:
            self._publishing = Publishing(folder, self._store, self)
            if not new:
                self._publishing.fetch()
            self.describe(self._holder)
            self.publish()
            self._publishing.keep()

    def beside(self, folder: Path) -> "Holding":
        """What it takes to change another rollout's folder too, brought up to what is published.

        Raises:
            OSError: When the folder cannot be written.
            StoreUnreachableError: When what is published cannot be read.
        """
        other = Holding(self.environment)
        if self._store is not None:
            folder.mkdir(exist_ok=True)
            other.folder, other.claims, other.lease = folder, self.claims, self.lease
            other._publishing = Publishing(folder, self._store, other)
            other._publishing.fetch()
        return other

    def describe(self, holder: Mapping[str, str]) -> None:
        """Replace what a refused rollout is told."""
        self._holder = dict(holder)
        for claim in self.claims:
            claim.describe(holder)
        if self.lease is not None:
            with suppress(StoreUnreachableError, LeaseLostError):
                self.lease.describe(self._told())

    @property
    def owed(self) -> Owed | None:
        """What this rollout, or a dead one before it, has left live, as every host knows it."""
        if self.lease is None or self.lease.owed is None or self.folder is None:
            return None
        owed = Owed.model_validate(self.lease.owed)
        return owed.model_copy(update={"folder": self.folder.with_name(owed.folder.name)})

    def written(self) -> None:
        """Have what was written published soon, without waiting for it."""
        if self._publishing is not None:
            self._publishing.written()

    def publish(self, *names: str) -> bool:
        """Publish some files, or else everything that is pending; returns whether all of it is.

        Raises:
            LostError: When the environment is, or may be, another's.
        """
        return self._publishing is None or self._publishing.publish(*names)

    def conclude(self, name: str, data: bytes) -> bool:
        """Publish a file that concludes, then write it here: nothing is decided unseen.

        Returns:
            Whether that was done; on one machine nothing is.

        Raises:
            LostError: When it cannot be published before the lease is cut off.
        """
        if self._publishing is None:
            self.confirm()
            return False
        self._publishing.conclude(name, data)
        return True

    def is_published(self, name: str) -> bool:
        """Whether any host has published something of a rollout with a folder of this name.

        Raises:
            StoreUnreachableError: When the store does not answer.
        """
        prefix = rollout_prefix(self.environment, name)
        return self._store is not None and any(self._store.keys(prefix))

    def newer_than(self, folder: Path) -> Path | None:
        """The published rollout that was opened after this one, by their usual names, or None.

        Raises:
            StoreUnreachableError: When the store does not answer.
        """
        if self._store is None:
            return None
        name = newer_than(self._store, self.environment, folder.name)
        return folder.with_name(name) if name else None

    def _claim(self, claim: Claim) -> None:
        self.claims.append(self._stack.enter_context(claim))

    def _claim_beside_readers(self, folder: Path, *, wait_longer: bool) -> bool:
        """Claim a rollout's folder; returns false where a reader has it, which may be waited for.

        Who has said nothing yet may be one: it locks the folder first.
        """
        try:
            self._claim(lock_folder(folder, self._holder))
        except EnvironmentTakenError as error:
            is_reader = not error.holder or error.holder.items() >= READER.items()
            if not (is_reader and wait_longer):
                raise
            return False
        return True

    def _told(self) -> dict[str, str]:
        """What a rollout that is refused on another host is told."""
        told = {"since": rfc3339(SystemClock().now()), **self._holder}
        with suppress(KeyError, OSError):
            told["user"] = getpass.getuser()
        rollout = {"rollout": self.folder.name} if self.folder else {}
        process = {"pid": str(os.getpid()), PROCESS: this_process()}
        return {**told, "host": socket.gethostname(), **process, **rollout}


def owed_in(environment: str, holding: Holding) -> Owed | None:
    """What is left live in an environment, as this host knows it, or all hosts where they do."""
    return holding.owed if holding.is_shared else Journal(environment).read().owed


NOTHING = Holding("")
"""What is held by whoever only reads."""
