"""Stopping a rollout wherever it is, and going on with it."""

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline_tests.conftest import (
    CORE,
    DAGSTER_JOB,
    GATES,
    Checkout,
    Commands,
    await_true,
    cohort_rows,
    decision,
    gate_rows,
    statuses,
    under_way,
)
from canary_pipeline_tests.fake_staging import FakeStaging, answer, never

SLOW = pytest.mark.slow


def in_flight(commands: Commands) -> list[dict[str, Any]]:
    """What the steps of the newest rollout that have begun and not ended are doing."""
    return [state for folder in commands.folders[-1:] for state in under_way(folder)]


def in_phase(commands: Commands, phase: str) -> bool:
    """Whether some step of the newest rollout is in this phase."""
    return any(state["phase"] == phase for state in in_flight(commands))


def alive(marker: str) -> list[int]:
    """The processes whose environment or arguments hold a marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if marker.encode() in text:
                found.append(int(entry.name))
    return found


WAYS = {
    "core": (*CORE, "run"),
    "canary-rollout": ("canary-rollout", "run"),
    "dagster": DAGSTER_JOB,
}

STOPS = [
    pytest.param(way, phase, number, id=f"{way}-{phase}-{number.name}", marks=marks)
    for way, marks in (("core", ()), ("canary-rollout", SLOW), ("dagster", SLOW))
    for phase in ("running", "probe", "soak")
    for number in (signal.SIGINT, signal.SIGTERM)
    if way == "core" or phase == "soak" or (phase == "probe") == (number == signal.SIGTERM)
]
STOPS.append(pytest.param("core", "soak", signal.SIGHUP, id="core-soak-SIGHUP"))
LONG = pytest.mark.prove
STOPS.append(pytest.param("dagster", "soak", signal.SIGHUP, id="dagster-soak-SIGHUP", marks=LONG))


@pytest.mark.parametrize("most_seconds", [60, pytest.param(5, marks=pytest.mark.prove)])
@pytest.mark.parametrize(("way", "phase", "number"), STOPS)
def test_a_signal_stops_a_rollout_soon_and_leaves_nothing_running(
    way: str, phase: str, number: signal.Signals, most_seconds: int, stoppable: "Stoppable"
) -> None:
    process = stoppable.reach(way, phase)

    process.send_signal(number)
    started = time.monotonic()
    result = stoppable.commands.finish(process)

    assert time.monotonic() - started < most_seconds
    assert result.code == (1 if way == "dagster" else 3)
    stoppable.was_aborted(f"stopped by {number.name}", phase)


@pytest.mark.parametrize("way", ["core", pytest.param("canary-rollout", marks=SLOW)])
def test_a_signal_to_every_process_of_a_rollout_is_an_abort(
    way: str, stoppable: "Stoppable"
) -> None:
    stoppable.checkout.gate("spacetime-chaos", "sleep 300")
    process = stoppable.reach(way, "running")

    for pid in [process.pid, *alive(stoppable.marker)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    assert stoppable.commands.finish(process).code == 3
    stoppable.was_aborted("stopped by SIGTERM", "")


@dataclass
class Stoppable:
    """A rollout that would go on for minutes, in whatever phase."""

    commands: Commands
    checkout: Checkout
    staging: FakeStaging
    marker: str

    def reach(self, way: str, phase: str) -> "subprocess.Popen[str]":
        """Start it and wait until it is in a phase."""
        more = {
            "OA_STAGING_CANARY_COHORTS": "5",
            "OA_STAGING_CANARY_HTTP_TIMEOUT_SECONDS": "300",
            "MARKER": self.marker,
        }
        if phase == "running" and not (self.checkout.folder / "behaviour/spacetime-chaos").exists():
            self.checkout.gate("spacetime-chaos", "trap '' INT TERM; sleep 300 & sleep 300")
        if phase == "probe":
            self.staging.probes[5] = never
        if phase == "soak":
            more["OA_STAGING_CANARY_COHORT_SOAK_SECONDS"] = "300"
        process = self.commands.start(*WAYS[way], more=more)
        await_true(lambda: in_phase(self.commands, phase))
        await_true(lambda: self.checkout.runs_of("spacetime-chaos"))
        return process

    def was_aborted(self, why: str, phase: str) -> None:
        """There is a decision that says so, and nothing runs any more."""
        [folder] = self.commands.folders
        assert decision(folder) == "Decision: block"
        summary = (folder / "SUMMARY.md").read_text()
        assert f"attempt 1 aborted: {why}" in summary
        assert phase in summary
        await_true(lambda: alive(self.marker) == [])


@pytest.fixture
def stoppable(
    commands: Commands, checkout: Checkout, staging: FakeStaging, tmp_path: Path
) -> Stoppable:
    return Stoppable(commands, checkout, staging, f"{tmp_path}-is-stopped")


def soaked_long(state: dict[str, Any]) -> bool:
    return bool((state["soaked_seconds"] or 0) >= 5)


@pytest.mark.slow
def test_a_rollout_that_is_killed_in_its_soak_only_waits_for_what_is_left(
    commands: Commands, staging: FakeStaging
) -> None:
    process = commands.start_rollout("--cohorts", "5", "--cohort-soak-seconds", "9")
    [state] = await_true(lambda: [each for each in in_flight(commands) if soaked_long(each)])
    commands.kill(process)
    [folder] = commands.folders
    assert not (folder / "SUMMARY.md").exists()

    result = commands.resume(folder)

    assert result.code == 0
    left = re.search(r"cohort 5: soaking, 0:0(\d) left", result.out)
    assert left
    assert int(left[1]) <= 4
    assert staging.probed == [5]
    [row] = cohort_rows(folder)
    assert row["attempt"] == 2
    assert row["soak_started_at"] == state["probe"]["soak_started_at"]
    assert row["soaked_seconds"] >= 9
    assert decision(folder) == "Decision: allow"


def test_finished_gates_are_not_run_again_after_a_kill(
    commands: Commands, checkout: Checkout
) -> None:
    checkout.gate("spacetime-chaos", "until [ -f go ]; do sleep 0.1; done")
    process = commands.start_rollout("--cohorts", "5")
    await_true(lambda: commands.folders and len(gate_rows(commands.folders[0])) == 3)
    commands.kill(process)
    (checkout.folder / "go").touch()

    [folder] = commands.folders
    result = commands.resume(folder)

    assert result.code == 0
    assert {gate: checkout.runs_of(gate) for gate in GATES} == {
        "spacetime-provision-staging": 1,
        "spacetime-replay-resume": 1,
        "spacetime-chaos": 2,
        "sync-security": 1,
    }
    attempts = {row["gate"]: row["attempt"] for row in gate_rows(folder)}
    assert attempts["spacetime-chaos"] == 2
    assert sum(attempts.values()) == 5


@pytest.mark.parametrize("way", ["core", pytest.param("canary-rollout", marks=SLOW)])
def test_a_blocked_rollout_goes_on_from_the_cohort_that_blocked(
    way: str, commands: Commands, staging: FakeStaging
) -> None:
    staging.probes[25] = answer(500, {})
    assert commands.run(*WAYS[way], "--cohorts", "5,25,100").code == 1
    [folder] = commands.folders
    del staging.probes[25]

    if way == "core":
        result = commands.resume(folder)
    else:  # a run's id is as good
        result = commands.run(way, "resume", cohort_rows(folder)[0]["run_id"])

    assert result.code == 0, result.out + result.err
    assert staging.probed == [5, 25, 25, 100]
    assert statuses(folder) == [
        (5, "passed", None),
        (25, "failed", "http_status"),
        (100, "skipped", "earlier_cohort_failed"),
        (25, "passed", None),
        (100, "passed", None),
    ]
    assert [row["attempt"] for row in cohort_rows(folder)] == [1, 1, 1, 2, 2]
    assert decision(folder) == "Decision: allow"


def test_a_rollout_that_its_gates_blocked_runs_them_again(
    commands: Commands, checkout: Checkout
) -> None:
    checkout.gate("sync-security", "exit 1")
    assert commands.rollout("--cohorts", "5").code == 1
    [folder] = commands.folders
    checkout.gate("sync-security", "exit 0")

    result = commands.resume(folder)

    assert result.code == 0
    assert [checkout.runs_of(gate) for gate in GATES] == [2, 2, 2, 2]


def test_a_gate_that_took_too_long_passes_when_resumed_with_more_time(
    commands: Commands, checkout: Checkout
) -> None:
    checkout.gate("sync-security", "until [ -f go ]; do sleep 0.1; done")
    assert commands.rollout("--cohorts", "5", "--gate-timeout-seconds", "1").code == 1
    [folder] = commands.folders
    checkout.gate("sync-security", "sleep 1.2")

    result = commands.resume(folder, "--gate-timeout-seconds", "60")

    assert result.code == 0, result.out
    assert "gate_timeout_seconds was 1 until now, and is 60 from here on" in result.out


def test_a_rollout_that_was_allowed_is_not_run_again(
    commands: Commands, checkout: Checkout, staging: FakeStaging
) -> None:
    assert commands.rollout("--cohorts", "5").code == 0
    [folder] = commands.folders

    result = commands.resume(folder)

    assert result.code == 0
    assert decision(folder) == "Decision: allow"
    assert [checkout.runs_of(gate) for gate in GATES] == [1, 1, 1, 1]
    assert staging.probed == [5]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"OA_STAGING_CONTROL_AUTH_TOKEN": ""}, "OA_STAGING_CONTROL_AUTH_TOKEN"),
        (
            {"OA_STAGING_CONTROL_AUTH_TOKEN": "", "OA_STAGING_CONTROL_BASE_URL": ""},
            "this rollout probes live",
        ),
        ({"OA_STAGING_CONTROL_BASE_URL": "http://127.0.0.1:9"}, "control_base_url was"),
        ({"OA_RUNTIME_METRICS_URL": ""}, "runtime_metrics_url was"),
    ],
)
def test_a_rollout_does_not_go_on_with_another_staging(
    more: dict[str, str], message: str, commands: Commands, staging: FakeStaging
) -> None:
    staging.probes[5] = answer(500, {})
    assert commands.rollout("--cohorts", "5").code == 1
    [folder] = commands.folders

    result = commands.resume(folder, more=more)

    assert result.code == 2
    [line] = result.err.splitlines()
    assert message in line
    assert decision(folder) == "Decision: block"


@pytest.mark.parametrize("name", ["no-such-thing", ".", "00000000-0000-0000-0000-000000000000"])
def test_what_is_no_rollout_is_not_resumed(name: str, commands: Commands) -> None:
    result = commands.resume(name)

    assert result.code == 2
    assert len(result.err.splitlines()) == 1
