"""The executor of a rollout: holds the environment while the steps run, and sees to the decision.

Around the steps the environment is claimed, and the rollout is concluded if its run is stopped or
crashes, so that there is a written decision whatever happens to a step, or to Dagster's storage.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import dagster as dg

from canary_pipeline.model.decision import Decision
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.orchestration.command import Command, commanded
from canary_pipeline.orchestration.dead_runs import fail_dead_runs, note_worker
from canary_pipeline.orchestration.engine import (
    ExecutionPlan,
    PlanOrchestrationContext,
    RetryMode,
    blocks,
    run_in_threads,
)
from canary_pipeline.orchestration.history_asset import history_name
from canary_pipeline.orchestration.one_daemon import refuse_another_s
from canary_pipeline.orchestration.rollout import Rollout, op_name
from canary_pipeline.orchestration.runs import by_whom, is_over, refuse_retry, unsay_inherited
from canary_pipeline.orchestration.work import Work, working
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.stop import Signals, Stop
from canary_pipeline.sources import evidence_url
from canary_pipeline.store.holding import Holding

RUN_LOOK_UP_SECONDS = 3.0
"""How often it is asked whether the run is over for Dagster."""


class RolloutNotAllowedError(Exception):
    """A run would have ended green although no summary says `allow`."""


def rollout_executor(rollout: Rollout) -> dg.ExecutorDefinition:
    """The executor for a job's rollouts; a launch has nothing to choose of it."""

    @dg.executor(name=f"{op_name(rollout.environment.name)}_rollout", config_schema={})
    def executor(_: dg.InitExecutorContext) -> dg.Executor:
        """Gates in parallel, then cohorts in order; one rollout of the environment at a time."""
        return RolloutExecutor(rollout)

    return executor


class RolloutExecutor(dg.Executor):
    """Runs the steps of one run as one rollout."""

    def __init__(self, rollout: Rollout) -> None:
        """Know what the definitions were built from."""
        self._rollout = rollout

    @property
    def retries(self) -> RetryMode:
        """Steps are never tried again: an outcome is data."""
        return RetryMode.DISABLED

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Run the steps while holding the environment, and see that there is a decision."""
        if set(execution_plan.step_keys_to_execute) == {history_name(self._rollout)}:
            yield from run_in_threads(plan_context, 1, lambda: False, Signals(), lambda _: None)
            return
        run, instance = plan_context.dagster_run, plan_context.instance
        unsay_inherited(instance, run)
        note_worker(instance, run)
        refuse_retry(run)
        rollout = self._rollout.of(run)
        refuse_another_s(run, rollout.environment)
        command = commanded() or Command()
        holder = {"run": run.run_id, "since": rfc3339(SystemClock().now())}
        environment, say = rollout.environment, plan_context.log.info
        url = evidence_url(environment, os.environ)
        holding = command.holding or Holding(environment.name, url, holder)
        with holding, command.signals as signals:
            signals.stop.held = holding
            holding.describe(holder)
            fail_dead_runs(instance, environment)
            keys = frozenset(execution_plan.step_keys_to_execute)
            with working(rollout, run, signals.stop, say, holding, keys=keys) as work:
                yield from self._steps(plan_context, work, signals)

    def _steps(
        self, plan_context: PlanOrchestrationContext, work: Work, signals: Signals
    ) -> Iterator[dg.DagsterEvent]:
        run, instance = plan_context.dagster_run, plan_context.instance
        failed = ""
        look_up = _looker(work.stop, lambda: is_over(instance, run.run_id))
        most = work.rollout.parallel_gates
        running = run_in_threads(plan_context, most, look_up, signals, work.break_off)
        try:
            with closing(running) as events:
                for event in events:
                    failed = failed or _failure(event)
                    yield event
        except BaseException as error:
            work.break_off(error)
            _conclude(work, signals, instance, failed or work.broken)
            raise
        decision = _conclude(work, signals, instance, failed or "a step did not end")
        if work.stop.why is not None:
            raise dg.DagsterExecutionInterruptedError(work.stop.why)
        if not failed and (decision is None or not decision.allowed):
            raise RolloutNotAllowedError("the run ended without a summary that says allow")
        if not failed and is_over(instance, run.run_id) is None:  # by force, since the last look
            work.promote(instance)


def _conclude(
    work: Work, signals: Signals, instance: dg.DagsterInstance, broken: str
) -> Decision | None:
    """Write the decision that no step has written, for a run that was stopped or broke."""
    why = work.stop.why
    signals.obey()
    stopped = None if why is None else by_whom(instance, work.run_id, why)
    return work.conclude(instance, broken, stopped, signals.check_again)


def _looker(stop: Stop, over: Callable[[], str | None]) -> Callable[[], bool]:
    """What the main thread does now and then: ask whether the run is over for Dagster."""
    asked = time.monotonic()

    def look_up() -> bool:
        nonlocal asked
        if stop.why is None and time.monotonic() - asked >= RUN_LOOK_UP_SECONDS:
            asked = time.monotonic()
            why = over()
            if why is not None:
                stop.request(why)
        return stop.why is not None

    return look_up


def _failure(event: dg.DagsterEvent) -> str:
    """Which step failed and by which kind of error; its text stays in Dagster's event log."""
    if not event.is_step_failure or blocks(event):
        return ""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return f"step {event.step_key} failed ({error.cls_name if error else 'no error recorded'})"
