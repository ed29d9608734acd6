"""The executor of a rollout: holds the environment while the steps run, and sees to the decision.

Steps run in processes forked from a server that has imported everything they need. Around that,
in the process that outlives them all, the rollout is claimed, and concluded if its run is
stopped or crashes, so that there is a written decision whatever happens to a step.
"""

import gc
import importlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode

from canary_pipeline.forkserver import PRELOADED_MODULES
from canary_pipeline.orchestration.history_asset import history_name
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import LAUNCHED_BY_TAG, conclude, launched_by
from canary_pipeline.outside.claim import Claim
from canary_pipeline.outside.clock import SystemClock, rfc3339


class RolloutNotAllowedError(Exception):
    """A run would have ended green although no summary says `allow`."""


def rollout_executor(rollout: Rollout) -> dg.ExecutorDefinition:
    """The executor for one environment's rollouts; a launch has nothing to choose of it."""

    @dg.executor(
        name=f"{rollout.environment.name}_rollout",
        config_schema={},
        requirements=dg.multiple_process_executor_requirements(),
    )
    def executor(context: dg.InitExecutorContext) -> dg.Executor:
        """Gates in parallel, then cohorts in order; one rollout of the environment at a time."""
        return RolloutExecutor(rollout, _forkserver_executor(context, rollout))

    return executor


def _forkserver_executor(context: dg.InitExecutorContext, rollout: Rollout) -> dg.Executor:
    create: Callable[[dg.InitExecutorContext], dg.Executor] | None
    create = dg.multiprocess_executor.executor_creation_fn
    if create is None:
        raise TypeError("dagster's multiprocess executor cannot be created")
    return create(
        context._replace(
            executor_config={
                "max_concurrent": rollout.parallel_gates,
                "retries": {"disabled": {}},
                "start_method": {"forkserver": {"preload_modules": list(PRELOADED_MODULES)}},
            }
        )
    )


class RolloutExecutor(dg.Executor):
    """Runs the steps by another executor, as one rollout."""

    def __init__(self, rollout: Rollout, steps: dg.Executor) -> None:
        """Wrap the executor that runs the steps."""
        self._rollout = rollout
        self._steps = steps
        self._opening = rollout.asset_key("canary_env_sequence").to_python_identifier()

    @property
    def retries(self) -> RetryMode:
        """Whether steps are tried again; they are not, an outcome is data."""
        return self._steps.retries

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        """Run the steps while holding the environment, and see that there is a decision."""
        if not self._is_rollout(execution_plan):
            yield from self._steps.execute(plan_context, execution_plan)
            return
        try:
            yield from self._roll_out(plan_context, execution_plan)
        finally:
            # This process is about to end; taking down all it has imported would take a second.
            gc.freeze()

    def _roll_out(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        run, instance = plan_context.dagster_run, plan_context.instance
        holder = {"run": run.run_id, "pid": str(os.getpid()), "since": rfc3339(SystemClock().now())}
        failed, say = "", plan_context.log.info
        environment = self._rollout.environment
        with Claim(environment.name, holder), _signals() as received:
            try:
                instance.add_run_tags(run.run_id, {LAUNCHED_BY_TAG: launched_by(run)})
                for event in self._steps.execute(plan_context, execution_plan):
                    failed = failed or _failure(event)
                    yield event
                    if event.is_step_start and event.step_key != self._opening:
                        # An abort has seconds to write its summary: be ready while steps run.
                        importlib.import_module("canary_pipeline.reports.summary")
            except GeneratorExit:
                raise
            except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
                whom = _by_whom(instance, run, received())
                conclude(environment, instance, run, "aborted", whom, say=say)
                raise
            except BaseException as error:
                what = f"{type(error).__name__} while steps ran"
                conclude(environment, instance, run, "crashed", what, say=say)
                raise
            what = failed or "a step did not end"
            decision = conclude(environment, instance, run, "crashed", what, say=say)
        if decision != "allow" and not failed:
            raise RolloutNotAllowedError("the run ended without a summary that says allow")

    def _is_rollout(self, execution_plan: ExecutionPlan) -> bool:
        """Whether a run does anything but tabulate past rollouts, which may be done any time."""
        return set(execution_plan.step_keys_to_execute) != {history_name(self._rollout)}


def _failure(event: dg.DagsterEvent) -> str:
    """Which step failed and by which kind of error; its text stays in Dagster's event log."""
    if not event.is_step_failure:
        return ""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return f"step {event.step_key} failed ({error.cls_name if error else 'no error recorded'})"


def _by_whom(instance: dg.DagsterInstance, run: dg.DagsterRun, signals: Sequence[str]) -> str:
    current = instance.get_run_by_id(run.run_id)
    if current is not None and current.status == dg.DagsterRunStatus.CANCELING:
        return "terminated through Dagster"
    return f"stopped by {' and '.join(signals)}" if signals else "interrupted"


@contextmanager
def _signals() -> Iterator[Callable[[], list[str]]]:
    """Note which signals arrive, whoever handles them (Dagster does, and changes handlers)."""
    if threading.current_thread() is not threading.main_thread():
        yield list
        return
    reading, writing = socket.socketpair()
    reading.setblocking(False)  # noqa: FBT003
    writing.setblocking(False)  # noqa: FBT003
    before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)

    def received() -> list[str]:
        try:
            numbers = sorted(set(reading.recv(4096)) & {signal.SIGINT, signal.SIGTERM})
        except BlockingIOError:
            return []
        return [signal.Signals(number).name for number in numbers]

    try:
        yield received
    finally:
        signal.set_wakeup_fd(before)
        reading.close()
        writing.close()
