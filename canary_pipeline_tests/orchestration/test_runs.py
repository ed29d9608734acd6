"""What a run says of itself, when nobody works on it any more, and what automation makes of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from canary_pipeline.environments import STAGING
from canary_pipeline.model.decision import decide
from canary_pipeline.orchestration.dead_runs import WORKER_TAG, fail_dead_runs, note_worker
from canary_pipeline.orchestration.pages import promotion_key, report_decision, report_promotion
from canary_pipeline.orchestration.rollout_definitions import rollout_definitions
from canary_pipeline.orchestration.runs import (
    DECISION_TAG,
    LAUNCHED_BY_TAG,
    ROLLOUT_TAG,
    is_over,
    refuse_retry,
    unsay_inherited,
)
from canary_pipeline.outside.claim import CLAIM_FOLDER_VARIABLE
from canary_pipeline_tests.fake_staging import answer
from canary_pipeline_tests.rollouts_at_hand import AtHand, at_hand

__all__ = ["at_hand"]

JOB = "staging_canary_rollout"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv(CLAIM_FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("CANARY_PIPELINE_STATE_DIR", str(tmp_path))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


def new_run(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus | None = None
) -> dg.DagsterRun:
    tags = {"canary/environment": "staging"}
    run: dg.DagsterRun = create_run_for_test(instance, JOB, tags=tags, status=status)
    return run


def again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    found = instance.get_run_by_id(run.run_id)
    assert found
    return found


# -- tags -------------------------------------------------------------------------------------


def test_a_run_unsays_what_it_has_inherited_and_what_somebody_has_written(
    instance: dg.DagsterInstance,
) -> None:
    inherited = {
        DECISION_TAG: "allow",
        ROLLOUT_TAG: "/yesterday",
        "dagster/schedule_name": "s",
        "canary/environment": "staging",
    }
    child = create_run_for_test(instance, JOB, tags=inherited, parent_run_id="p", root_run_id="p")

    unsay_inherited(instance, child)

    tags = again(instance, child).tags
    assert (tags[DECISION_TAG], tags[ROLLOUT_TAG], tags["dagster/schedule_name"]) == (
        "none",
        "",
        "",
    )
    assert tags[LAUNCHED_BY_TAG].startswith("re-execution, ")


def test_a_run_of_the_schedule_keeps_what_says_so(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, JOB, tags={"dagster/schedule_name": "s"})

    unsay_inherited(instance, run)

    assert again(instance, run).tags[LAUNCHED_BY_TAG] == "schedule s"


def test_dagster_does_not_retry_an_outcome_and_its_retry_is_refused_with_a_sentence(
    instance: dg.DagsterInstance,
) -> None:
    job = rollout_definitions(STAGING, {}).resolve_job_def(JOB)
    assert job.run_tags["dagster/max_retries"] == "0"

    refuse_retry(create_run_for_test(instance, JOB))
    with pytest.raises(dg.Failure) as caught:
        refuse_retry(create_run_for_test(instance, JOB, tags={"dagster/retry_number": "1"}))
    assert "a rollout that blocks has not crashed" in str(caught.value.description)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("Canceling due to exceeding maximum runtime of 5 seconds.", "after its maximum runtime"),
        (None, "terminated through Dagster"),
    ],
)
def test_why_a_run_is_over_is_said_in_dagster_s_words(
    message: str | None, why: str, instance: dg.DagsterInstance
) -> None:
    run = new_run(instance, dg.DagsterRunStatus.STARTED)
    assert is_over(instance, run.run_id) is None

    instance.report_run_canceling(run, message)

    assert (is_over(instance, run.run_id) or "").endswith(why)
    instance.report_run_canceled(again(instance, run))
    assert is_over(instance, run.run_id) == "force-terminated in Dagster"
    instance.delete_run(run.run_id)
    assert is_over(instance, run.run_id) == "its run was deleted in Dagster"


# -- the dead ---------------------------------------------------------------------------------


def killed_worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Let a process work on a run, and kill it."""
    program = (
        "import os, signal, sys, dagster as dg\n"
        "from canary_pipeline.orchestration.dead_runs import note_worker\n"
        "with dg.DagsterInstance.local_temp(sys.argv[1]) as instance:\n"
        "    note_worker(instance, instance.get_run_by_id(sys.argv[2]))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, instance.root_directory, run.run_id]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
def test_the_run_of_a_killed_process_is_failed_and_later_ones_need_not_wait(
    status: dg.DagsterRunStatus, instance: dg.DagsterInstance
) -> None:
    run = new_run(instance, status)
    killed_worker(instance, run)

    fail_dead_runs(instance, STAGING)

    assert again(instance, run).status == dg.DagsterRunStatus.FAILURE


def test_a_run_that_somebody_works_on_is_left_alone(instance: dg.DagsterInstance) -> None:
    ours = new_run(instance, dg.DagsterRunStatus.STARTED)
    note_worker(instance, ours)
    elsewhere = new_run(instance, dg.DagsterRunStatus.STARTED)
    instance.add_run_tags(elsewhere.run_id, {WORKER_TAG: f"{elsewhere.run_id} another-host 1.1"})
    copied = new_run(instance, dg.DagsterRunStatus.STARTED)
    instance.add_run_tags(copied.run_id, {WORKER_TAG: "its-parent this-host 1.1"})
    other = create_run_for_test(instance, "other", status=dg.DagsterRunStatus.STARTED)

    fail_dead_runs(instance, STAGING)

    for run in (ours, elsewhere, copied, other):
        assert again(instance, run).status == dg.DagsterRunStatus.STARTED


def test_a_pid_that_is_used_again_is_another_process(instance: dg.DagsterInstance) -> None:
    run = new_run(instance, dg.DagsterRunStatus.STARTED)
    note_worker(instance, run)
    said = again(instance, run).tags[WORKER_TAG]
    instance.add_run_tags(run.run_id, {WORKER_TAG: f"{said.rpartition('.')[0]}.1"})

    fail_dead_runs(instance, STAGING)

    assert again(instance, run).status == dg.DagsterRunStatus.FAILURE
    assert f" {os.getpid()}." in said


# -- the schedule -----------------------------------------------------------------------------


def tick(instance: dg.DagsterInstance, due: datetime) -> tuple[int, str | None]:
    """How many runs a tick asks for, and why it skips."""
    schedule = rollout_definitions(STAGING, {}).resolve_schedule_def(f"{JOB}_schedule")
    data = schedule.evaluate_tick(dg.build_schedule_context(instance, due))
    return len(data.run_requests or []), data.skip_message


def test_a_tick_that_comes_hours_late_is_skipped(instance: dg.DagsterInstance) -> None:
    now = datetime.now(UTC)

    assert tick(instance, now - timedelta(minutes=10)) == (1, None)
    runs, why = tick(instance, now - timedelta(hours=3))
    assert runs == 0
    assert (why or "").startswith("this was due 3.0 h ago, at ")


def test_a_dead_run_holds_up_no_tick(instance: dg.DagsterInstance) -> None:
    run = new_run(instance, dg.DagsterRunStatus.STARTED)
    killed_worker(instance, run)

    assert tick(instance, datetime.now(UTC)) == (1, None)

    assert again(instance, run).status == dg.DagsterRunStatus.FAILURE


# -- promotion --------------------------------------------------------------------------------


def test_automation_hangs_on_to_an_allow_and_to_nothing_else(at_hand: AtHand) -> None:
    @dg.asset(deps=[promotion_key(STAGING)], automation_condition=dg.AutomationCondition.eager())
    def production() -> None: ...

    @dg.asset_sensor(asset_key=promotion_key(STAGING), job_name="deploy")
    def on_promotion(_: dg.SensorEvaluationContext, event: dg.EventLogEntry) -> dg.RunRequest:
        return dg.RunRequest(run_key=str(event.timestamp))

    ours = rollout_definitions(STAGING, {})
    deploy = dg.define_asset_job("deploy", [production])
    theirs = dg.Definitions([production], jobs=[deploy], sensors=[on_promotion])
    every = dg.Definitions.merge(ours, theirs)
    sensor = every.resolve_sensor_def("on_promotion")
    at_hand.staging.probes[100] = answer(500, {})
    blocked, _ = at_hand.roll_out("blocked")
    at_hand.staging.probes.clear()
    allowed, _ = at_hand.roll_out("allowed")

    with dg.DagsterInstance.ephemeral() as instance:

        def requested(cursor: dg.AutomationCondition | object) -> tuple[int, int, object]:  # type: ignore[type-arg]
            result = dg.evaluate_automation_conditions(every, instance, cursor=cursor)  # type: ignore[arg-type]
            context = dg.build_sensor_context(instance, definitions=every)
            asked = sensor.evaluate_tick(context).run_requests or []
            return result.get_num_requested(production.key), len(asked), result.cursor

        eager, asked, cursor = requested(None)
        assert (eager, asked) == (0, 0)

        report_decision(instance, STAGING, blocked, decide(blocked.verified_record()))
        eager, asked, cursor = requested(cursor)
        assert (eager, asked) == (0, 0)

        record = allowed.verified_record()
        report_decision(instance, STAGING, allowed, decide(record))
        report_promotion(instance, STAGING, allowed, record)
        eager, asked, cursor = requested(cursor)
        assert (eager, asked) == (1, 1)
