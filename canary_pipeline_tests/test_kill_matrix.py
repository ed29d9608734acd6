"""Kill a rollout's whole process tree at every moment around a write, resume it, and compare.

`KILL_MATRIX=all` kills at every moment, and `KILL_MATRIX_TABLE` names a file that gets the table
for the docs; otherwise some of them are enough.
"""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline_tests.conftest import (
    GATES,
    Checkout,
    Commands,
    Result,
    cohort_rows,
    decision,
    gate_rows,
)
from canary_pipeline_tests.fake_staging import FakeStaging, answer
from canary_pipeline_tests.live_staging import (
    APPLY_VARIABLE,
    FAKE_APPLY,
    TIMEOUT_VARIABLE,
    let_apply,
    live_in,
    rollback_rows,
)

pytestmark = pytest.mark.slow

MOMENTS = 68
"""The moments of a rollout with one cohort and every snapshot; a test below counts them."""

CHOSEN = range(1, MOMENTS + 1, 1 if os.environ.get("KILL_MATRIX") == "all" else 13)


@dataclass(frozen=True)
class Killed:
    """What a killed rollout left.

    Attributes:
        folder: Its folder, or None where it had made none.
        in_flight: The steps that it was at.
    """

    folder: Path | None
    in_flight: list[str]


def run_and_kill(commands: Commands, at: int, code: int = 0) -> int:
    """Run a rollout that is killed at a moment; return how many moments there were.

    Args:
        commands: The world.
        at: The moment; 0 kills at none.
        code: The exit code of a rollout that is not killed.
    """
    counter = commands.folder / "moments"
    more = {
        "PYTHONPATH": str(Path(__file__).parent / "kill_points"),
        "KILL_COUNTER": str(counter),
        "KILL_AT": str(at),
    }
    process = commands.start("canary-rollout", "run", "--cohorts", "5", more=more)
    commands.finish(process)
    assert process.returncode == (-signal.SIGKILL if at else code)
    moments = counter.stat().st_size
    counter.unlink()
    return moments


def what_is_left(commands: Commands) -> Killed:
    folder = commands.folders[0] if commands.folders else None
    states = sorted(folder.glob("in-flight/*.json")) if folder else []
    return Killed(folder, [json.loads(state.read_text())["step"] for state in states])


def test_the_matrix_knows_every_moment(commands: Commands) -> None:
    assert run_and_kill(commands, at=0) == MOMENTS


@pytest.mark.parametrize("moment", CHOSEN)
def test_a_rollout_that_was_killed_at_any_moment_comes_out_as_if_it_had_not_been(
    moment: int, commands: Commands, checkout: Checkout, staging: FakeStaging
) -> None:
    run_and_kill(commands, at=moment)
    killed = what_is_left(commands)
    probed_before = len(staging.probed)

    outcome = resumed(commands, killed, checkout, staging)

    note(moment, killed, probed_before, outcome)


def resumed(commands: Commands, killed: Killed, checkout: Checkout, staging: FakeStaging) -> str:
    folder = killed.folder
    if folder is None or not (folder / "rollout.json").exists():
        # Nothing had begun: there is nothing to resume, and nothing in the way of the next.
        result = commands.rollout("--cohorts", "5")
        assert result.code == 0, result.out + result.err
        return "nothing had begun; the next rollout is allowed"
    header = json.loads((folder / "rollout.json").read_text())
    # Between the decision and its picture all has been decided.
    decided = [attempt["outcome"] for attempt in header["attempts"]] == ["finished"]
    assert not (folder / "SUMMARY.md").exists() or decided or decision(folder) == "Decision: block"
    finished = {row["gate"] for row in gate_rows_so_far(folder)}

    result = commands.run("canary-rollout", "resume", str(folder))

    assert result.code == 0, result.out + result.err
    assert decision(folder) == "Decision: allow"
    rows = gate_rows(folder)
    assert sorted(row["gate"] for row in rows) == sorted(GATES)
    assert all(checkout.runs_of(gate) == 1 for gate in finished)
    assert [row["status"] for row in cohort_rows(folder)] == ["passed"]
    in_flight = "cohort 5" in killed.in_flight
    assert staging.probed in ([[5], [5, 5]] if in_flight else [[5]])
    assert not (folder / "in-flight").exists()
    assert not list(folder.rglob(".*"))
    again = ", the probe in flight was asked again" if staging.probed == [5, 5] else ""
    return f"allow as undisturbed{again}"


