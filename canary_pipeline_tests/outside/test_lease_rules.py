"""Whose turn it is, by rules alone, and in a simulated world of hosts that die and pause."""

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary_pipeline.outside import held_lease
from canary_pipeline.outside.claim import EnvironmentTakenError
from canary_pipeline.outside.held_lease import HeldLease, LeaseLostError, acquire
from canary_pipeline.outside.lease import (
    CUT_OFF_SECONDS,
    EXPIRY_SECONDS,
    Lease,
    Standing,
    may_be_taken,
    read_lease,
    standing,
)
from canary_pipeline.outside.object_store import ConflictError, Stored, StoreUnreachableError

LEASE = Lease(token=7, owner="a", holder={})


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "confirmed"),
        (20, "confirmed"),
        (20.1, "to renew"),
        (89.9, "to renew"),
        (90, "cut off"),
        (1e9, "cut off"),
    ],
)
def test_what_a_holder_may_do_depends_on_its_last_renewal(
    seconds: float, expected: Standing
) -> None:
    assert standing(seconds) == expected


@pytest.mark.parametrize(
    ("lease", "age", "free"),
    [
        (LEASE, 0, False),
        (LEASE, 120, False),
        (LEASE, 120.1, True),
        (LEASE, -3600, False),
        (LEASE.model_copy(update={"released": True}), 0, True),
    ],
)
def test_a_lease_is_free_once_released_or_not_renewed_for_two_minutes(
    lease: Lease, age: float, *, free: bool
) -> None:
    assert may_be_taken(lease, age) is free


@given(sent=st.floats(0, 1e6), arrived_later=st.floats(0, 60), asked_later=st.floats(0, 1e4))
def test_nobody_may_begin_anything_once_a_successor_could_have_begun(
    sent: float, arrived_later: float, asked_later: float
) -> None:
    now = sent + asked_later
    if may_be_taken(LEASE, now - (sent + arrived_later)):
        assert standing(now - sent) == "cut off"


def test_no_two_writes_of_a_lease_have_the_same_bytes() -> None:
    assert LEASE.data() != LEASE.data()


@dataclass
class World:
    """Time that passes from event to event, and the objects that all hosts see."""

    chance: random.Random
    now: float = 0.0
    objects: dict[str, tuple[bytes, int, float]] = field(default_factory=dict)
    versions: "Iterator[int]" = field(default_factory=count)
    events: list[tuple[float, int, "Host", Iterator[float]]] = field(default_factory=list)
    order: "Iterator[int]" = field(default_factory=count)
    stale: int = 0
    acted: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def begin(self, host: "Host", work: Iterator[float], after: float = 0.0) -> None:
        heappush(self.events, (self.now + after, next(self.order), host, work))

    def run(self, seconds: float) -> None:
        while self.events and self.events[0][0] < seconds:
            self.now, _, host, work = heappop(self.events)
            if host.paused_until > self.now:
                self.begin(host, work, host.paused_until - self.now)
            elif (pause := next(work, None)) is not None:
                self.begin(host, work, pause)

    def act(self, environment: str, held: HeldLease) -> float:
        """Begin what staging goes on with by itself for a while; returns for how long."""
        seconds = self.chance.uniform(0, 60)
        self.begin(Host(self), self._effect(environment, held), seconds)
        return seconds

    def _effect(self, environment: str, held: HeldLease) -> Iterator[float]:
        """It must have had its effect before anybody else can be the owner."""
        lease = Lease.model_validate_json(self.objects[f"leases/{environment}.json"][0])
        self.stale += lease.token != held.token
        assert lease.token >= self.tokens.get(environment, 0)
        self.tokens[environment] = lease.token
        self.acted[environment] = self.acted.get(environment, 0) + 1
        yield from ()


