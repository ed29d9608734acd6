"""Kill a rollout at every moment around a change to its files, go on with it, and compare.

The core is killed in a fork, with real bash, HTTP and fsync, so that every moment can be tried at
every commit; `test_kill_matrix.py` does the same to Dagster's whole process tree.
"""

import json
import re
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.journal import Journal
from canary_pipeline_tests.conftest import (
    Checkout,
    Commands,
    decision,
    new_checkout,
    rows,
)
from canary_pipeline_tests.fake_staging import FakeStaging, answer
from canary_pipeline_tests.forked_core import Ended
from canary_pipeline_tests.live_staging import (
    APPLY_VARIABLE,
    FAKE_APPLY,
    TIMEOUT_VARIABLE,
    let_apply,
    live_in,
)

pytestmark = pytest.mark.slow

SLICES = 12
"""Into so many tests the moments of one rollout are dealt, one after another."""

RUN = ("run", "--cohorts", "5,100", "--cohort-soak-seconds", "0")


@dataclass
class World:
    """One rollout's: its folders, and the staging that it changes."""

    commands: Commands
    checkout: Checkout
    staging: FakeStaging
    journal: Path

    def new(self, name: str) -> None:
        """Begin anew: nothing has been rolled out, nothing is live, nobody has asked."""
        self.commands.folder = self.commands.folder.parent / name
        self.commands.folder.mkdir()
        shutil.rmtree(self.checkout.folder)
        new_checkout(self.checkout.folder)
        shutil.rmtree(self.journal, ignore_errors=True)
        self.staging.seen.clear()

    def run(self, *arguments: str, kill_at: int = 0) -> Ended:
        commands = self.commands
        return commands.core.run(commands.folder, commands.environment, *arguments, kill_at=kill_at)

    @property
    def folder(self) -> Path | None:
        """The rollout's folder; None where nothing had begun."""
        begun = [folder for folder in self.commands.folders if (folder / "rollout.json").exists()]
        return begun[-1] if begun else None


@dataclass(frozen=True)
class Outcome:
    """All that must be as if the rollout had never been killed."""

    code: int
    decision: str
    gates: dict[str, str]
    cohorts: dict[int, tuple[str, str | None]]
    files: frozenset[str]
    live: Any
    owed: Any
    problems: tuple[Any, ...]


def outcome(world: World, code: int) -> Outcome:
    folder = world.folder
    assert folder
    record = Evidence(folder).verified_record()
    paths = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return Outcome(
        code,
        decision(folder),
        {row.gate: row.status for row in record.gate_rows},
        {row.cohort_percent: (row.status, row.reason) for row in record.cohort_rows},
        # A later attempt's log or response carries its number.
        frozenset(re.sub(r"\.\d(?=\.(log|json)$)|(?<=rollback-)\d", "", path) for path in paths),
        live_in(world.checkout.folder / "live.env"),
        Journal("staging").read().owed,
        record.problems,
    )


@pytest.fixture
def world(commands: Commands, checkout: Checkout, staging: FakeStaging, journal: Path) -> World:
    let_apply(staging, checkout.folder)
    commands.environment[TIMEOUT_VARIABLE] = "20"
    return World(commands, checkout, staging, journal)


def undisturbed(kind: str, world: World) -> tuple[Outcome, tuple[str, ...]]:
    """Let a rollout of a kind run to its end; return how that is, and its moments."""
    if kind != "asks":
        world.commands.environment[APPLY_VARIABLE] = FAKE_APPLY
        # Snapshots are the same as in the other kind.
        world.commands.environment |= {"OA_RUNTIME_METRICS_URL": "", "OA_CONTROL_STATUS_URL": ""}
    if kind == "rolls back":
        world.staging.probes[100] = answer(500, {})
    world.new("undisturbed")
    ended = world.run(*RUN)
    assert ended.code == (kind == "rolls back"), ended.out
    return outcome(world, ended.code), ended.moments


def first_moment(kind: str, moments: tuple[str, ...]) -> int:
    """From when on a kind differs from the kinds before it."""
    return moments.index("after replace of cohort-100.json") + 1 if kind == "rolls back" else 1


def test_a_log_is_kept_before_the_row_that_names_its_digest(world: World) -> None:
    _, moments = undisturbed("rolls back", world)

    def kept(what: str) -> int:
        return moments.index(f"after fsync of {what}")

    assert kept("apply-5.log") < kept("cohort-results.jsonl")
    assert kept("rollback-1.log") < kept("rollback-results.jsonl")
    assert min(accumulate(map(_of_gates, moments))) == 0


def _of_gates(moment: str) -> int:
    """How many more logs of gates than rows are kept by a moment."""
    if moment == "before fsync of gate-results.jsonl":
        return -1
    return int(moment.startswith("after fsync of gate-s"))  # as every gate's name begins


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("kind", ["asks", "applies", "rolls back"])
def test_a_rollout_killed_at_any_moment_ends_as_if_it_had_not_been(
    kind: str, part: int, world: World
) -> None:
    expected, moments = undisturbed(kind, world)

    for moment in range(first_moment(kind, moments), len(moments) + 1):
        if moment % SLICES == part:
            killed_and_gone_on(world, moment, expected)


def killed_and_gone_on(world: World, moment: int, expected: Outcome) -> None:
    world.new(f"moment-{moment}")
    killed = world.run(*RUN, kill_at=moment)
    assert killed.code == -signal.SIGKILL
    where = f"moment {moment}, {killed.moments[-1]}"
    folder, probed = world.folder, set(world.staging.probed)
    for_good = passed_for_good(folder, expected) if folder else set()

    ended = world.run(*(("resume", str(folder)) if folder else RUN))

    assert outcome(world, ended.code) == expected, f"{where}\n{ended.out}"
    again = {percent for percent, times in Counter(world.staging.probed).items() if times > 1}
    assert again <= probed - for_good, where


def passed_for_good(folder: Path, expected: Outcome) -> set[int]:
    """The cohorts that need no further probe: passed, and not rolled back since.

    What a killed rollout has left does not say more than it had reached, either.
    """
    header = json.loads((folder / "rollout.json").read_text())
    if (folder / "SUMMARY.md").exists():
        ended = header["attempts"][-1]["outcome"] == "finished"
        assert decision(folder) in ("Decision: block", expected.decision if ended else "")
    if (folder / "decision.json").exists():
        passed = '"result": "PASSED"' in (folder / "decision.json").read_text()
        assert not passed or decision(folder) == "Decision: allow"
    if header["restoring"] or (folder / "rollback-results.jsonl").exists():
        return set()
    results = rows(folder, "cohort-results.jsonl")
    return {row["cohort_percent"] for row in results if row["status"] == "passed"}
