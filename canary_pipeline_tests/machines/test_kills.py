"""A host is killed in the midst of its work, and another goes on: as if nothing had happened.

Both are forks with folders, locks and state of their own; the lease is made old by its file's time
instead of waiting for it. `test_kill_points.py` tries the moments around a host's own files.
"""

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.outside.lease import read_lease
from canary_pipeline.outside.shared_folder import SharedFolder
from canary_pipeline.store.folder import Evidence
from canary_pipeline_tests.conftest import (
    decision,
    new_checkout,
    rows,
    under_way,
)
from canary_pipeline_tests.fake_staging import GOOD, Behaviour, FakeStaging, answer
from canary_pipeline_tests.forked_core import Ended
from canary_pipeline_tests.live_staging import (
    APPLY_VARIABLE,
    FAKE_APPLY,
    ROLLBACK_VARIABLE,
    ROUTING_STATUS,
    TIMEOUT_VARIABLE,
)
from canary_pipeline_tests.machines.conftest import Host, World

pytestmark = pytest.mark.slow

RUN = ("run", "--cohorts", "5,100", "--cohort-soak-seconds", "0")


@dataclass
class Hosts:
    """Two hosts as forks, and the staging that they change."""

    world: World
    staging: FakeStaging

    def new(self) -> None:
        """Begin anew: nothing has been rolled out or published, nothing is live."""
        world = self.world
        shutil.rmtree(world.shared)
        world.shared.mkdir()
        for host in (world.one, world.other):
            shutil.rmtree(host.commands.folder)
            host.commands.folder.mkdir()
            shutil.rmtree(
                host.commands.environment["CANARY_PIPELINE_STATE_DIR"], ignore_errors=True
            )
        shutil.rmtree(world.checkout.folder)
        new_checkout(world.checkout.folder)
        self.staging.seen.clear()

    def run(self, host: Host, *arguments: str, kill_at: int = 0) -> Ended:
        commands = host.commands
        return commands.core.run(
            commands.folder, commands.environment, *arguments, kill_at=kill_at, of_store=True
        )

    @property
    def published(self) -> Path | None:
        """The rollout as the store holds it; None where nothing of it can be gone on with."""
        found = list((self.world.shared / "rollouts/staging").glob("*/rollout.json"))
        return found[0].parent if found else None


@dataclass(frozen=True)
class Outcome:
    """All that must be as if no host had been killed."""

    code: int
    decision: str
    gates: dict[str, str]
    cohorts: dict[int, tuple[str, str | None]]
    files: frozenset[str]
    percent: int
    owed: Any
    released: bool
    problems: tuple[Any, ...]


def outcome(hosts: Hosts, code: int) -> Outcome:
    """How it came out, read from the store alone."""
    folder = hosts.published
    assert folder
    record = Evidence(folder).verified_record()
    paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    found = read_lease(SharedFolder(hosts.world.shared), "staging")
    assert found
    return Outcome(
        code,
        decision(folder),
        {row.gate: row.status for row in record.gate_rows},
        {row.cohort_percent: (row.status, row.reason) for row in record.cohort_rows},
        # A later attempt's log or response carries its number.
        frozenset(re.sub(r"\.\d(?=\.(log|json)$)|(?<=rollback-)\d", "", path) for path in paths),
        hosts.world.percent,
        found.lease.owed,
        found.lease.released,
        record.problems,
    )


@pytest.fixture
def hosts(world: World, staging: FakeStaging) -> Hosts:
    for host in (world.one, world.other):
        host.commands.environment |= {
            TIMEOUT_VARIABLE: "20",
            "OA_RUNTIME_METRICS_URL": "",
            "OA_CONTROL_STATUS_URL": "",
        }
    return Hosts(world, staging)


LIVE_AT_DEATH = {"gate": 0, "apply": 5, "probe": 100, "soak": 100, "rollback": 100}


@pytest.mark.parametrize("place", LIVE_AT_DEATH)
def test_another_host_goes_on_wherever_the_first_was_killed(place: str, hosts: Hosts) -> None:
    world, blocks = hosts.world, place == "rollback"
    kill_in(place, hosts)
    killed = hosts.run(world.one, *RUN)
    assert killed.code == -signal.SIGKILL, killed
    assert hosts.published
    assert world.percent == LIVE_AT_DEATH[place]
    finished = Evidence(hosts.published).record().gate_rows

    refused = hosts.run(world.other, "resume", hosts.published.name)
    assert (refused.code, "is under way" in refused.err) == (3, True), refused
    world.expire()
    ended = hosts.run(world.other, "resume", hosts.published.name)

    found = outcome(hosts, ended.code)
    assert (found.code, found.percent) == ((1, 0) if blocks else (0, 100)), ended
    assert (found.owed, found.released, found.problems) == (None, True, ())
    assert set(found.gates.values()) == {"passed"}
    last = ("failed", "http_status") if blocks else ("passed", None)
    assert found.cohorts == {5: ("passed", None), 100: last}
    assert {world.checkout.runs_of(row.gate) for row in finished} <= {1}
    again = {"probe": [100], "rollback": [5, 100]}  # in flight, and rolled back
    assert hosts.staging.probed == [5, 100, *again.get(place, [])]


