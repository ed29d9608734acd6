"""The one way to end an attempt: note how, decide, restore what is owed, decide anew."""

from contextlib import suppress
from dataclasses import replace

from canary_pipeline.model.decision import Decision, decide
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.record import AttemptOutcome, Header
from canary_pipeline.outside.clock import Clock
from canary_pipeline.outside.durable import in_words
from canary_pipeline.outside.stop import StoppedError
from canary_pipeline.reports.decided import write_decision, written_decision
from canary_pipeline.reports.notice import announce
from canary_pipeline.rollout.checkout import checkout_now
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.live.owing import settle_debt
from canary_pipeline.rollout.live.rollback import settle
from canary_pipeline.rollout.live.unrecorded import UnrecordedError, restore_unrecorded
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.held import LostError
from canary_pipeline.store.layout import DECISION

FOLDER_LOST = "the rollout's folder was taken away while it ran, and its evidence with it"


def conclude(context: Context, outcome: AttemptOutcome, detail: str | None = None) -> Decision:
    """End this attempt, whatever ends it.

    The decision is written first, because a rollback may take minutes. Who may have lost the
    environment says so in the local folder, and touches neither staging nor what others see.

    Args:
        context: The attempt. Its `check_stop` may end the rollback, which is recorded then.
        outcome: `finished` when every step was reached.
        detail: What ended it otherwise, free of secrets.

    Raises:
        UnrecordedError: When that cannot be written; staging is restored as far as it can be.
        OSError: The same of a rollout that has finished, which is to be concluded again.
    """
    if context.evidence.rescue():
        outcome, detail = "aborted", FOLDER_LOST
    try:
        context.evidence.holding.confirm()
        return _concluded(context, outcome, detail)
    except LostError as lost:
        if context.evidence.holding.lost() is None:  # the store is full, but staging still ours
            return _decided_here(context, f"{lost}; {_restored(context)}")
        return _decided_here(context, f"{lost}; what is live was left as it is")
    except OSError as error:
        if outcome == "finished":  # it has not, and is concluded again
            raise
        raise UnrecordedError(f"{in_words(error)}; {_restored(context)}") from error


def conclude_run(context: Context, stopped: str | None, broken: str) -> tuple[Decision, bool]:
    """End the attempt of a run whose steps are over; the one end of every way to run them.

    A decision that is written stays, unless the rollout was stopped before its run was done.

    Args:
        context: The attempt, as `conclude` takes it.
        stopped: Why it was stopped; None where it was not.
        broken: What keeps it from having finished, where its last step has not concluded it.

    Returns:
        The decision, and whether it was reached only here.
    """
    if stopped is not None:
        return conclude(context, "aborted", stopped), True
    decided = reached(context)
    return (decided, False) if decided else (conclude(context, "crashed", broken), True)


def reached(context: Context) -> Decision | None:
    """The decision that this attempt has reached and written, or None: it is concluded again."""
    evidence = context.evidence
    try:
        last = evidence.header().last_attempt
    except NotARolloutError:
        return None
    if last is None or last.run_id != context.run_id or last.outcome is None:
        return None
    decision = decide(evidence.verified_record())
    is_written = written_decision(evidence) == decision.word and evidence.exists(DECISION)
    return decision if is_written else None


def _restored(context: Context) -> str:
    """What became of staging where that cannot be recorded, as a part of a sentence."""
    with suppress(OSError):
        _await_commands(context)
    return restore_unrecorded(context, hold=context.plan.on_block == "hold")


def _decided_here(context: Context, why: str) -> Decision:
    """Block in the local folder alone, where no other host can see it."""
    evidence = Evidence(context.evidence.folder, context.evidence.redactor)
    alone = replace(context, evidence=evidence)
    _await_commands(alone)
    _end(alone, "aborted", why)
    return write_decision(evidence, evidence.verified_record())


def _end(context: Context, outcome: AttemptOutcome, detail: str | None) -> None:
    took = None if context.began is None else context.clock.monotonic() - context.began
    end_attempt(context.evidence, context.run_id, outcome, detail, context.clock, took=took)


def _concluded(context: Context, outcome: AttemptOutcome, detail: str | None) -> Decision:
    evidence = context.evidence
    _end(context, outcome, detail)
    decision = write_decision(evidence, evidence.verified_record(), context.signing_key)
    _await_commands(context)
    try:
        settled = settle(context, detail or "the rollout blocks")
    except StoppedError as stopped:
        context.tell(f"rollback: {stopped}")
        settled = evidence.record().last_rollback
    if settled is not None:
        decision = rewrite_decision(context)
    if decision.allowed:
        with suppress(LostError):  # it is decided, and seen to be
            settle_debt(context)
    announce(evidence, decision.word, decision)
    return decision


def _await_commands(context: Context) -> None:
    """Wait for commands that were stopped: what they still do must not meet a rollback."""
    while context.stopping:
        left = context.stopping.pop().finish()
        if left:
            context.warn("stop", left)


def end_attempt(
    evidence: Evidence,
    run_id: str,
    outcome: AttemptOutcome,
    detail: str | None,
    clock: Clock,
    *,
    took: float | None = None,
) -> None:
    """Note how the attempt of a run ended, and seal the rows."""
    where = _where(evidence) if outcome != "finished" else ""

    def close(header: Header) -> Header:
        last = header.last_attempt
        if last is None or last.run_id != run_id:
            return header
        now = checkout_now(header, evidence.folder)
        ended = header.with_last_attempt(
            ended_at=rfc3339(clock.now()),
            outcome=outcome,
            detail=f"{detail}{where}" if detail else None,
            duration_seconds=None if took is None else round(took, 3),
            commit_after=now.commit if now.commit != last.commit else None,
            dirty=last.dirty if now.dirty is None else now.dirty or last.dirty,
        )
        return _sealed(ended, evidence, clock)

    evidence.update_header(close)


def _where(evidence: Evidence) -> str:
    steps = [f"{state.step} ({state.phase})" for state in evidence.all_in_flight()]
    return f", at {', '.join(steps)}" if steps else ", between two steps"


def rewrite_decision(context: Context) -> Decision:
    """Write the decision anew, after rows were added to a rollout whose attempt had ended."""
    evidence = context.evidence
    evidence.update_header(lambda header: _sealed(header, evidence, context.clock))
    return write_decision(evidence, evidence.verified_record(), context.signing_key)


def _sealed(header: Header, evidence: Evidence, clock: Clock) -> Header:
    now = {"sealed": evidence.seal(header.sealed), "decided_at": rfc3339(clock.now())}
    return header.model_copy(update=now)