@dataclass
class Host:
    """A host as the store sees it: its requests may fail, and their answers get lost.

    It is an `ObjectStore` whose clock is the world's.
    """

    world: World
    paused_until: float = 0.0
    away_until: float = 0.0
    killed: int = 0

    def get(self, key: str) -> Stored | None:
        self._reach()
        if key not in self.world.objects:
            return None
        data, version, written = self.world.objects[key]
        modified = datetime.fromtimestamp(int(written), UTC)  # S3 tells whole seconds
        return Stored(data, str(version), modified)

    def put(self, key: str, content: bytes | Path) -> None:
        self._reach()
        assert isinstance(content, bytes)
        self.world.objects[key] = (content, next(self.world.versions), self.world.now)

    def create(self, key: str, data: bytes) -> str:
        self._reach()
        if key in self.world.objects:
            raise ConflictError
        return self._made(key, data)

    def swap(self, key: str, data: bytes, etag: str) -> str:
        self._reach()
        if key not in self.world.objects or str(self.world.objects[key][1]) != etag:
            raise ConflictError
        return self._made(key, data)

    def keys(self, prefix: str, after: str = "") -> Iterator[list[str]]:
        raise NotImplementedError  # a lease is one object: nothing is listed

    def folders(self, prefix: str) -> list[str]:
        raise NotImplementedError  # likewise

    def delete(self, key: str) -> None:
        self._reach()
        self.world.objects.pop(key, None)

    def _made(self, key: str, data: bytes) -> str:
        self.put(key, data)
        lot = self.world.chance.random()
        if lot < 0.02:
            raise StoreUnreachableError
        if lot < 0.04:  # the client sent it again, and was refused by what it had written
            raise ConflictError
        return str(self.world.objects[key][1])

    def _reach(self) -> None:
        if self.away_until > self.world.now or self.world.chance.random() < 0.01:
            raise StoreUnreachableError


