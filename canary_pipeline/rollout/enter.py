"""Entering a rollout: a new one is opened, one that is there is gone on with."""

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from canary_pipeline.model.environment import Environment
from canary_pipeline.model.plan import Plan
from canary_pipeline.model.record import Header
from canary_pipeline.outside.clock import Clock, SystemClock
from canary_pipeline.outside.git import would_clean
from canary_pipeline.planning import Settings
from canary_pipeline.rollout.attempts import join, open_rollout, recorded_plan
from canary_pipeline.rollout.checkout import checkout_now
from canary_pipeline.rollout.context import Context
from canary_pipeline.store.folder import Evidence
from canary_pipeline.store.holding import NOTHING, Holding


def opened(
    settings: Settings, environment: Environment, clock: Clock, holding: Holding = NOTHING
) -> Evidence:
    """Open a new rollout where its settings say; raises what `open_rollout` does."""
    named = settings.values.output_dir

    def folder(started_at: datetime) -> Path:
        name = f"{environment.name}-{started_at:%Y%m%dT%H%M%SZ}"
        return named or Path(environment.output_root) / name

    return open_rollout(
        settings, folder, clock, named=named is not None, is_published=holding.is_published
    )


def enter_rollout(
    settings: Settings,
    evidence: Evidence,
    run_id: str,
    launched_by: str,
    *,
    runnable: Collection[str] | None = None,
    clock: Clock | None = None,
) -> Context:
    """Begin an attempt at a rollout, or find the one that this run has begun.

    Args:
        settings: The settings at hand.
        evidence: The rollout's folder.
        run_id: The run of the attempt.
        launched_by: Who or what started it.
        runnable: The gates that the run can run; None for all.
        clock: Time.

    Raises:
        RolloutMismatchError: When the settings mean another staging than the rollout's.
        NotARolloutError: When the folder holds no rollout.
        OSError: When the folder cannot be written.
    """
    clock = clock or SystemClock()
    context = working_on(evidence, settings, clock=clock)
    attempt = join(context.evidence, run_id, launched_by, clock, runnable)
    problem = checkout_now(context.plan, evidence.folder).problem if not attempt.commit else None
    if problem is not None:
        context.warn("checkout", f"its commit is unknown: {problem}")
    if attempt.attempt == 1 and would_clean(evidence.folder):
        context.warn(
            "folder", "it lies in a checkout that does not ignore it: `git clean` takes it"
        )
    if attempt.outcome is not None:
        message = f"attempt {attempt.attempt} of this run has ended ({attempt.outcome})"
        raise ValueError(message)
    return replace(
        working_on(context.evidence, settings, clock=clock),
        attempt=attempt.attempt,
        run_id=run_id,
        began=clock.monotonic(),
    )


def working_on(
    evidence: Evidence,
    settings: Settings,
    say: Callable[[str], None] = lambda _line: None,
    check_stop: Callable[[], None] = lambda: None,
    clock: Clock | None = None,
    *,
    applies: bool = True,
) -> Context:
    """Work on a rollout as its last attempt did, without another one.

    What a person gives at hand (a mended rollback command, another checkout) holds from now on, and
    the difference is said.

    Raises:
        RolloutMismatchError: When the settings mean another staging than the rollout's.
        NotARolloutError: When the folder holds no rollout.
    """
    evidence = Evidence(evidence.folder, settings.redactor, evidence.holding)
    header = evidence.header()
    plan, last = recorded_plan(header, settings, applies=applies), header.last_attempt
    context = Context(
        plan=plan,
        evidence=evidence,
        control=settings.control,
        attempt=last.attempt if last else 1,
        run_id=last.run_id if last else "",
        say=say,
        check_stop=check_stop,
        clock=clock or SystemClock(),
        signing_key=settings.values.signing_key,
    )
    _note_what_was_mended(context, header)
    return context


def _note_what_was_mended(context: Context, header: Header) -> None:
    plan = context.plan
    mended = {
        name: getattr(plan, name)
        for name in Plan.model_fields
        if getattr(plan, name) != getattr(header, name)
    }
    if mended:
        context.evidence.update_header(lambda header: header.model_copy(update=mended))
    for name, now in mended.items():
        then = getattr(header, name)
        context.warn("settings", f"{name} was {then!r} until now, and is {now!r} from here on")
