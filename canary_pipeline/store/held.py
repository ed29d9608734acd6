"""Whether an environment is still held: its locks of the kernel's, and its lease if it has one.

What is held may be lost at any moment, to another host or to whoever cleans a folder. Whoever acts
on staging asks here at once before it; whoever waits, several times a second.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from canary_pipeline.outside.claim import Claim
from canary_pipeline.outside.held_lease import RETRY_SECONDS, HeldLease, LeaseLostError
from canary_pipeline.outside.object_store import StoreUnreachableError
from canary_pipeline.outside.stop import StoppedError
from canary_pipeline.store.published import PublishedByAnotherError


class LostError(StoppedError):
    """The environment may be another's by now: nothing is done to it, and nothing published."""


class Held:
    """What is held of one environment, which may be nothing.

    Attributes:
        environment: Such as `staging`.
        claims: Locks of this host's, on the environment and on the rollout's folder.
        lease: What other hosts see of it; None on one machine.
    """

    def __init__(self, environment: str) -> None:
        """Name the environment; nothing of it is held yet."""
        self.environment = environment
        self.claims: list[Claim] = []
        self.lease: HeldLease | None = None
        self._gone = self._lost = ""

    @property
    def token(self) -> int | None:
        """Grows with every holder of the environment; None on one machine."""
        return self.lease.token if self.lease else None

    @property
    def is_shared(self) -> bool:
        """Whether other hosts see what is held and written."""
        return self.lease is not None

    def why_stop(self) -> str | None:
        """Why whatever waits is not to go on, or None; asked several times a second."""
        if not self._gone and not all(claim.still_held() for claim in self.claims):
            self._gone = "a lock file of this rollout was taken away: another may have begun"
        asked = self.lease.stop_requested if self.lease else None
        return self.lost() or self._gone or (f"{asked} asked for it" if asked else None)

    def lost(self) -> str | None:
        """Why staging may be another rollout's by now, or None.

        A lock file that was taken away is locked again, where nobody else has done so.
        """
        if not self._lost and self.lease is not None:
            try:
                self.lease.check()
            except LeaseLostError as error:
                self._lost = str(error)
        if not self._lost and not all(claim.hold_again() for claim in self.claims):
            self._lost = f"another rollout of {self.environment} has begun on this host"
        return self._lost or None

    def confirm(self) -> None:
        """Make sure, at once before it, that something may begin that must not be done twice.

        Raises:
            LostError: When the environment is, or may be, another's.
        """
        with self.losing():
            if self.lease is not None:
                self.lease.confirm()

    def owe(self, owed: dict[str, Any] | None) -> None:
        """Let every host know what is left live if this process dies; None once it is settled.

        Raises:
            LostError: When the environment is, or may be, another's.
        """
        while self.lease is not None:
            with suppress(StoreUnreachableError), self.losing():
                self.lease.owe(owed)
                return
            time.sleep(RETRY_SECONDS)

    @contextmanager
    def losing(self) -> Iterator[None]:
        """Turn what says that the environment is another's into one error, and remember it.

        Raises:
            LostError: When the environment is, or may be, another's, before the body or in it.
        """
        if (why := self.lost()) is not None:
            raise LostError(why)
        try:
            yield
        except (LeaseLostError, PublishedByAnotherError) as error:
            self._lost = self._lost or str(error)
            raise LostError(str(error)) from None
