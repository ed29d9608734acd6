"""`canary-rollout run` and `resume`: a rollout, from here to its decision."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Protocol

from canary_pipeline.commands.dagster_home import use_home
from canary_pipeline.commands.exits import BadInputError, Exit, exit_of
from canary_pipeline.commands.shared import brought
from canary_pipeline.model.decision import Decision, decide
from canary_pipeline.model.environment import Environment
from canary_pipeline.outside.clock import SystemClock
from canary_pipeline.outside.stop import Signals
from canary_pipeline.planning import Settings
from canary_pipeline.reports.notice import deliver
from canary_pipeline.reports.progress import shown
from canary_pipeline.reports.rollback_words import rollback_words
from canary_pipeline.reports.summary import remarks
from canary_pipeline.rollout.attempts import recorded_plan
from canary_pipeline.rollout.conclusion import conclude
from canary_pipeline.rollout.enter import enter_rollout, opened
from canary_pipeline.rollout.superseded import refuse_superseded
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.holding import Holding
from canary_pipeline.store.layout import DECISION, SUMMARY


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
        """Make sure that there is an instance."""
        use_home()

    def execute(
        self, evidence: Evidence, settings: Settings, environment: Environment, signals: Signals
    ) -> bool:
        """Execute the job in this process."""
        from canary_pipeline.orchestration.command import Command  # noqa: PLC0415 - imports dagster
        from canary_pipeline.orchestration.launch import execute  # noqa: PLC0415 - imports dagster

        command = Command(evidence.folder, settings, signals, evidence.holding)
        return execute(evidence, environment, command, settings.parallel_gates)


ENGINE: Engine = Dagster()


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
        evidence = worked_in(opened(settings, environment, SystemClock()), held, new=True)
        print(f"rollout folder: {evidence.folder}", flush=True)
        code = _followed(evidence, settings, environment, engine, signals)
    tell_people(settings, environment)
    if as_json:
        print(evidence.read_text(DECISION) or "", end="")
    elif demonstration:
        print(f"\n{evidence.read_text(SUMMARY) or ''}", end="")
    elif code != Exit.ALLOW and not settings.plan.skip_gates:
        print(f"once mended, go on with: canary-rollout resume {shlex.quote(str(evidence.folder))}")
    return code


def apart_from_json(as_json: bool) -> AbstractContextManager[object]:  # noqa: FBT001 - it is all
    """Print what the body tells people to standard error, where a program reads the output."""
    return redirect_stdout(sys.stderr) if as_json else nullcontext()


def go_on(
    evidence: Evidence,
    settings: Settings,
    environment: Environment,
    engine: Engine,
    *,
    superseded: bool = False,
) -> Exit:
    """Continue a rollout that was killed, aborted or blocked, and follow it to its decision.

    Args:
        evidence: The rollout's folder.
        settings: The settings at hand.
        environment: What is rolled out to.
        engine: What runs the steps.
        superseded: Whether to go on although a newer rollout speaks for the environment.
    """
    recorded_plan(evidence.header(), settings)
    engine.prepare()
    with holding(settings, environment, "canary-rollout") as (held, signals):
        evidence = worked_in(evidence, held)
        if not superseded:
            refuse_superseded(evidence, environment.name)
        print(f"rollout folder: {evidence.folder}", flush=True)
        code = _followed(evidence, settings, environment, engine, signals)
    tell_people(settings, environment)
    return code


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


def _followed(
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
    except Exception as error:
        why = f"could not be run: {type(error).__name__}"
        _concluded(evidence, settings, signals, before, why)
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
    """The decision of the attempt that has just been made, reached here if no step has."""
    header = evidence.header()
    last = header.last_attempt
    if last is not None and len(header.attempts) > before and last.outcome is not None:
        return decide(evidence.verified_record())
    begun = last is not None and last.outcome is None
    run_id = last.run_id if last is not None and begun else "none"
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
        print(remark.replace("**", ""))
    print(f"Decision: {decision.word}", flush=True)
    return exit_of(decision, stopped=stopped, green=green)


def tell_people(settings: Settings, environment: Environment) -> None:
    """Tell the receiver what there is to tell; what does not arrive changes no decision."""
    url = settings.values.notify_url
    if url is None:
        return
    try:
        _, problems = deliver(environment.name, url.get_secret_value(), settings.values.ui_url)
    except (OSError, ValueError) as error:
        problems = [str(error)]
    for problem in problems:
        print(f"warning: a notice waits in the outbox: {problem}", file=sys.stderr)


def find_rollout(name: str) -> Evidence:
    """The rollout of a folder, of a name that any host has published, or of a Dagster run id.

    Raises:
        BadInputError: When there is none.
    """
    folder = brought(name) or Path(name).absolute()
    if folder.is_dir():
        return Evidence(folder)
    use_home()
    from canary_pipeline.orchestration.launch import rollout_of_run  # noqa: PLC0415 - imports dagster

    evidence = rollout_of_run(name)
    if evidence is None:
        message = f"{name!r} is neither a rollout's folder nor the run id of one"
        raise BadInputError(message)
    return evidence
