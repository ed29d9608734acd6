"""`canary-rollout run`: a rollout, from here to its decision."""

import os
import resource
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from typing import Protocol
from uuid import uuid4

import click

from canary_pipeline.commands.dagster_home import use_home
from canary_pipeline.commands.exits import Exit, NoDecisionError, answers, exit_of
from canary_pipeline.commands.flags import (
    adopt,
    environment_flag,
    json_flag,
    settings_flags,
)
from canary_pipeline.environments import chosen, served
from canary_pipeline.model.decision import Decision
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.remarks import NOT_PROBED, no_cohort_was_probed, remarks
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.durable import in_words
from canary_pipeline.outside.stop import Signals
from canary_pipeline.planning import Settings, resolve
from canary_pipeline.reports.notice import tell_people
from canary_pipeline.reports.progress import shown
from canary_pipeline.reports.rollback_words import rollback_words
from canary_pipeline.rollout.conclusion import conclude, reached
from canary_pipeline.rollout.enter import enter_rollout, opened, working_on
from canary_pipeline.rollout.live.unrecorded import UnrecordedError
from canary_pipeline.sources import unknown_variables
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.holding import Holding
from canary_pipeline.store.layout import DECISION, SUMMARY

FEWEST_FILES = 64
"""What Dagster's storage, the gates and their logs hold open together, with some room."""


class Engine(Protocol):
    """What runs the steps of a rollout."""

    def prepare(self) -> None:
        """Make sure that it can, before a folder is opened.

        Raises:
            BadInputError: When it cannot.
        """
        ...

    def execute(
        self, evidence: Evidence, settings: Settings, environment: Environment, signals: Signals
    ) -> bool:
        """Run every step of a rollout that is opened; returns whether that ended green."""
        ...


class Dagster:
    """Runs the steps as a run of Dagster's."""

    def prepare(self) -> None:
        """Make sure that there is an instance, and that it can be used."""
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most < FEWEST_FILES:
            message = f"{most} open files are too few: `ulimit -n {FEWEST_FILES}` allows enough"
            raise NoDecisionError(message)
        use_home()
        try:
            tempfile.gettempdir()
        except OSError as error:
            message = f"{error.strerror}: set TMPDIR to a folder that you can write"
            raise NoDecisionError(message) from None

    def execute(
        self, evidence: Evidence, settings: Settings, environment: Environment, signals: Signals
    ) -> bool:
        """Execute the job in this process."""
        from canary_pipeline.orchestration.command import Command  # noqa: PLC0415 - imports dagster
        from canary_pipeline.orchestration.launch import execute  # noqa: PLC0415 - imports dagster

        command = Command(evidence.folder, settings, signals, evidence.holding)
        return execute(evidence, environment, command, settings.parallel_gates)


ENGINE: Engine = Dagster()


@click.command()
@json_flag
@environment_flag
@settings_flags()
def run_command(as_json: bool, environment: str | None, **flags: str | None) -> None:  # noqa: FBT001
    """Roll out to staging: gates, then cohorts with soaks, then a decision."""
    with answers():
        there = chosen(environment, os.environ, "--environment")
        if not flags["auth_token"]:  # with one, the command is about to start itself again
            others = served(os.environ).parts
            for sentence in unknown_variables(there, os.environ, *others):
                print(f"warning: {sentence}", file=sys.stderr)
        settings = resolve(there, os.environ, flags)
        adopt(flags, there)

        sys.exit(roll_out(settings, there, ENGINE, as_json=as_json))


def roll_out(
    settings: Settings,
    environment: Environment,
    engine: Engine,
    *,
    demonstration: bool = False,
    as_json: bool = False,
) -> Exit:
    """Start a new rollout and follow it to its decision.

    Args:
        settings: What to do.
        environment: What is rolled out to.
        engine: What runs the steps.
        demonstration: Whether to show the whole summary, of a staging that is gone afterwards.
        as_json: Whether to print `decision.json`, and all else to standard error.
    """
    engine.prepare()
    held_here = holding(settings, environment, "canary-rollout")
    with apart_from_json(as_json), held_here as (held, signals):
        evidence = worked_in(opened(settings, environment, SystemClock(), held), held, new=True)
        print(f"rollout folder: {evidence.folder}", flush=True)
        code = followed(evidence, settings, environment, engine, signals)
    notify(settings, environment)
    if as_json:
        print(evidence.read_text(DECISION) or "", end="")
    elif demonstration:
        print(f"\n{evidence.read_text(SUMMARY) or ''}", end="")
    elif code and not settings.plan.skip_gates:
        print(f"once mended, go on with: canary-rollout resume {shlex.quote(str(evidence.folder))}")
    return code


