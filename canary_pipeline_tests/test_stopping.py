"""Stopping a rollout wherever it is, and going on with it."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from canary_pipeline_tests.conftest import (
    GATES,
    Checkout,
    Commands,
    await_true,
    cohort_rows,
    decision,
    gate_rows,
    statuses,
)
from canary_pipeline_tests.fake_staging import FakeStaging, answer, never

SECONDS_TO_STOP = 5


def in_phase(commands: Commands, phase: str) -> bool:
    """Whether some step of the newest rollout is in this phase."""
    folder = commands.folders[-1] if commands.folders else None
    states = [file.read_text() for file in folder.glob("in-flight/*.json")] if folder else []
    return any(json.loads(state)["phase"] == phase for state in states)


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


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("phase", ["running", "probe", "soak"])
@pytest.mark.parametrize("way", ["canary-rollout", "dagster"])
def test_a_signal_stops_a_rollout_within_seconds_and_leaves_nothing_running(  # noqa: PLR0917
    number: signal.Signals,
    phase: str,
    way: str,
    commands: Commands,
    checkout: Checkout,
    staging: FakeStaging,
    tmp_path: Path,
) -> None:
    more = {"OA_STAGING_CANARY_COHORTS": "5", "MARKER": str(tmp_path)}
    if phase == "running":
        checkout.gate("spacetime-chaos", "trap '' INT TERM; sleep 300 & sleep 300")
    if phase == "probe":
        staging.probes[5] = never
    if phase == "soak":
        more["OA_STAGING_CANARY_COHORT_SOAK_SECONDS"] = "300"
    arguments = {
        "canary-rollout": ("run",),
        "dagster": ("job", "execute", "-m", "canary_pipeline", "-j", "staging_canary_rollout"),
    }
    process = commands.start(way, *arguments[way], more=more)
    await_true(lambda: in_phase(commands, phase))
    await_true(lambda: checkout.runs_of("spacetime-chaos"))

    process.send_signal(number)
    started = time.monotonic()
    result = commands.finish(process)

    assert time.monotonic() - started < SECONDS_TO_STOP
    assert result.code == (3 if way == "canary-rollout" else 1)
    [folder] = commands.folders
    assert decision(folder) == "Decision: block"
    summary = (folder / "SUMMARY.md").read_text()
    assert f"attempt 1 aborted: stopped by {number.name}" in summary
    assert phase in summary
    await_true(lambda: alive(str(tmp_path)) == [])


def test_a_rollout_that_is_killed_in_its_soak_only_waits_for_what_is_left(
    commands: Commands, staging: FakeStaging
) -> None:
    soak = 8
    process = commands.start(
        "canary-rollout", "run", "--cohorts", "5", "--cohort-soak-seconds", str(soak)
    )
    await_true(lambda: in_phase(commands, "soak"))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    [folder] = commands.folders
    [state] = [json.loads(file.read_text()) for file in folder.glob("in-flight/cohort*.json")]
    assert not (folder / "SUMMARY.md").exists()

    result = commands.run("canary-rollout", "resume", str(folder))

    assert result.code == 0
    assert staging.probed == [5]
    [row] = cohort_rows(folder)
    assert row["attempt"] == 2
    assert row["soak_started_at"] == state["probe"]["soak_started_at"]
    assert row["soak_ended_at"] >= state["soak_ends_at"]
    assert decision(folder) == "Decision: allow"


def test_finished_gates_are_not_run_again_after_a_kill(
    commands: Commands, checkout: Checkout
) -> None:
    checkout.gate("spacetime-chaos", "until [ -f go ]; do sleep 0.1; done")
    process = commands.start("canary-rollout", "run", "--cohorts", "5")
    await_true(lambda: commands.folders and len(gate_rows(commands.folders[0])) == 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (checkout.folder / "go").touch()

    [folder] = commands.folders
    result = commands.run("canary-rollout", "resume", str(folder))

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


def test_a_blocked_rollout_goes_on_from_the_cohort_that_blocked(
    commands: Commands, staging: FakeStaging
) -> None:
    staging.probes[25] = answer(500, {})
    assert commands.rollout("--cohorts", "5,25,100").code == 1
    [folder] = commands.folders
    del staging.probes[25]

    run_id = cohort_rows(folder)[0]["run_id"]
    result = commands.run("canary-rollout", "resume", run_id)

    assert result.code == 0
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

    result = commands.run("canary-rollout", "resume", str(folder))

    assert result.code == 0
    assert [checkout.runs_of(gate) for gate in GATES] == [2, 2, 2, 2]


def test_a_rollout_that_was_allowed_is_not_run_again(
    commands: Commands, checkout: Checkout
) -> None:
    assert commands.rollout("--cohorts", "5").code == 0
    [folder] = commands.folders

    result = commands.run("canary-rollout", "resume", str(folder))

    assert result.code == 0
    assert "nothing is left to do" in result.out
    assert [checkout.runs_of(gate) for gate in GATES] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"OA_STAGING_CONTROL_AUTH_TOKEN": ""}, "this rollout probes live"),
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

    result = commands.run("canary-rollout", "resume", str(folder), more=more)

    assert result.code == 2
    [line] = result.err.splitlines()
    assert message in line
    assert decision(folder) == "Decision: block"


@pytest.mark.parametrize("name", ["no-such-thing", ".", "00000000-0000-0000-0000-000000000000"])
def test_what_is_no_rollout_is_not_resumed(name: str, commands: Commands) -> None:
    result = commands.run("canary-rollout", "resume", name)

    assert result.code == 2
    assert len(result.err.splitlines()) == 1
