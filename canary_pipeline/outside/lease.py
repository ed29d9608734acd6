"""The lease of an environment: what it says, whose turn it is, and what others may ask of it.

It is an object beside the evidence that is only ever swapped. Its holder writes it anew every
20 s; who has not done so for 120 s by the store's clock may be succeeded; the token only grows.
Staging itself knows no tokens, so nothing begins there that was not confirmed just before.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from canary_pipeline.outside.claim import PROCESS, in_words, killed_holder
from canary_pipeline.outside.object_store import ConflictError, ObjectStore, StoreUnreachableError

RENEW_SECONDS = 20
CUT_OFF_SECONDS = 90
EXPIRY_SECONDS = 120
LAST_GRACE_SECONDS = EXPIRY_SECONDS - CUT_OFF_SECONDS - 10
"""What a command is given to end once the environment may be another's: before anybody else can
begin, it must have been noticed, and the command killed."""

RELEASE_SECONDS = RENEW_SECONDS + LAST_GRACE_SECONDS + 5
"""How long after a renewal what a holder runs may go on, once its lease was taken away: until the
next renewal, and then for its last grace."""

ATTEMPTS = 5
"""How often a swap is tried when others' come first."""

UNKNOWN = "unknown"
"""What a holder that has not said so yet works on."""

REPLACED = (
    "do not delete it, since its token would begin anew with 1. Once nobody does, replace it by "
    '{"token": N, "owner": "nobody", "holder": {}, "released": true}, '
    "where N is higher than every claim_token in the environment's rollouts"
)
"""How to mend a lease that cannot be read; rows of a lower token than before are ignored."""

Standing = Literal["confirmed", "to renew", "cut off"]


class LeaseChangedError(Exception):
    """The lease is not as somebody who is not its holder believed; the message says how it is."""


class LeaseUnreadableError(Exception):
    """What is kept as the lease is none, so nobody can tell whose turn it is."""


class Lease(BaseModel):
    """What an environment's lease says; every write says it with another nonce.

    Attributes:
        token: Grows by one with every holder.
        owner: A name that no other holder has.
        holder: `rollout`, `run`, `host`, `user`, `launched_by`, `since`; for people. And which
            `process` it is, for the same host.
        released: Whether anybody may take it at once.
        stop: Who asks the holder to stop.
        owed: What a rollout that died has left live; handed on until somebody settles it.
        nonce: Makes the bytes, and so the ETag, of every write its own.
    """

    model_config = ConfigDict(frozen=True)

    token: int = Field(ge=1)
    owner: str
    holder: dict[str, str]
    released: bool = False
    stop: str | None = None
    owed: dict[str, Any] | None = None
    nonce: str = ""

    def data(self) -> bytes:
        """Its bytes as they are written; no other write has the same."""
        return self.model_copy(update={"nonce": str(uuid4())}).model_dump_json().encode()


def standing(since_renewed: float) -> Standing:
    """What a holder may do, so many seconds after the last renewal that succeeded was sent.

    | seconds | |
    | --- | --- |
    | up to 20 | `confirmed`: apply, roll back, write rows, the summary, a notice |
    | below 90 | `to renew` before any of these; gates and soaks go on |
    | from 90 on | `cut off`: nothing at all |
    """
    if since_renewed <= RENEW_SECONDS:
        return "confirmed"
    return "to renew" if since_renewed < CUT_OFF_SECONDS else "cut off"


def may_be_taken(lease: Lease, age: float, killed: str = "") -> bool:
    """Whether a lease is free.

    Args:
        lease: As it was read.
        age: How many seconds ago it was written, by the store's clock.
        killed: `claim.killed_holder`: it need not be waited for.
    """
    was_killed = killed != "" and lease.holder.get(PROCESS) == killed
    return lease.released or was_killed or age > EXPIRY_SECONDS


def lease_key(environment: str) -> str:
    """Where an environment's lease is kept."""
    return f"leases/{environment}.json"


@dataclass(frozen=True)
class Found:
    """A lease as it was read, the name of these bytes, and when they were written."""

    lease: Lease
    etag: str
    modified: datetime