class HungShare(Host):
    """A share that was mounted hard, and is away: who writes waits for ever."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.hangs, self.back = threading.Event(), threading.Event()

    def swap(self, key: str, data: bytes, etag: str) -> str:
        self.hangs.set()
        self.back.wait()
        return super().swap(key, data, etag)


class NotNowError(Exception):
    """Raised where a holder would wait, so that the world goes on meanwhile."""


def not_now(_seconds: float) -> None:
    raise NotNowError


def rolls_out(world: World, host: Host, environment: str, *, confirms: bool) -> Iterator[float]:
    """Roll out for ever, one rollout after another, as an executor would."""
    life = host.killed
    while life == host.killed:
        try:
            held = acquire(host, environment, {"host": str(id(host))}, now=lambda: world.now)
        except (EnvironmentTakenError, StoreUnreachableError):
            yield world.chance.uniform(3, 30)
            continue
        try:
            yield from _rollout(world, held, environment, confirms=confirms)
        except LeaseLostError:
            continue
        held.__exit__()
        yield world.chance.uniform(0, 60)


def _rollout(world: World, held: HeldLease, environment: str, *, confirms: bool) -> Iterator[float]:
    renew_at = world.now + 20
    for _ in range(8):
        over = world.now + world.chance.uniform(5, 60)
        while world.now < over:
            yield 1
            held.check()
            if world.now >= renew_at:
                renew_at = world.now + held.renew()
        while confirms:
            try:
                held.confirm(not_now)
            except NotNowError:
                yield 2
            else:
                break
        yield world.act(environment, held)


def troubles(
    world: World, host: Host, environments: list[str], *, confirms: bool
) -> Iterator[float]:
    """Now and then a host is paused, cut off from the store, or killed and started anew."""
    while True:
        yield world.chance.uniform(100, 600)
        kind = world.chance.choice(["pause", "cut", "kill"])
        seconds = world.chance.choice([5, 50, 95, 125, 300])
        if kind == "pause":
            host.paused_until = world.now + seconds
        elif kind == "cut":
            host.away_until = world.now + seconds
        else:
            host.killed += 1
            for environment in environments:
                work = rolls_out(world, host, environment, confirms=confirms)
                world.begin(host, work, world.chance.uniform(1, 60))


def simulated(seed: int, *, confirms: bool) -> World:
    world = World(random.Random(seed))  # noqa: S311 - chance, not secrets
    environments = [f"environment-{number}" for number in range(20)]
    for _ in range(3):
        host = Host(world)
        for environment in environments:
            world.begin(host, rolls_out(world, host, environment, confirms=confirms))
        # Trouble comes from outside of the host, and is not paused with it.
        world.begin(Host(world), troubles(world, host, environments, confirms=confirms))
    world.run(3600)
    return world


@pytest.mark.parametrize("seed", range(6))
def test_hosts_that_die_pause_and_lose_the_store_do_nothing_stale(seed: int) -> None:
    world = simulated(seed, confirms=True)

    assert world.stale == 0
    assert len(world.acted) == 20
    assert min(world.acted.values()) > 20
    assert min(world.tokens.values()) > 3


def test_without_confirming_the_same_hosts_do_stale_things() -> None:
    assert any(simulated(seed, confirms=False).stale for seed in range(6))


def test_two_minutes_after_a_holder_died_another_goes_on_with_the_next_token() -> None:
    world = World(random.Random(0))  # noqa: S311
    world.chance.random = lambda: 1.0  # type: ignore[method-assign]
    dead, other = Host(world), Host(world)
    held = acquire(
        dead, "staging", {"run": "r-1", "user": "ann", "host": "a"}, now=lambda: world.now
    )
    held.owe({"rollout": "one", "percent": 5})

    world.now = EXPIRY_SECONDS
    with pytest.raises(
        EnvironmentTakenError, match="by ann@a, run r-1, last seen 120 s ago, token 1"
    ):
        acquire(other, "staging", {}, now=lambda: world.now)
    world.now += 1
    successor = acquire(other, "staging", {}, now=lambda: world.now)

    assert (successor.token, successor.owed) == (2, {"rollout": "one", "percent": 5})
    with pytest.raises(LeaseLostError, match="not renewed for 90 s"):
        held.confirm(not_now)


def test_what_was_cut_off_stays_cut_off_though_nobody_else_came() -> None:
    world = World(random.Random(0))  # noqa: S311
    world.chance.random = lambda: 1.0  # type: ignore[method-assign]
    held = acquire(Host(world), "staging", {}, now=lambda: world.now)
    world.now = CUT_OFF_SECONDS - 1
    held.check()
    world.now += 1

    for ask in (held.check, held.renew, held.confirm):
        with pytest.raises(LeaseLostError):
            ask()
    held.__exit__()
    found = read_lease(Host(world), "staging")
    assert found
    assert found.lease.released  # and others need not wait for it


def test_a_write_that_was_made_though_its_answer_said_no_is_taken_for_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(random.Random(0))  # noqa: S311
    world.chance.random = lambda: 0.03  # type: ignore[method-assign]  # see `Host._made`
    monkeypatch.setattr(Host, "_reach", lambda _: None)

    held = acquire(Host(world), "staging", {}, now=lambda: world.now)
    assert held.token == 1
    world.chance.random = lambda: 1.0  # type: ignore[method-assign]
    held.confirm()
    held.renew()


def test_a_renewal_counts_from_when_it_was_sent_not_from_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(random.Random(0))  # noqa: S311
    world.chance.random = lambda: 1.0  # type: ignore[method-assign]
    held = acquire(Host(world), "staging", {}, now=lambda: world.now)
    answered: list[float] = []
    real = Host.swap

    def late(host: Host, key: str, data: bytes, etag: str) -> str:
        made = real(host, key, data, etag)
        world.now += 0 if answered else 21
        answered.append(world.now)
        return made

    monkeypatch.setattr(Host, "swap", late)
    held.renew()
    held.confirm()  # once more, since the first was sent 21 s ago

    assert len(answered) == 2


def test_a_store_that_hangs_keeps_nobody_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_lease, "RENEW_SECONDS", 0.01)
    world = World(random.Random(0))  # noqa: S311
    world.chance.random = lambda: 1.0  # type: ignore[method-assign]
    share = HungShare(world)
    held = acquire(share, "staging", {}, now=lambda: world.now)
    with held:
        assert share.hangs.wait(timeout=30)
        world.now = 30

        def wait(_seconds: float) -> None:
            world.now += 30

        with pytest.raises(LeaseLostError, match="not renewed for 90 s"):
            held.confirm(wait)
    share.back.set()


def test_confirming_waits_for_the_store_until_it_is_cut_off() -> None:
    world = World(random.Random(0))  # noqa: S311
    world.chance.random = lambda: 1.0  # type: ignore[method-assign]
    host = Host(world)
    held = acquire(host, "staging", {}, now=lambda: world.now)
    world.now, host.away_until = 30, 70

    def wait(seconds: float) -> None:
        world.now += seconds

    held.confirm(wait)
    assert world.now == 70

    world.now, host.away_until = 100, 1000
    with pytest.raises(LeaseLostError):
        held.confirm(wait)
    assert world.now == 70 + CUT_OFF_SECONDS
