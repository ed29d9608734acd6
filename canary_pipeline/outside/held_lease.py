"""Holding an environment's lease: taking it, renewing it, and knowing when it may be lost."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self
from uuid import uuid4

from canary_pipeline.outside.claim import EnvironmentTakenError
from canary_pipeline.outside.lease import (
    ATTEMPTS,
    CUT_OFF_SECONDS,
    RENEW_SECONDS,
    Lease,
    LeaseUnreadableError,
    Standing,
    age,
    in_holder_words,
    lease_key,
    may_be_taken,
    read_lease,
    standing,
)
from canary_pipeline.outside.object_store import ConflictError, ObjectStore, StoreUnreachableError

RETRY_SECONDS = 2


class LeaseLostError(Exception):
    """The environment is, or may be, another's by now: nothing more may be done to it."""


def elapsed() -> float:
    """Seconds that go on while the host sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class HeldLease:
    """A lease that this process holds; as a context manager it is renewed by a thread.

    Attributes:
        token: To be put into attempts and rows; staging's commands get it too.
    """

    def __init__(
        self,
        store: ObjectStore,
        environment: str,
        lease: Lease,
        etag: str,
        sent_at: float,
        *,
        now: Callable[[], float],
    ) -> None:
        """Hold what `acquire` has written.

        Args:
            store: Where it is.
            environment: Whose it is.
            lease: What was written last.
            etag: The ETag of that.
            sent_at: When that was sent, by `now`: an answer may come late.
            now: Seconds that only grow.
        """
        self._store, self._environment, self._now = store, environment, now
        self._lease, self._etag, self._renewed_at = lease, etag, sent_at
        self._lost = ""
        self._guard, self._over = threading.Lock(), threading.Event()
        self.token = lease.token

    def __enter__(self) -> Self:
        """Renew it from now on."""
        threading.Thread(target=self._keep, name="lease", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let others have it at once; where the store is away, they have it when it ends."""
        self._over.set()
        with suppress(StoreUnreachableError, LeaseLostError), self._alone():
            self._write(released=True, stop=None)
        self._lost = self._lost or "was given back"

    @property
    def stop_requested(self) -> str | None:
        """Who had asked this rollout to stop when it was renewed last."""
        return self._lease.stop

    @property
    def owed(self) -> dict[str, Any] | None:
        """What this rollout, or a dead one before it, has left live."""
        return self._lease.owed

    def describe(self, holder: Mapping[str, str]) -> None:
        """Replace what a refused rollout is told.

        Raises:
            LeaseLostError: When the lease is lost.
            StoreUnreachableError: When it cannot be written now.
        """
        self._renew(holder=dict(holder))

    def owe(self, owed: dict[str, Any] | None) -> None:
        """Note what is left live if this process dies, before it is; None once it is settled.

        Raises:
            LeaseLostError: When the lease is lost.
            StoreUnreachableError: When it cannot be noted now.
        """
        self._renew(owed=owed)

    def check(self) -> None:
        """Make sure that gates and soaks may go on; asks nobody, so it can be done often.

        Raises:
            LeaseLostError: When it was cut off, or another host has it.
        """
        if not self._lost and self._standing() == "cut off":
            self._lost = f"was not renewed for {CUT_OFF_SECONDS} s"
        if self._lost:
            raise LeaseLostError(
                f"the lease of {self._environment} (token {self.token}) {self._lost}"
            )

    def confirm(self, wait: Callable[[float], object] = time.sleep) -> None:
        """Make sure, at once before it, that something may begin that must not be done twice.

        Raises:
            LeaseLostError: When it cannot be confirmed before the lease is cut off.
        """
        self.check()
        while self._standing() != "confirmed":
            try:
                self._renew()
            except StoreUnreachableError:
                wait(RETRY_SECONDS)
            self.check()

    def renew(self) -> float:
        """Renew it once; returns after how many seconds to do so again.

        Raises:
            LeaseLostError: When it is lost.
        """
        try:
            self._renew()
        except StoreUnreachableError:
            return RETRY_SECONDS
        return RENEW_SECONDS

    def _keep(self) -> None:
        pause: float = RENEW_SECONDS
        with suppress(LeaseLostError):
            while not self._over.wait(pause):
                pause = self.renew()

    def _standing(self) -> Standing:
        return standing(self._now() - self._renewed_at)

    def _renew(self, **changes: Any) -> None:
        with self._alone():
            self.check()
            sent_at = self._now()
            self._write(**changes)
            self._renewed_at = sent_at

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Write while no other thread does; one may hang in a share that is away."""
        if not self._guard.acquire(timeout=RENEW_SECONDS):
            raise StoreUnreachableError("the evidence store does not answer")
        try:
            yield
        finally:
            self._guard.release()

    def _write(self, **changes: Any) -> None:
        """Swap the lease; a stop request or a lost answer may have changed it without harm."""
        for _ in range(ATTEMPTS):
            lease = self._lease.model_copy(update=changes)
            try:
                self._etag = self._store.swap(
                    lease_key(self._environment), lease.data(), self._etag
                )
            except ConflictError:
                self._look_again()
            else:
                self._lease = lease
                return
        raise StoreUnreachableError("the lease is changed by others all the time")

    def _look_again(self) -> None:
        """Go by what is there now, if it is still this holder's."""
        try:
            found = read_lease(self._store, self._environment)
        except LeaseUnreadableError as error:
            lost = f"cannot be read: {error}"
        else:
            if found and found.lease.owner == self._lease.owner and not found.lease.released:
                self._lease, self._etag = found.lease, found.etag
                return
            lost = "was taken away" if found else "is gone"
        self._lost = self._lost or lost
        self.check()


def acquire(
    store: ObjectStore,
    environment: str,
    holder: Mapping[str, str],
    now: Callable[[], float] = elapsed,
    *,
    killed: str = "",
) -> HeldLease:
    """Take an environment's lease.

    Args:
        store: Where leases are kept.
        environment: Such as `staging`.
        holder: `rollout`, `run`, `host`, `user`, `launched_by`, `since`: what others are told.
        now: Seconds that only grow.
        killed: `claim.killed_holder`, asked before this process has claimed the environment.

    Raises:
        EnvironmentTakenError: When somebody holds it; the message names them.
        LeaseUnreadableError: When nobody can say.
        StoreUnreachableError: When the store does not answer.
    """
    lease = Lease(token=1, owner=str(uuid4()), holder=dict(holder))
    sent_at = now()
    for _ in range(ATTEMPTS):
        found = read_lease(store, environment)
        if found and found.lease.owner == lease.owner:  # written, though the answer said no
            return HeldLease(store, environment, lease, found.etag, sent_at, now=now)
        if found:
            seconds = age(store, found)
            if not may_be_taken(found.lease, seconds, killed):
                raise EnvironmentTakenError(environment, in_holder_words(found.lease, seconds))
            after = {"token": found.lease.token + 1, "owed": found.lease.owed}
            lease = lease.model_copy(update=after)
        sent_at, key = now(), lease_key(environment)
        with suppress(ConflictError):
            data = lease.data()
            etag = store.swap(key, data, found.etag) if found else store.create(key, data)
            return HeldLease(store, environment, lease, etag, sent_at, now=now)
    raise StoreUnreachableError(f"the lease of {environment} is changed by others all the time")
