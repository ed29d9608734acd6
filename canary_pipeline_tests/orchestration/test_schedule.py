"""When the schedule rolls out, and when it leaves a rollout alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from canary_pipeline.environments import STAGING
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions
from canary_pipeline.outside.claim import CLAIM_FOLDER_VARIABLE, Claim


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv(CLAIM_FOLDER_VARIABLE, str(tmp_path))
    with dg.instance_for_test() as instance:
        yield instance


def schedule(**variables: str) -> dg.ScheduleDefinition:
    name = "staging_canary_rollout_schedule"
    return rollout_definitions(STAGING, variables).resolve_schedule_def(name)


def tick(instance: dg.DagsterInstance) -> tuple[int, str | None]:
    """How many runs a tick asks for, and why it skips."""
    data = schedule().evaluate_tick(dg.build_schedule_context(instance))
    return len(data.run_requests or []), data.skip_message


def test_it_is_off_until_switched_on_and_its_times_are_settings() -> None:
    chosen = schedule(
        OA_STAGING_CANARY_CRON="30 7 * * 2", OA_STAGING_CANARY_TIMEZONE="Europe/Berlin"
    )

    assert chosen.default_status == dg.DefaultScheduleStatus.STOPPED
    assert chosen.job_name == "staging_canary_rollout"
    assert (chosen.cron_schedule, chosen.execution_timezone) == ("30 7 * * 2", "Europe/Berlin")
    assert (schedule().cron_schedule, schedule().execution_timezone) == ("0 6 * * 1-5", "UTC")


def test_a_tick_asks_for_a_run_with_the_job_s_own_config(instance: dg.DagsterInstance) -> None:
    data = schedule().evaluate_tick(dg.build_schedule_context(instance))

    [request] = data.run_requests or []
    assert request.run_config == {}


def test_a_tick_skips_while_a_rollout_is_under_way_and_names_it(
    instance: dg.DagsterInstance,
) -> None:
    with Claim("staging", {"run": "r-1", "pid": str(os.getpid())}):
        runs, why = tick(instance)

    assert (runs, why) == (0, f"a rollout of staging is under way: run r-1, pid {os.getpid()}")
    assert tick(instance) == (1, None)


def test_a_killed_rollout_holds_no_tick_up(instance: dg.DagsterInstance) -> None:
    program = (
        "import os, signal\n"
        "from canary_pipeline.outside.claim import Claim\n"
        "with Claim('staging', {'pid': str(os.getpid())}):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9

    assert tick(instance) == (1, None)


def test_a_tick_skips_while_a_launched_rollout_has_not_begun(instance: dg.DagsterInstance) -> None:
    waiting = create_run_for_test(
        instance, tags={"canary/environment": "staging"}, status=dg.DagsterRunStatus.STARTING
    )

    assert tick(instance) == (0, f"a rollout of staging waits: run {waiting.run_id}")
