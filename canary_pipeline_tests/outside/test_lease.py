"""A lease in a real store, held by real processes."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from canary_pipeline.outside import held_lease, lease
from canary_pipeline.outside.claim import EnvironmentTakenError
from canary_pipeline.outside.held_lease import HeldLease, LeaseLostError, acquire
from canary_pipeline.outside.lease import (
    RELEASE_SECONDS,
    Found,
    LeaseChangedError,
    LeaseUnreadableError,
    read_lease,
    release,
    request_stop,
)
from canary_pipeline.outside.object_store import ObjectStore, StoreUnreachableError
from canary_pipeline.outside.open_store import open_store
from canary_pipeline.store.published import Published
from canary_pipeline_tests.conftest import await_true
from canary_pipeline_tests.outside.another_user import as_nobody, let_in
from canary_pipeline_tests.outside.conftest import use_s3
from canary_pipeline_tests.outside.s3_server import Network

HOLDER = {"rollout": "staging-20260225T080000Z", "run": "r-1", "host": "host-a", "user": "ann"}

HOLD = """
import sys
from canary_pipeline.outside import held_lease, lease
from canary_pipeline.outside.open_store import open_store
held_lease.RENEW_SECONDS, lease.EXPIRY_SECONDS = 0.5, 3
with held_lease.acquire(open_store(sys.argv[1]), 'staging', {'run': 'the-first'}) as held:
    print(held.token, flush=True)
    sys.stdin.readline()
    try:
        held.renew()
    except held_lease.LeaseLostError as error:
        print(error, flush=True)
