"""Runs the steps of a Dagster run as threads of this process.

A step of a rollout waits: for a command, an answer, a soak. A thread is enough for that, and the
process that holds the claim is then the only one there is. This is the one file that uses names of
Dagster that it does not promise to keep; a test names each of them when an upgrade moves it.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import dagster as dg
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.context.system import (
    PlanExecutionContext,
    PlanOrchestrationContext,
    StepExecutionContext,
)
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.execute_plan import dagster_event_sequence_for_step
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext

from canary_pipeline.outside.stop import Signals

LOOK_UP_SECONDS = 0.1
"""How often the main thread looks up while no step has anything to tell."""

STOPPED_SECONDS = 30.0
"""How long steps are waited for that were stopped because the run broke; they take a few."""

__all__ = [
    "BlocksError", "ExecutionPlan", "PlanOrchestrationContext", "QueuedRunCoordinator", "RetryMode",
    "SubmitRunContext", "blocks", "run_in_threads",
]  # fmt: skip

_Told = dg.DagsterEvent | BaseException | str
"""What the thread of a step tells: an event, what broke it, or in the end its key."""


class BlocksError(dg.Failure):
    """A step has done its work, and its outcome blocks: it is red, and what follows still runs."""


def blocks(event: dg.DagsterEvent) -> bool:
    """Whether a step has failed by its outcome, rather than crashed."""
    error = event.step_failure_data.error if event.is_step_failure else None
    return error is not None and error.cls_name == BlocksError.__name__


def run_in_threads(
    plan_context: PlanOrchestrationContext,
    most_at_once: int,
    look_up: Callable[[], bool],
    signals: Signals,
    stop_steps: Callable[[BaseException], None],
) -> Generator[dg.DagsterEvent, None, None]:
    """Run every step, each in a thread of its own once what it depends on has ended.

    Whatever this raises, no step runs on: what ends a run is never overtaken by one of its steps.

    Args:
        plan_context: The run.
        most_at_once: How many steps may run side by side.
        look_up: Called several times a second in this thread; whether the run is to stop. Steps
            that run see to that themselves; no other is started.
        signals: Takes note of signals, which Dagster would take over while steps run.
        stop_steps: Called with what breaks the run; lets steps that still run end.
    """
    yield from ExecuteRunWithPlanIterable(
        execution_plan=plan_context.execution_plan,
        iterator=partial(
            _events,
            most_at_once=most_at_once,
            look_up=look_up,
            signals=signals,
            stop_steps=stop_steps,
        ),
        execution_context_manager=PlanExecutionContextManager(
            job=plan_context.job,
            retry_mode=RetryMode.DISABLED,
            execution_plan=plan_context.execution_plan,
            run_config=plan_context.run_config,
            dagster_run=plan_context.dagster_run,
            instance=plan_context.instance,
            raise_on_error=False,
            output_capture=plan_context.output_capture,
        ),
    )


def _events(
    job_context: PlanExecutionContext,
    execution_plan: ExecutionPlan,
    *,
    most_at_once: int,
    look_up: Callable[[], bool],
    signals: Signals,
    stop_steps: Callable[[BaseException], None],
) -> Iterator[dg.DagsterEvent]:
    told: queue.SimpleQueue[_Told] = queue.SimpleQueue()
    running: set[str] = set()
    starting = execution_plan.start(RetryMode.DISABLED, max_concurrent=most_at_once)
    with signals, starting as active, _none_runs_on(told, running, stop_steps):
        while not active.is_complete:
            stopping = look_up()
            if stopping and not running:
                raise dg.DagsterExecutionInterruptedError
            for step in [] if stopping else active.get_steps_to_execute():
                context = job_context.for_step(step, active.get_known_state())
                _start(context, told)
                running.add(step.key)
            yield from active.plan_events_iterator(job_context)
            yield from _heard(told, active, running, job_context)


@contextmanager
def _none_runs_on(
    told: "queue.SimpleQueue[_Told]",
    running: set[str],
    stop_steps: Callable[[BaseException], None],
) -> Iterator[None]:
    """If the body breaks, pass that on once every step has ended; a step that hangs is left."""
    try:
        yield
    except BaseException as error:
        stop_steps(error)
        until = time.monotonic() + STOPPED_SECONDS
        while running and time.monotonic() < until:
            with suppress(queue.Empty):
                item = told.get(timeout=LOOK_UP_SECONDS)
                running.difference_update([item] if isinstance(item, str) else [])
        raise


def _start(context: StepExecutionContext, told: "queue.SimpleQueue[_Told]") -> None:
    def work() -> None:
        try:
            for event in dagster_event_sequence_for_step(context):
                told.put(event)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            told.put(error)
        told.put(context.step.key)

    threading.Thread(target=work, name=context.step.key, daemon=True).start()


def _heard(
    told: "queue.SimpleQueue[_Told]",
    active: ActiveExecution,
    running: set[str],
    job_context: PlanExecutionContext,
) -> Iterator[dg.DagsterEvent]:
    """What steps have told, as soon as there is something."""
    try:
        item = told.get(timeout=LOOK_UP_SECONDS)
    except queue.Empty:
        return
    if isinstance(item, dg.DagsterEvent):
        yield item
        if item.step_key is not None and blocks(item):
            active.mark_success(item.step_key)
        else:
            active.handle_event(item)
    elif isinstance(item, str):
        running.discard(item)
        active.verify_complete(job_context, item)
    else:
        raise item
