"""The way from a Dagster step into the core: the rollout that this process works on for a run."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import dagster as dg

from canary_pipeline.model.decision import Decision, decide
from canary_pipeline.orchestration.command import commanded
from canary_pipeline.orchestration.going_on import catch_up, goes_on
from canary_pipeline.orchestration.pages import report_promotion
from canary_pipeline.orchestration.resource import RolloutResource
from canary_pipeline.orchestration.rollout import Rollout
from canary_pipeline.orchestration.runs import (
    launched_by,
    rollout_of,
    tag_rollout,
    tell_decision,
    unsay_inherited,
)
from canary_pipeline.outside.claim import last_holder
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.stop import Stop, StoppedError
from canary_pipeline.planning import Settings, resolve
from canary_pipeline.reports.notice import tell_people
from canary_pipeline.rollout.conclusion import conclude_run
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.enter import enter_rollout, opened
from canary_pipeline.rollout.superseded import refuse_superseded
from canary_pipeline.sources import evidence_url
from canary_pipeline.store.holding import Holding
from canary_pipeline.store.journal import Journal
from canary_pipeline.store.layout import SUMMARY


@dataclass
class Work:
    """A run's work on a rollout in this process.

    Attributes:
        run_id: The run.
        rollout: What the definitions were built from.
        stop: Ends everything that waits.
        say: Takes a line for Dagster's log.
        holding: What is held meanwhile.
        keys: The keys of the run's steps; None where another executor runs them.
        context: The attempt, once the first step has opened it.
        settings: Those that it was opened with.
        broken: What has broken the run around its steps, as a part of a sentence.
    """

    run_id: str
    rollout: Rollout
    stop: Stop
    say: Callable[[str], None]
    holding: Holding
    keys: frozenset[str] | None = None
    context: Context | None = None
    settings: Settings | None = None
    broken: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def break_off(self, error: BaseException) -> None:
        """Let steps that still run end, since this has broken the run."""
        gave_up = isinstance(error, GeneratorExit)  # what takes the events has failed
        what = "Dagster gave it up" if gave_up else type(error).__name__
        self.broken = self.broken or f"{what} while steps ran"

    def check_stop(self) -> None:
        """Raise `StoppedError` where the run was stopped or is broken; for whatever waits in it."""
        self.stop.check()
        if self.broken:
            raise StoppedError(self.broken)

    def conclude(
        self,
        instance: dg.DagsterInstance,
        broken: str,
        stopped: str | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Decision | None:
        """See to whatever the steps have not seen to, and tell Dagster.

        Args:
            instance: Where the run is recorded.
            broken: What broke it, where it was not stopped and no step has concluded it.
            stopped: Why it was stopped; None where it was not.
            check_stop: Ends a rollback.

        Returns:
            The decision; None where no rollout was opened.
        """
        if self.context is None:
            return None
        context = replace(self.context, check_stop=check_stop, say=quietly(self.say))
        decision, reached_here = conclude_run(context, stopped, broken)
        environment, evidence = self.rollout.environment, context.evidence
        tell_decision(instance, environment, evidence, decision, on_page=reached_here)
        if not decision.allowed:
            # Dagster's own last words on a red run are a stack trace; these are the reader's.
            context.tell(f"decision: {decision.word}; {evidence.folder / SUMMARY}")
        if self.holding.is_shared and self.settings:  # no sensor may see this host's outbox
            for problem in tell_people(environment.name, self.settings.values):
                context.tell(f"a notice was not sent: {problem}")
        return decision

    def promote(self, instance: dg.DagsterInstance) -> None:
        """Give automation something to hang on to, once all is done and the decision is `allow`."""
        context = self.context
        if context is None or Journal(context.plan.environment).newer_than(context.evidence.folder):
            return
        record = context.evidence.verified_record()
        if decide(record).allowed:
            report_promotion(instance, self.rollout.environment, context.evidence, record)


_works: dict[str, Work] = {}
"""By run id, what this process works on."""


@contextmanager
def working(
    rollout: Rollout,
    run: dg.DagsterRun,
    stop: Stop,
    say: Callable[[str], None],
    holding: Holding,
    *,
    keys: frozenset[str] | None = None,
) -> Iterator[Work]:
    """Let the steps of a run find the work of this process while the body runs."""
    work = _works[run.run_id] = Work(run.run_id, rollout, stop, say, holding, keys)
    try:
        yield work
    finally:
        del _works[run.run_id]


def enter(context: dg.OpExecutionContext, rollout: Rollout, *, opens: bool = False) -> Context:
    """Enter the rollout that this step's run works on.

    Args:
        context: The step's context.
        rollout: What the definitions were built from.
        opens: Whether this step may start a new rollout.

    Raises:
        dagster.Failure: When the run cannot be a rollout, with a message for people.
    """
    _require_summary(context, rollout)
    rollout = rollout.of(context.run)
    resource: RolloutResource = context.resources.rollout
    work = _works.get(context.run_id) or _begun_here(context, rollout, resource)
    with work.lock:
        if work.context is None:
            try:
                work.settings = _settings(rollout, resource)
                work.context = _entered(context, rollout, work.settings, work.holding, opens=opens)
                # What was entered is concluded, whatever Dagster's storage makes of this.
                tag_rollout(context.instance, context.run_id, work.context.evidence)
            except Exception as error:
                raise dg.Failure(str(error), allow_retries=False) from error
            if goes_on(context.run) and work.keys is not None:
                catch_up(_in_step(context, work.context, work), rollout, work.keys)
    return _in_step(context, work.context, work)


def outlives_a_block(run_id: str) -> bool:
    """Whether what follows a step runs although its outcome blocks, and the step is red."""
    return run_id in _works and _works[run_id].keys is not None


def _in_step(context: dg.OpExecutionContext, entered: Context, work: Work) -> Context:
    return replace(entered, say=quietly(context.log.info), check_stop=work.check_stop)


def _settings(rollout: Rollout, resource: RolloutResource) -> Settings:
    command = commanded()
    return (command and command.settings) or resolve(
        rollout.environment,
        os.environ,
        launch=resource.launch_config(),
        # A part may have fewer cohorts than the graph, which all of them share.
        declared=None if rollout.environment.partition else rollout.cohorts,
    )


def _entered(
    context: dg.OpExecutionContext,
    rollout: Rollout,
    settings: Settings,
    holding: Holding,
    *,
    opens: bool,
) -> Context:
    evidence = rollout_of(context.instance, context.run)
    if evidence is None and not opens:
        raise ValueError(_whole(rollout))
    new = evidence is None
    evidence = evidence or opened(settings, rollout.environment, SystemClock(), holding)
    holding.work_in(evidence.folder, new=new)
    evidence.holding = holding
    if not new and commanded() is None:
        refuse_superseded(evidence, rollout.environment.name)
    steps = context.run.step_keys_to_execute
    every = steps is None or goes_on(context.run)
    runnable = None if every else rollout.gates_among(steps or ())
    return enter_rollout(
        settings, evidence, context.run_id, launched_by(context.run), runnable=runnable
    )


def _begun_here(
    context: dg.OpExecutionContext, rollout: Rollout, resource: RolloutResource
) -> Work:
    """The work of a run that another executor runs in this process, until the run's end."""
    name = rollout.environment.name
    if last_holder(name).get("run") == context.run_id:
        raise dg.Failure("another process works on this run: the steps of a rollout run in one")
    stack, run, instance = resource.at_teardown, context.run, context.instance
    unsay_inherited(instance, run)
    stop, url = Stop(), evidence_url(rollout.environment, os.environ)
    stop.held = stack.enter_context(Holding(name, url, {"run": run.run_id}))
    work = stack.enter_context(working(rollout, run, stop, context.log.info, stop.held))
    stack.callback(work.promote, instance)
    stack.callback(work.conclude, instance, "a step failed")
    return work


def _require_summary(context: dg.OpExecutionContext, rollout: Rollout) -> None:
    """Refuse a run without the summary: it could be green without an `allow`."""
    summary = rollout.asset_key("summary").to_python_identifier()
    steps = context.run.step_keys_to_execute
    planned = summary in {node.name for node in context.job_def.nodes}
    if not planned or (steps is not None and summary not in steps):
        raise dg.Failure(_whole(rollout), allow_retries=False)


def _whole(rollout: Rollout) -> str:
    return (
        f"a rollout is all of its assets: launch the job {rollout.environment.job_name} with "
        "*Materialize all*. To go on with one, open its run and press *Re-execute from failure*; "
        "`canary-rollout resume FOLDER` does the same"
    )


def quietly(say: Callable[[str], None]) -> Callable[[str], None]:
    """A log that never stands in the way of the work: its storage may fail for some time."""

    def said(line: str) -> None:
        with suppress(Exception):  # the line is lost, the rollout is not
            say(line)

    return said