def strike(world: World, where: str = "true") -> str:
    """Bash that kills whoever holds the lease, the first time that it is run where it says."""
    pid = f"""sed -E 's/.*"pid":"([0-9]+)".*/\\1/' '{world.shared}/leases/staging.json'"""
    return f"if {where} && mkdir struck 2>/dev/null; then kill -KILL $({pid}); sleep 60; fi; "


def kill_in(place: str, hosts: Hosts) -> None:
    """Let the holder be killed once, in the midst of a step of the second cohort's."""
    world, staging = hosts.world, hosts.staging
    at_100 = '[ "$OA_RUNTIME_CANARY_USER_PERCENT" = 100 ]'
    scripts = {"apply": (APPLY_VARIABLE, at_100), "rollback": (ROLLBACK_VARIABLE, "true")}
    if place in scripts:
        variable, where = scripts[place]
        for host in (world.one, world.other):
            host.commands.environment[variable] = strike(world, where) + FAKE_APPLY
    if place == "gate":
        world.checkout.gate("spacetime-chaos", strike(world))
    if place == "rollback":
        staging.probes[100] = answer(500, {})
    if place == "probe":
        staging.probes[100] = killing(world, answer(200, GOOD))
    if place == "soak":
        served = staging.snapshots[ROUTING_STATUS]
        staging.snapshots[ROUTING_STATUS] = killing(world, served, lambda: in_soak(world))


def killing(
    world: World, answered: Behaviour, when: Callable[[], bool] = lambda: True
) -> Behaviour:
    """Kill whoever holds the lease, once, when this is asked."""
    struck: list[int] = []

    def behave(handler: BaseHTTPRequestHandler) -> None:
        if not struck and when():
            found = read_lease(SharedFolder(world.shared), "staging")
            assert found
            struck.append(int(found.lease.holder["pid"]))
            os.kill(struck[0], signal.SIGKILL)
        answered(handler)

    return behave


def in_soak(world: World) -> bool:
    """Whether the second cohort soaks; if so, wait until that is published."""
    states = under_way(world.one.folder)
    if not any((each["step"], each["phase"]) == ("cohort 100", "soak") for each in states):
        return False
    world.await_phase("soak")
    return True


SLICES = 24
"""Into so many tests the moments of one rollout are dealt; the first is for every day."""

EACH = [pytest.param(part, marks=() if part == 0 else pytest.mark.prove) for part in range(SLICES)]


@pytest.mark.parametrize("part", EACH)
@pytest.mark.parametrize("kind", ["applies", "rolls back"])
def test_another_host_goes_on_from_any_moment_around_what_was_published(
    kind: str, part: int, hosts: Hosts
) -> None:
    if kind == "rolls back":
        hosts.staging.probes[100] = answer(500, {})
    hosts.new()
    undisturbed = hosts.run(hosts.world.one, *RUN)
    expected = outcome(hosts, undisturbed.code)
    assert expected.code == (kind == "rolls back"), undisturbed

    for moment in range(1, len(undisturbed.moments) + 1):
        if moment % SLICES == part:
            killed_and_gone_on(hosts, moment, expected)


def killed_and_gone_on(hosts: Hosts, moment: int, expected: Outcome) -> None:
    hosts.new()
    killed = hosts.run(hosts.world.one, *RUN, kill_at=moment)
    if killed.code != -signal.SIGKILL:  # what was written at once was published at once this time
        assert outcome(hosts, killed.code) == expected
        return
    where = f"moment {moment}, {killed.moments[-1]}"
    folder, probed = hosts.published, set(hosts.staging.probed)
    for_good = passed_for_good(folder) if folder else set()
    if (hosts.world.shared / "leases/staging.json").exists():
        hosts.world.expire()

    ended = hosts.run(hosts.world.other, *(("resume", folder.name) if folder else RUN))

    assert outcome(hosts, ended.code) == expected, f"{where}\n{ended}"
    again = {percent for percent, times in Counter(hosts.staging.probed).items() if times > 1}
    assert again <= probed - for_good, where


def passed_for_good(folder: Path) -> set[int]:
    """The cohorts that are published as passed, and not as rolled back since."""
    header = json.loads((folder / "rollout.json").read_text())
    if (folder / "SUMMARY.md").exists() and decision(folder) == "Decision: allow":
        assert header["attempts"][-1]["outcome"] == "finished"
    if header["restoring"] or (folder / "rollback-results.jsonl").exists():
        return set()
    results = rows(folder, "cohort-results.jsonl")
    return {row["cohort_percent"] for row in results if row["status"] == "passed"}