def apart_from_json(as_json: bool) -> AbstractContextManager[object]:  # noqa: FBT001 - it is all
    """Print what the body tells people to standard error, where a program reads the output."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()


@contextmanager
def holding(
    settings: Settings, environment: Environment, who: str
) -> Iterator[tuple[Holding, Signals]]:
    """Hold an environment while the body runs; whatever waits there stops if it is lost."""
    url = settings.values.evidence_url
    with Holding(environment.name, url, {"started by": who}) as held, Signals() as signals:
        signals.stop.held = held
        yield held, signals


def worked_in(evidence: Evidence, held: Holding, *, new: bool = False) -> Evidence:
    """A rollout's folder, held and brought up to what is published of it."""
    held.work_in(evidence.folder, new=new)
    return Evidence(evidence.folder, evidence.redactor, held)


def followed(
    evidence: Evidence,
    settings: Settings,
    environment: Environment,
    engine: Engine,
    signals: Signals,
) -> Exit:
    """Run the steps, see that there is a decision whatever happens, and tell it."""
    before, green = len(evidence.header().attempts), False
    try:
        with shown(evidence, sys.stdout):
            green = engine.execute(evidence, settings, environment, signals)
    except UnrecordedError:
        raise
    except Exception as error:
        why = in_words(error) if isinstance(error, OSError) else type(error).__name__
        decision = _concluded(evidence, settings, signals, before, f"could not be run: {why}")
        tell(evidence, decision, stopped=True, green=False)
        raise
    decision = _concluded(evidence, settings, signals, before, "its steps did not begin")
    last = evidence.header().last_attempt
    return tell(evidence, decision, stopped=last is None or last.outcome == "aborted", green=green)


def _concluded(
    evidence: Evidence,
    settings: Settings,
    signals: Signals,
    before: int,
    why: str,
) -> Decision:
    """The decision of the attempt that was to be made, reached here if no step has."""
    made = evidence.header().attempts[before:]
    if made and made[-1].outcome is not None:
        context, why = working_on(evidence, settings), "its decision could not be written"
        if (decision := reached(context)) is not None:
            return decision
    else:
        run_id = made[-1].run_id if made else f"none-{uuid4()}"
        context = enter_rollout(settings, evidence, run_id, "canary-rollout")
    signals.obey()
    stopped = signals.stop.why
    return conclude(context, "aborted" if stopped else "crashed", stopped or why)


def tell(evidence: Evidence, decision: Decision, *, stopped: bool, green: bool) -> Exit:
    """Print the decision, its reasons and where it is written; return the exit code."""
    record = evidence.verified_record()
    for warning in record.warnings:
        print(f"warning: {warning.step}: {warning.message}")
    for reason in decision.reasons:
        print(f"blocks: {reason.text} (evidence: {evidence.folder / reason.evidence})")
    restored = rollback_words(record, evidence.folder)
    if restored and not decision.allowed:
        print(f"rollback: {restored}")
    print(f"summary: {evidence.folder / SUMMARY}")
    for remark in remarks(record):
        print(remark)
    unprobed = f" ({NOT_PROBED})" if no_cohort_was_probed(record) else ""
    print(f"Decision: {decision.word}{unprobed}", flush=True)
    return exit_of(decision, stopped=stopped, green=green)


def notify(settings: Settings, environment: Environment) -> None:
    """Tell the receiver what there is to tell, and on the terminal what does not arrive."""
    for problem in tell_people(environment.name, settings.values):
        print(f"warning: a notice waits in the outbox: {problem}", file=sys.stderr)