"""


@contextmanager
def another_process(url: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "1\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read(store: ObjectStore) -> Found:
    found = read_lease(store, "staging")
    assert found
    return found


def test_of_hosts_that_begin_at_once_one_holds_the_environment(url: str) -> None:
    stores = [open_store(url) for _ in range(8)]
    for expected in (1, 2):  # the first ever, and after a release

        def begin(store: ObjectStore) -> HeldLease | None:
            try:
                return acquire(store, "staging", HOLDER)
            except (EnvironmentTakenError, StoreUnreachableError):
                return None

        with ThreadPoolExecutor(8) as pool:
            [held] = [held for held in pool.map(begin, stores) if held]
        assert held.token == expected
        held.check()
        held.__exit__()

    with acquire(stores[0], "staging", {}), acquire(stores[0], "production", {}):
        pass


def test_a_refused_rollout_is_told_who_holds_the_environment(store: ObjectStore) -> None:
    told = r"by ann@host-a, run r-2, last seen \d+ s ago, token 1"
    with acquire(store, "staging", HOLDER) as held:
        held.describe({**HOLDER, "run": "r-2"})
        with pytest.raises(EnvironmentTakenError, match=told):
            acquire(store, "staging", {})

    found = read(store)
    assert (found.lease.holder["run"], found.lease.released) == ("r-2", True)


def test_a_thread_renews_it(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_lease, "RENEW_SECONDS", 0.05)
    with acquire(store, "staging", HOLDER):
        for _ in range(3):
            _await_renewal(store)

    await_true(lambda: all(thread.name != "lease" for thread in threading.enumerate()))


def _await_renewal(store: ObjectStore) -> None:
    nonce = read(store).lease.nonce
    await_true(lambda: read(store).lease.nonce != nonce)


def test_a_stop_request_is_seen_at_the_next_renewal_and_takes_nothing_away(
    store: ObjectStore,
) -> None:
    with acquire(store, "staging", HOLDER) as held:
        request_stop(store, "staging", "bob@host-b")
        assert held.stop_requested is None
        held.renew()
        assert held.stop_requested == "bob@host-b"
        held.renew()
        held.confirm()

    assert read(store).lease.stop is None
    with pytest.raises(LeaseChangedError, match="no rollout of staging is under way"):
        request_stop(store, "staging", "bob@host-b")


def test_who_asks_a_silent_holder_to_stop_does_not_keep_its_lease_from_expiring(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire(store, "staging", HOLDER)
    before = read(store)
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", -1)

    with pytest.raises(LeaseChangedError, match=r"by ann@host-a.* is silent, and may be dead"):
        request_stop(store, "staging", "bob@host-b")

    assert read(store) == before


def test_only_the_token_at_hand_is_released_and_its_holder_stops(store: ObjectStore) -> None:
    waited: list[float] = []
    held = acquire(store, "staging", HOLDER)

    with pytest.raises(LeaseChangedError, match="staging is held with token 1, not held with 7"):
        release(store, "staging", 7, waited.append)
    release(store, "staging", 1, waited.append)

    # Its holder may not notice for up to 20 s more, and what it runs has its last grace then.
    assert [40 < seconds <= RELEASE_SECONDS for seconds in waited] == [True]
    successor = acquire(store, "staging", {})
    assert successor.token == 2
    with pytest.raises(LeaseLostError, match="was taken away"):
        held.renew()
    held.__exit__()
    successor.confirm()
    with pytest.raises(LeaseChangedError, match="staging is held with token 2, not held with 1"):
        release(store, "staging", 1, waited.append)


def test_while_it_is_released_by_force_nobody_else_begins(store: ObjectStore) -> None:
    acquire(store, "staging", HOLDER)

    def meanwhile(_seconds: float) -> None:
        with pytest.raises(EnvironmentTakenError):
            acquire(store, "staging", {})

    release(store, "staging", 1, meanwhile)
    acquire(store, "staging", {})


def test_what_is_owed_is_handed_on_until_it_is_settled(store: ObjectStore) -> None:
    first = acquire(store, "staging", HOLDER)
    first.owe({"rollout": "one", "percent": 5})
    first.__exit__()

    second = acquire(store, "staging", HOLDER)
    assert second.owed == {"rollout": "one", "percent": 5}
    second.owe(None)
    second.__exit__()

    assert acquire(store, "staging", HOLDER).owed is None


def test_a_lease_that_says_nothing_lets_nobody_begin_and_is_replaced_with_a_higher_token(
    store: ObjectStore,
) -> None:
    store.put("leases/staging.json", b"{}")

    with pytest.raises(LeaseUnreadableError, match=r"leases/staging\.json") as refused:
        acquire(store, "staging", {})
    told = re.search(r"\{.*\}", str(refused.value))
    assert told
    assert told[0] in (Path(__file__).parents[2] / "docs/many-machines.md").read_text()
    store.put("leases/staging.json", told[0].replace("N", "41").encode())

    assert acquire(store, "staging", {}).token == 42


@pytest.mark.filterwarnings("error")  # such as a thread's that ends in a traceback
def test_who_holds_a_lease_that_somebody_has_spoilt_knows_that_it_is_lost(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_lease, "RENEW_SECONDS", 0.05)
    with acquire(store, "staging", HOLDER) as held:
        store.put("leases/staging.json", b"{}")
        await_true(lambda: all(thread.name != "lease" for thread in threading.enumerate()))

        with pytest.raises(LeaseLostError, match=r"leases/staging\.json is not a lease"):
            held.check()

    assert store.get("leases/staging.json")


def test_a_killed_holder_is_succeeded_once_its_time_is_over(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(url)
    with another_process(url) as process:
        process.kill()
        with pytest.raises(EnvironmentTakenError, match="run the-first"):
            acquire(store, "staging", {})
        monkeypatch.setattr(lease, "EXPIRY_SECONDS", 3)

        held = await_true(lambda: _acquired(store), every=0.2)

    assert held.token == 2


def test_a_paused_holder_does_not_write_over_its_successor(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 3)
    store = open_store(url)
    with another_process(url) as process:
        process.send_signal(signal.SIGSTOP)
        held = await_true(lambda: _acquired(store), every=0.2)
        process.send_signal(signal.SIGCONT)
        told, _ = process.communicate("\n")

        assert "the lease of staging (token 1) was taken away" in told
        held.confirm()
        assert read(store).lease.token == 2


def _acquired(store: ObjectStore) -> HeldLease | None:
    try:
        return acquire(store, "staging", {})
    except EnvironmentTakenError:
        return None


def test_a_share_that_is_away_for_a_while_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_lease, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(held_lease, "RETRY_SECONDS", 0.05)
    share, away = tmp_path / "share", tmp_path / "away"
    share.mkdir()
    store = open_store(f"file://{share}")
    with acquire(store, "staging", HOLDER) as held:
        share.rename(away)
        share.mkdir()  # an empty mount point
        assert held.renew() == 0.05
        with pytest.raises(StoreUnreachableError):
            acquire(store, "staging", {})
        held.check()
        share.rmdir()
        os.rename(away, share)  # noqa: PTH104 - beside what the store itself does
        _await_renewal(store)
        held.check()


def test_users_that_share_a_folder_may_follow_each_other(tmp_path: Path) -> None:
    let_in(tmp_path)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    store = open_store(f"file://{shared}")
    with acquire(store, "staging", HOLDER) as held:
        held.renew()
    # What a writer of this user leaves that is killed amid a swap.
    key = sha256(b"leases/staging.json").hexdigest()[:32]
    (shared / ".locks" / key).touch()
    (shared / ".locks" / key).chmod(0o666)
    program = HOLD.replace("sys.stdin.readline()", "held.renew()")

    told = as_nobody(sys.executable, "-c", program, f"file://{shared}", PYTHONDONTWRITEBYTECODE="1")

    assert (told.stdout, told.stderr) == ("2\n", "")
    assert acquire(store, "staging", HOLDER).token == 3


@pytest.mark.prove
def test_a_network_that_is_cut_for_a_while_loses_neither_lease_nor_evidence(
    seaweed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(held_lease, "RETRY_SECONDS", 0.2)
    network = Network(seaweed)
    use_s3(monkeypatch, network.address)
    store = open_store(f"s3://evidence/{uuid4()}")
    published = Published(tmp_path, store, "rollouts/staging/one")
    (tmp_path / "rollout.json").write_text("{}")
    with acquire(store, "staging", HOLDER) as held:
        network.cut()
        assert held.renew() == 0.2
        assert not published.publish_all()
        held.check()

        network.mend()
        held.confirm()
        assert await_true(published.publish_all)
        assert published.pending() == []
        _await_renewal(store)