def read_lease(store: ObjectStore, environment: str) -> Found | None:
    """Read an environment's lease, or None where there never was one.

    Raises:
        LeaseUnreadableError: When it is none; the message says how to replace it by hand.
        StoreUnreachableError: When the store does not answer.
    """
    stored = store.get(lease_key(environment))
    if stored is None:
        return None
    try:
        lease = Lease.model_validate_json(stored.data)
    except ValidationError:
        message = f"{lease_key(environment)} is not a lease: nobody can tell who rolls out"
        raise LeaseUnreadableError(f"{message}; {REPLACED}") from None
    return Found(lease, stored.etag, stored.modified)


def age(store: ObjectStore, found: Found) -> float:
    """How long ago a lease was written: seconds until an object that is written just now.

    Raises:
        StoreUnreachableError: When the store does not answer.
    """
    key = f"clock/{uuid4()}"
    store.put(key, b"now")
    try:
        now = store.get(key)
    finally:
        with suppress(StoreUnreachableError):  # some who may write may not delete
            store.delete(key)
    if now is None:
        raise StoreUnreachableError("the evidence store does not keep what is written to it")
    return (now.modified - found.modified).total_seconds()


def in_holder_words(lease: Lease, seconds: float) -> dict[str, str]:
    """Who holds a lease that was written so long ago, as `claim.in_words` shows it."""
    holder = lease.holder
    who = f"{holder.get('user', 'somebody')}@{holder.get('host', 'a host')}"
    run = holder.get("run") or holder.get("rollout", UNKNOWN)
    return {"by": who, "run": run, "last seen": f"{seconds:.0f} s ago", "token": str(lease.token)}


def request_stop(store: ObjectStore, environment: str, who: str) -> None:
    """Ask whoever holds an environment to stop; the holder sees it at the next renewal.

    Nothing is asked of who is silent: it would be a renewal, and keep others waiting.

    Raises:
        LeaseChangedError: When nobody holds it, or its holder may be dead.
        LeaseUnreadableError: When nobody can say.
        StoreUnreachableError: When the store does not answer.
    """
    found = read_lease(store, environment)
    if found is not None and not found.lease.released:
        seconds = age(store, found)
        if may_be_taken(found.lease, seconds, killed_holder(environment)):
            holder = in_words(in_holder_words(found.lease, seconds))
            message = f"the holder of {environment} ({holder}) is silent, and may be dead: "
            raise LeaseChangedError(f"{message}`resume` or `rollback` can take over")

    def asked(lease: Lease) -> Lease:
        if lease.released:
            raise LeaseChangedError(f"no rollout of {environment} is under way")
        return lease.model_copy(update={"stop": who})

    _changed(store, environment, asked)


def release(
    store: ObjectStore,
    environment: str,
    token: int,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Free an environment by force, of the holder with this token and of no other.

    A holder that lives notices at its next renewal, and then ends what it runs: that is waited for.

    Raises:
        LeaseChangedError: When another token holds it, or nobody.
        LeaseUnreadableError: When nobody can say.
        StoreUnreachableError: When the store does not answer.
    """
    nobody = str(uuid4())

    def ours(lease: Lease) -> Lease:
        if lease.released or lease.token != token:
            now = "released" if lease.released else "held"
            message = f"{environment} is {now} with token {lease.token}, not held with {token}"
            raise LeaseChangedError(message)
        return lease.model_copy(update={"owner": nobody, "stop": None})

    before = _changed(store, environment, ours)
    wait(max(0.0, RELEASE_SECONDS - age(store, before)))
    _changed(store, environment, lambda lease: ours(lease).model_copy(update={"released": True}))


def _changed(store: ObjectStore, environment: str, change: Callable[[Lease], Lease]) -> Found:
    for _ in range(ATTEMPTS):
        found = read_lease(store, environment)
        if found is None:
            raise LeaseChangedError(f"no rollout of {environment} was ever under way")
        with suppress(ConflictError):
            store.swap(lease_key(environment), change(found.lease).data(), found.etag)
            return found
    raise StoreUnreachableError(f"{lease_key(environment)} is changed by others all the time")
