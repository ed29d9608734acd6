"""What release engineers do in the browser, asked of a real `dagster dev` as the browser asks."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from canary_pipeline.store.journal import VARIABLE as JOURNAL_VARIABLE
from canary_pipeline_tests.conftest import (
    GATES,
    TOKEN,
    Checkout,
    Commands,
    await_true,
    cohort_rows,
    decision,
    new_checkout,
    new_commands,
    soaks,
    statuses,
)
from canary_pipeline_tests.fake_staging import FakeStaging, answer
from canary_pipeline_tests.forked_core import Forks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("dagster dev"),  # one for all
]

JOB = {
    "repositoryLocationName": "canary_pipeline",
    "repositoryName": "__repository__",
    "jobName": "staging_canary_rollout",
}

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""

REEXECUTE = """
mutation Reexecute($execution: ExecutionParams, $again: ReexecutionParams) {
  launchRunReexecution(executionParams: $execution, reexecutionParams: $again) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""

TERMINATE = """
mutation Terminate($run: String!) { terminateRun(runId: $run) { __typename } }
"""

RUN = """
query Run($run: ID!) {
  runOrError(runId: $run) { ... on Run { status runConfigYaml tags { key value } } }
}
"""


@dataclass
class Dev:
    """A `dagster dev` that is serving."""

    url: str
    commands: Commands

    def ask(self, query: str, **variables: Any) -> Any:
        """Ask GraphQL; return the data."""
        body = {"query": query, "variables": variables}
        found = requests.post(f"{self.url}/graphql", json=body, timeout=30).json()
        assert "errors" not in found, found
        return found["data"]

    def launch(self, **config: Any) -> str:
        """Launch the job; return the run id."""
        params = {
            "selector": JOB,
            "mode": "default",
            "runConfigData": json.dumps({"resources": {"rollout": {"config": config}}}),
            "executionMetadata": {"tags": [{"key": "canary/environment", "value": "staging"}]},
        }
        return self._launched(self.ask(LAUNCH, params=params)["launchRun"])

    def reexecute(self, run_id: str, strategy: str) -> str:
        """Re-execute a run; return the new run's id."""
        again = {"parentRunId": run_id, "strategy": strategy}
        return self._launched(self.ask(REEXECUTE, again=again)["launchRunReexecution"])

    def reexecute_steps(self, run_id: str, steps: list[str]) -> str:
        """Re-execute the selected steps of a run, as 'from selected' does."""
        tags = {tag["key"]: tag["value"] for tag in self.run(run_id)["tags"]}
        execution = {
            "selector": JOB,
            "mode": "default",
            "stepKeys": steps,
            "runConfigData": self.run(run_id)["runConfigYaml"],
            "executionMetadata": {
                "rootRunId": run_id,
                "parentRunId": run_id,
                "tags": [
                    {"key": key, "value": value}
                    for key, value in tags.items()
                    if key.startswith("canary/")
                ],
            },
        }
        return self._launched(self.ask(REEXECUTE, execution=execution)["launchRunReexecution"])

    @staticmethod
    def _launched(answered: Any) -> str:
        assert answered["__typename"] == "LaunchRunSuccess", answered
        return str(answered["run"]["runId"])

    def run(self, run_id: str) -> Any:
        """A run as it is now."""
        return self.ask(RUN, run=run_id)["runOrError"]

    def end_of(self, run_id: str) -> str:
        """Wait for a run's end; return its status."""
        ended = ("SUCCESS", "FAILURE", "CANCELED")
        await_true(lambda: self.run(run_id)["status"] in ended, every=0.25)
        return str(self.run(run_id)["status"])


@contextmanager
def serving(commands: Commands) -> Iterator[Dev]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (commands.folder / "dagster-dev.log").open("w") as log:
        process = commands.start(
            "dagster", "dev", "-m", "canary_pipeline", "-h", "127.0.0.1", "-p", str(port),
            more={
                "OA_STAGING_CANARY_COHORTS": "5,25,100",
                "OA_STAGING_CANARY_WATCH_SECONDS": "30",  # one probe a cohort
            },
            output=log,
        )  # fmt: skip
    dev = Dev(f"http://127.0.0.1:{port}", commands)

    def is_up() -> bool:
        try:
            return requests.get(f"{dev.url}/server_info", timeout=1).ok
        except requests.ConnectionError:
            return False

    await_true(is_up)
    yield dev
    os.killpg(process.pid, signal.SIGTERM)
    commands.finish(process)


@dataclass
class World:
    """What all tests of this module roll out with."""

    dev: Dev
    checkout: Checkout
    staging: FakeStaging


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, new_dagster_home: Path, core: Forks
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("dev")
    shutil.copytree(new_dagster_home, folder / "dagster")
    checkout = new_checkout(folder / "check out")
    with (
        FakeStaging.serving(TOKEN) as staging,
        new_commands(folder, checkout, staging, core) as commands,
        serving(commands) as dev,
    ):
        yield World(dev, checkout, staging)


@pytest.fixture
def checkout(world: World) -> Checkout:
    shutil.rmtree(world.checkout.folder / "started")
    (world.checkout.folder / "started").mkdir()
    return world.checkout


@pytest.fixture
def staging(world: World) -> FakeStaging:
    world.staging.probes.clear()
    world.staging.seen.clear()
    return world.staging


@pytest.fixture
def dev(world: World) -> Dev:
    """A `dagster dev` without rollouts, whatever it has done before."""
    commands = world.dev.commands
    for name in (commands.environment[JOURNAL_VARIABLE], commands.folder / "output"):
        shutil.rmtree(name, ignore_errors=True)
    return world.dev


def soaking(commands: Commands) -> Path | None:
    return next(filter(soaks, commands.folders), None)


def test_a_launch_with_untouched_config_is_allowed_and_tagged(dev: Dev) -> None:
    run_id = dev.launch()

    assert dev.end_of(run_id) == "SUCCESS"
    [folder] = dev.commands.folders
    assert decision(folder) == "Decision: allow"
    tags = {tag["key"]: tag["value"] for tag in dev.run(run_id)["tags"]}
    assert tags["canary/decision"] == "allow"
    assert tags["canary/rollout"] == str(folder)


def test_terminate_stops_a_soak_and_from_failure_goes_on_with_what_is_left(
    dev: Dev, staging: FakeStaging, checkout: Checkout
) -> None:
    first = dev.launch(cohorts=[5], cohort_soak_seconds=20)
    folder = await_true(lambda: soaking(dev.commands))

    dev.ask(TERMINATE, run=first)

    assert dev.end_of(first) == "CANCELED"
    assert decision(folder) == "Decision: block"
    summary = (folder / "SUMMARY.md").read_text()
    assert "attempt 1 aborted: terminated through Dagster, at cohort 5 (soak)" in summary

    second = dev.reexecute(first, "FROM_FAILURE")

    assert dev.end_of(second) == "SUCCESS"
    assert dev.commands.folders == [folder]
    assert decision(folder) == "Decision: allow"
    assert staging.probed == [5]
    assert [checkout.runs_of(gate) for gate in GATES] == [1, 1, 1, 1]
    [row] = cohort_rows(folder)
    assert (row["attempt"], row["run_id"]) == (2, second)


def test_from_asset_failure_and_from_failure_go_on_at_the_cohort_that_blocked(
    dev: Dev, staging: FakeStaging
) -> None:
    staging.probes[25] = answer(500, {})
    first = dev.launch()
    assert dev.end_of(first) == "FAILURE"
    [folder] = dev.commands.folders
    assert decision(folder) == "Decision: block"

    assets = dev.reexecute(first, "FROM_ASSET_FAILURE")
    assert dev.end_of(assets) == "FAILURE"
    assert staging.probed == [5, 25, 25]
    del staging.probes[25]
    last = dev.reexecute(assets, "FROM_FAILURE")

    assert dev.end_of(last) == "SUCCESS"
    assert dev.commands.folders == [folder]
    assert staging.probed == [5, 25, 25, 25, 100]
    assert decision(folder) == "Decision: allow"
    assert statuses(folder)[-2:] == [(25, "passed", None), (100, "passed", None)]


def test_steps_without_the_summary_are_no_green_run_and_all_steps_are_a_new_rollout(
    dev: Dev,
) -> None:
    first = dev.launch(cohorts=[5])
    assert dev.end_of(first) == "SUCCESS"
    [folder] = dev.commands.folders

    second = dev.reexecute_steps(first, ["staging_cohorts.cohort_5"])
    assert dev.end_of(second) == "FAILURE"
    third = dev.reexecute(first, "ALL_STEPS")
    assert dev.end_of(third) == "SUCCESS"

    assert len(dev.commands.folders) == 2
    assert decision(folder) == "Decision: allow"
    assert len(cohort_rows(folder)) == 1


def test_what_is_launched_meanwhile_waits_in_the_queue_and_shows_no_decision(
    dev: Dev, staging: FakeStaging
) -> None:
    allowed = dev.launch(cohorts=[5])
    assert dev.end_of(allowed) == "SUCCESS"
    first = dev.launch(cohorts=[25], cohort_soak_seconds=10)
    await_true(lambda: soaking(dev.commands))

    second = dev.reexecute(allowed, "ALL_STEPS")

    run = dev.run(second)
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert (run["status"], tags["canary/decision"]) == ("QUEUED", "none")
    assert tags["canary/launched-by"].startswith("re-execution, ")
    assert [dev.end_of(run) for run in (first, second)] == ["SUCCESS", "SUCCESS"]
    assert staging.probed == [5, 25, 5]
    assert len(dev.commands.folders) == 3
