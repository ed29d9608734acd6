"""Dagster's history in PostgreSQL: the same rollouts, and what a restart of it does to one."""

import signal
from pathlib import Path

import pytest

from canary_pipeline_tests.conftest import (
    DAGSTER_JOB,
    Commands,
    await_true,
    decision,
    soaks,
    statuses,
    under_way,
)
from canary_pipeline_tests.machines.conftest import SOAK, History
from canary_pipeline_tests.machines.servers import Server
from canary_pipeline_tests.test_dagster_dev import serving

pytestmark = pytest.mark.prove


@pytest.fixture
def home(commands: Commands, history: History) -> Path:
    """The folder of the commands' Dagster instance."""
    folder = Path(commands.environment["DAGSTER_HOME"])
    history.keep(folder)
    return folder


def told(history: History, home: Path) -> list[tuple[str, str]]:
    """What Dagster knows of each run: its status, and the decision that its tag tells."""
    runs = history.runs(home)
    return [(run.status.value, run.tags.get("canary/decision", "")) for run in runs]


@pytest.mark.machines
def test_a_job_that_is_executed_ends_with_its_decision(
    commands: Commands, history: History, home: Path
) -> None:
    result = commands.job(more={"OA_STAGING_CANARY_COHORTS": "5,100"})

    assert result.code == 0, result.out + result.err
    [folder] = commands.folders
    assert decision(folder) == "Decision: allow"
    assert told(history, home) == [("SUCCESS", "allow")]


@pytest.mark.machines
def test_a_run_that_is_launched_and_queued_ends_with_its_decision(
    commands: Commands, history: History, home: Path
) -> None:
    with serving(commands) as dev:
        assert dev.end_of(dev.launch()) == "SUCCESS"

    [folder] = commands.folders
    assert decision(folder) == "Decision: allow"
    assert statuses(folder) == [(cohort, "passed", None) for cohort in (5, 25, 100)]
    assert told(history, home) == [("SUCCESS", "allow")]


def notes(commands: Commands) -> list[object]:
    return [state for folder in filter(soaks, commands.folders) for state in under_way(folder)]


@pytest.mark.machines
def test_a_restart_in_a_soak_costs_nothing(
    commands: Commands, history: History, home: Path, postgres: Server
) -> None:
    more = {"OA_STAGING_CANARY_COHORTS": "5", SOAK: "20"}
    process = commands.start(*DAGSTER_JOB, more=more)
    before = await_true(lambda: notes(commands))
    postgres.end(signal.SIGQUIT)
    await_true(lambda: notes(commands) != before)  # noted every 5 s
    postgres.start()

    result = commands.finish(process)
    assert result.code == 0, result.out + result.err
    [folder] = commands.folders
    assert decision(folder) == "Decision: allow"
    assert told(history, home) == [("SUCCESS", "allow")]


@pytest.mark.timeout(400)
def test_a_storage_that_is_away_when_a_soak_ends_is_no_allow_and_the_run_says_so(
    commands: Commands, history: History, home: Path, postgres: Server
) -> None:
    process = commands.start(*DAGSTER_JOB, more={"OA_STAGING_CANARY_COHORTS": "5", SOAK: "1"})
    await_true(lambda: notes(commands))
    postgres.end(signal.SIGQUIT)
    await_true(lambda: any((each / "SUMMARY.md").exists() for each in commands.folders), 240)
    postgres.start()

    result = commands.finish(process)
    assert result.code == 1
    [folder] = commands.folders
    assert decision(folder) == "Decision: block"
    assert [status for status, _ in told(history, home)] == ["FAILURE"]
    resumed = commands.run("canary-rollout", "resume", str(folder))
    assert resumed.code == 0, resumed.out + resumed.err
    assert statuses(folder) == [(5, "passed", None)]  # not asked again
