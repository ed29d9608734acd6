"""A holder that nobody hears of for long: its store is away, or it is paused."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.order import names_in
from canary_pipeline_tests.conftest import await_true, decision, statuses
from canary_pipeline_tests.machines.conftest import SOAK, URL, World
from canary_pipeline_tests.odd_host import small_disk

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]

COHORTS = ("--cohorts", "5,100")
PASSED = [(5, "passed", None), (100, "passed", None)]


def test_nothing_is_allowed_that_nobody_else_can_see(world: World) -> None:
    process = world.one.start("run", "--cohorts", "5", **{SOAK: "3"})
    world.await_phase("soak")
    away = world.shared.rename(world.shared.with_name("away"))

    result = world.one.commands.finish(process)
    assert result.code == 3
    assert decision(world.one.folder) == "Decision: block"
    assert "was not renewed for 90 s" in (world.one.folder / "SUMMARY.md").read_text()
    assert world.percent == 5  # who may have lost staging does not touch it
    away.rename(world.shared)
    assert not (world.published / "SUMMARY.md").exists()
    assert world.one.run("resume", str(world.one.folder)).code == 3  # not released: it may live
    assert world.one.run("release", "staging", "--token", "1").code == 0
    assert world.one.run("resume", str(world.one.folder)).code == 0
    assert decision(world.published) == "Decision: allow"


def test_where_a_share_is_nearly_full_staging_is_restored_and_no_decision_is_seen_until_it_has_room(
    world: World, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "size=1m") as small:
        world.shared = small
        for host in world.hosts:
            host.commands.environment[URL] = f"file://{small}"
        world.checkout.gate("sync-security", "head -c 2000000 /dev/zero | tr '\\0' x")

        result = world.one.run("run", "--cohorts", "5")
        assert result.code == 3, result.out + result.err
        summary = (world.one.folder / "SUMMARY.md").read_text()
        assert "has not taken logs/gate-sync-security.log" in summary
        assert "staging was restored: users 0 %" in summary
        assert decision(world.one.folder) == "Decision: block"
        assert not (world.published / "SUMMARY.md").exists()
        assert world.percent == 0
        told = world.other.run("status")
        assert (told.code, "has left staging" in told.out) == (0, False), told.out

        room = ["mount", "-o", "remount,size=9m", str(small)]
        subprocess.run(room, check=True)
        assert world.one.run("rollback", str(world.one.folder)).code == 0
        assert world.percent == 0
        assert decision(world.published) == "Decision: block"


def evidence_in(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def gone_on_with(world: World) -> bool:
    """Try to go on with the rollout on the other host; whether that was not refused."""
    tried = world.other.run("resume", world.published.name)
    assert tried.code in (0, 3), tried.out + tried.err
    assert (tried.code == 3) == ("another rollout of staging is under way" in tried.err)
    return tried.code == 0


@pytest.mark.parametrize("ends", ["release", "expiry"])
def test_a_holder_that_was_paused_does_not_write_over_its_successor(
    ends: str, world: World
) -> None:
    process = world.one.start("run", *COHORTS, **{SOAK: "5"})
    world.await_phase("soak")
    paused_at = time.monotonic()
    process.send_signal(signal.SIGSTOP)
    if ends == "release":
        assert world.other.run("release", "staging", "--token", "1").code == 0
    await_true(lambda: gone_on_with(world), seconds=300, every=5)
    assert (time.monotonic() - paused_at > 90) == (ends == "expiry")
    was = evidence_in(world.published)

    process.send_signal(signal.SIGCONT)
    result = world.one.commands.finish(process)
    assert result.code == 3, result.out
    assert was == evidence_in(world.published)
    assert world.percent == 100
    summary = (world.one.folder / "SUMMARY.md").read_text()
    assert "was taken away" in summary or "was not renewed for 90 s" in summary
    assert decision(world.published) == "Decision: allow"


@pytest.fixture
def way(world: World) -> Path:
    """The first host's own way to the store."""
    way = world.shared.with_name("way")
    way.symlink_to(world.shared)
    world.one.commands.environment[URL] = f"file://{way}"
    return way


@pytest.mark.parametrize("seconds", [5, 50])
def test_a_store_that_was_away_for_less_than_the_cut_off_costs_nothing(
    seconds: int, world: World, way: Path
) -> None:
    process = world.one.start("run", *COHORTS, **{SOAK: str(seconds + 10)})
    world.await_phase("soak")
    way.unlink()
    back = time.monotonic() + seconds
    while time.monotonic() < back:
        assert not gone_on_with(world)
        time.sleep(2)
    way.symlink_to(world.shared)

    result = world.one.commands.finish(process)
    assert result.code == 0, result.out + result.err
    assert decision(world.published) == "Decision: allow"
    assert statuses(world.published) == PASSED
    assert evidence_in(world.published) == evidence_in(world.one.folder)


def test_a_store_that_was_away_for_five_minutes_is_another_hosts_by_then(
    world: World, way: Path
) -> None:
    """The first stops before another may begin, writes nothing more, and allows nothing."""
    process = world.one.start("run", *COHORTS, **{SOAK: "20"})
    world.await_phase("soak")
    way.unlink()
    back = time.monotonic() + 300
    await_true(lambda: gone_on_with(world), seconds=300, every=5)
    assert process.poll() == 3
    time.sleep(max(0.0, back - time.monotonic()))
    way.symlink_to(world.shared)

    [cut_off] = Evidence(world.one.folder).header().attempts
    first, second = Evidence(world.published).header().attempts
    assert (first.run_id, first.claim_token, second.claim_token) == (cut_off.run_id, 1, 2)
    assert cut_off.ended_at is not None
    assert cut_off.ended_at < second.started_at
    assert decision(world.one.folder) == "Decision: block"
    assert decision(world.published) == "Decision: allow"
    assert statuses(world.published) == PASSED
    again = world.one.run("resume", world.one.folder.name)
    assert again.code == 0, again.out + again.err  # it brings what the other has decided
    assert decision(world.one.folder) == "Decision: allow"
