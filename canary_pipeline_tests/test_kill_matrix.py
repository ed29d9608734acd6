"""Kill a rollout's whole process tree at every moment around a write, resume it, and compare.

`KILL_MATRIX=all` kills at every moment, and `KILL_MATRIX_TABLE` names a file that gets the table
for the docs; otherwise every third moment is enough.
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
    cohort_rows,
    decision,
    gate_rows,
)
from canary_pipeline_tests.fake_staging import FakeStaging

pytestmark = pytest.mark.slow

MOMENTS = 66
"""The moments of a rollout with one cohort and every snapshot; a test below counts them."""

CHOSEN = range(1, MOMENTS + 1, 1 if os.environ.get("KILL_MATRIX") == "all" else 3)


@dataclass(frozen=True)
class Killed:
    """What a killed rollout left.

    Attributes:
        folder: Its folder, or None where it had made none.
        in_flight: The steps that it was at.
    """

    folder: Path | None
    in_flight: list[str]


def run_and_kill(commands: Commands, at: int) -> int:
    """Run a rollout that is killed at a moment; return how many moments there were."""
    counter = commands.folder / "moments"
    more = {
        "PYTHONPATH": str(Path(__file__).parent / "kill_points"),
        "KILL_COUNTER": str(counter),
        "KILL_AT": str(at),
    }
    process = commands.start("canary-rollout", "run", "--cohorts", "5", more=more)
    commands.finish(process)
    assert process.returncode == (-signal.SIGKILL if at else 0)
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
    assert not (folder / "SUMMARY.md").exists() or decision(folder) == "Decision: block"
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
