"""Kill Dagster's whole process tree around a write, resume the rollout, and compare.

`test_kill_points.py` tries every moment of the core at every commit; here a few are enough, since
each costs a Dagster run. `make prove` tries all of them (`KILL_MATRIX=all`), and
`KILL_MATRIX_TABLE` names a file that gets the table for the docs.
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

KINDS = {"asks": 68, "allow": 68, "block": 78}
"""The moments of a rollout with one cohort, with every snapshot or made live, by how it ends."""

IN_ALL = os.environ.get("KILL_MATRIX") == "all"


def chosen(kind: str) -> list[Any]:
    """Some moments of a rollout for every day, all of them to prove."""
    few = range(10, KINDS[kind], KINDS[kind] // 2)
    moments = range(1, KINDS[kind] + 1) if IN_ALL else few
    return [
        pytest.param(kind, moment, marks=() if moment in few else pytest.mark.prove)
        for moment in moments
    ]


@pytest.fixture
def world(commands: Commands, checkout: Checkout, staging: FakeStaging) -> "World":
    return World(commands, checkout, staging)


@dataclass
class World:
    """Where a rollout is killed and gone on with."""

    commands: Commands
    checkout: Checkout
    staging: FakeStaging

    def becomes(self, kind: str) -> int:
        """Let rollouts be of a kind; return the exit code of one that is not killed."""
        if kind != "asks":
            let_apply(self.staging, self.checkout.folder)
            self.commands.environment |= {
                APPLY_VARIABLE: FAKE_APPLY,
                TIMEOUT_VARIABLE: "20",
                "OA_RUNTIME_METRICS_URL": "",
                "OA_CONTROL_STATUS_URL": "",
            }
        if kind == "block":
            self.staging.probes[5] = answer(500, {})
        return int(kind == "block")

    def run_and_kill(self, at: int, code: int) -> int:
        """Run a rollout that is killed at a moment, 0 for none; return how many there were."""
        counter, path = self.commands.folder / "moments", self.commands.environment["PYTHONPATH"]
        more = {
            "PYTHONPATH": f"{Path(__file__).parent / 'kill_points'}:{path}",
            "KILL_COUNTER": str(counter),
            "KILL_AT": str(at),
        }
        result = self.commands.dagster_rollout("--cohorts", "5", more=more)
        assert result.code == (-signal.SIGKILL if at else code), result.out + result.err
        moments = counter.stat().st_size
        counter.unlink()
        return moments

    @property
    def folder(self) -> Path | None:
        """The rollout's folder; None where nothing had begun."""
        begun = [folder for folder in self.commands.folders if (folder / "rollout.json").exists()]
        return begun[-1] if begun else None

    def go_on(self) -> Result:
        """Resume a killed rollout, or start another where nothing had begun."""
        if self.folder is None:
            return self.commands.dagster_rollout("--cohorts", "5")
        return self.commands.run("canary-rollout", "resume", str(self.folder))

    @property
    def is_live(self) -> bool:
        """Whether the cohort is live."""
        percent = live_in(self.checkout.folder / "live.env")["data"]["canary_user_percent"]
        assert percent in (0, 5)
        return bool(percent == 5)


@pytest.mark.prove
@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_knows_every_moment(kind: str, world: World) -> None:
    assert world.run_and_kill(0, world.becomes(kind)) == KINDS[kind]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "moment"), [each for kind in KINDS for each in chosen(kind)])
def test_a_rollout_that_was_killed_at_any_moment_comes_out_as_if_it_had_not_been(
    kind: str, moment: int, world: World
) -> None:
    word, code = "block" if kind == "block" else "allow", world.becomes(kind)
    world.run_and_kill(moment, code)
    killed, probed = world.folder, world.staging.probed
    in_flight = steps_in_flight(killed)
    finished = {row["gate"] for row in rows_so_far(killed, "gate-results.jsonl")}
    undone = rows_so_far(killed, "rollback-results.jsonl")

    result = world.go_on()

    assert result.code == code, result.out + result.err
    folder = world.folder
    assert folder
    assert decision(folder) == f"Decision: {word}"
    assert sorted({row["gate"] for row in gate_rows(folder)}) == sorted(GATES)
    assert all(world.checkout.runs_of(gate) == 1 for gate in finished)
    assert cohort_rows(folder)[-1]["status"] == ("failed" if kind == "block" else "passed")
    assert not (folder / "in-flight").exists()
    assert not list(folder.rglob(".*"))
    if kind == "allow":
        assert world.is_live
    if kind == "block":
        assert not world.is_live
        assert rollback_rows(folder)[-1]["status"] == "passed"
    elif "cohort 5" not in in_flight and not undone:
        assert world.staging.probed == [5]
    note(moment, in_flight, probed, f"{word} as undisturbed")


def steps_in_flight(folder: Path | None) -> list[str]:
    states = sorted(folder.glob("in-flight/*.json")) if folder else []
    return [json.loads(state.read_text())["step"] for state in states]


def rows_so_far(folder: Path | None, name: str) -> list[dict[str, Any]]:
    """The whole rows; the last may be torn."""
    file = folder / name if folder else None
    lines = file.read_text().splitlines(keepends=True) if file and file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def note(moment: int, in_flight: list[str], probed: list[int], outcome: str) -> None:
    """Add a row to the table for the docs."""
    table = os.environ.get("KILL_MATRIX_TABLE")
    if table:
        at = ", ".join(in_flight) or "between two steps"
        with Path(table).open("a") as file:
            file.write(f"| {moment:2} | {at} | {'yes' if probed else 'no'} | {outcome} |\n")