def gate_rows_so_far(folder: Path) -> list[dict[str, Any]]:
    """The whole rows; the last may be torn."""
    file = folder / "gate-results.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def note(moment: int, killed: Killed, probed: int, outcome: str) -> None:
    """Add a row to the table for the docs."""
    table = os.environ.get("KILL_MATRIX_TABLE")
    if table:
        at = ", ".join(killed.in_flight) or "between two steps"
        with Path(table).open("a") as file:
            file.write(f"| {moment:2} | {at} | {'yes' if probed else 'no'} | {outcome} |\n")


APPLYING_MOMENTS = {"allow": 66, "block": 74}
"""The moments of a rollout that makes its one cohort live, without snapshots, by how it ends."""


@pytest.fixture
def applying(commands: Commands, checkout: Checkout, staging: FakeStaging) -> Commands:
    """Commands that make their cohorts live."""
    let_apply(staging, checkout.folder)
    commands.environment.update(
        {
            APPLY_VARIABLE: FAKE_APPLY,
            TIMEOUT_VARIABLE: "5",
            "OA_RUNTIME_METRICS_URL": "",
            "OA_CONTROL_STATUS_URL": "",
        }
    )
    return commands


def ends_in(word: str, staging: FakeStaging) -> int:
    """Let a rollout end in this decision; return its exit code."""
    if word == "block":
        staging.probes[5] = answer(500, {})
    return int(word == "block")


@pytest.mark.parametrize("word", APPLYING_MOMENTS)
def test_the_matrix_knows_every_moment_of_a_rollout_that_changes_staging(
    word: str, applying: Commands, staging: FakeStaging
) -> None:
    moments = run_and_kill(applying, at=0, code=ends_in(word, staging))

    assert moments == APPLYING_MOMENTS[word]


EVERY = 1 if os.environ.get("KILL_MATRIX") == "all" else 19


@pytest.mark.parametrize(
    ("word", "moment"),
    [
        *(("allow", moment) for moment in range(1, APPLYING_MOMENTS["allow"] + 1, EVERY)),
        # Up to the probe both are the same.
        *(("block", moment) for moment in range(38, APPLYING_MOMENTS["block"] + 1, EVERY)),
    ],
)
def test_a_killed_rollout_that_changes_staging_leaves_it_as_its_decision_says(
    word: str, moment: int, applying: Commands, checkout: Checkout, staging: FakeStaging
) -> None:
    code = ends_in(word, staging)
    run_and_kill(applying, at=moment)
    killed = what_is_left(applying)
    probed_before = len(staging.probed)
    if killed.folder is not None and (killed.folder / "SUMMARY.md").exists():
        allowed = word == "allow" and is_live(checkout)
        assert decision(killed.folder) == "Decision: block" or allowed

    result = go_on(applying, killed.folder)

    assert result.code == code, result.out + result.err
    [folder] = applying.folders[-1:]
    assert decision(folder) == f"Decision: {word}"
    assert is_live(checkout) == (word == "allow")
    restored = [row["status"] for row in rollback_rows(folder)]
    assert restored[-1:] == ([] if word == "allow" else ["passed"])
    assert cohort_rows(folder)[-1]["status"] == ("passed" if word == "allow" else "failed")
    assert not (folder / "in-flight").exists()
    left = "live" if is_live(checkout) else "restored"
    note(moment, killed, probed_before, f"{word} as undisturbed, staging {left}")


def is_live(checkout: Checkout) -> bool:
    """Whether the cohort is live."""
    percent = live_in(checkout.folder / "live.env")["data"]["canary_user_percent"]
    assert percent in (0, 5)
    return bool(percent == 5)


def go_on(commands: Commands, folder: Path | None) -> Result:
    """Resume a killed rollout, or start another where nothing had begun."""
    if folder is None or not (folder / "rollout.json").exists():
        return commands.rollout("--cohorts", "5")
    return commands.run("canary-rollout", "resume", str(folder))
