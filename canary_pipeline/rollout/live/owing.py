"""What a rollout owes staging: noted before anything is changed, and until it is settled.

It is noted in the rollout's folder, in this host's journal, and where hosts share the environment
in its lease. Should these differ, the folder is believed.
"""

from pathlib import Path

from canary_pipeline.model.decision import owes_rollback
from canary_pipeline.model.record import Record
from canary_pipeline.model.rows import LiveRouting
from canary_pipeline.outside.durable import in_words
from canary_pipeline.outside.held_lease import RETRY_SECONDS
from canary_pipeline.outside.lease import CUT_OFF_SECONDS
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.store_away import answered
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.holding import owed_in
from canary_pipeline.store.journal import Journal, Owed
from canary_pipeline.store.layout import HEADER


def owe(context: Context, percent: int, before: LiveRouting) -> bool:
    """Note that a rollout changes staging from now on, and owes what was live before.

    Args:
        context: The rollout.
        percent: The cohort that is applied, or was last.
        before: What a rollback is to restore.

    Returns:
        Whether every host that may go on for this one knows it: `rollout.json` is published.

    Raises:
        OSError: When that cannot be noted.
        LostError: When the environment is, or may be, another's.
    """
    evidence, environment = context.evidence, context.plan.environment
    Journal(environment).applied(evidence.folder, percent, before)
    ours = Owed(folder=Path(evidence.folder.name), percent=percent, before=before)
    evidence.holding.owe(ours.model_dump(mode="json"))
    owed = {"live_before": before, "applied_percent": percent, "restoring": False}
    evidence.update_header(lambda header: header.model_copy(update=owed))
    until = context.clock.monotonic() + CUT_OFF_SECONDS
    while not evidence.holding.publish(HEADER):
        if context.clock.monotonic() >= until:
            return False
        context.check_stop()
        context.clock.sleep(RETRY_SECONDS)
    return True


def settle_debt(context: Context) -> None:
    """Note that a rollout, whose folder says so already, owes nothing any more.

    Where this host cannot note it, that is told to the log: it changes no decision.

    Raises:
        LostError: When the environment is, or may be, another's.
    """
    evidence = context.evidence
    try:
        Journal(context.plan.environment).settled(evidence.folder)
    except OSError as error:
        context.tell(f"that nothing is owed is known to the folder only: {in_words(error)}")
    evidence.holding.owe(None)


def inherited(context: Context) -> Owed | None:
    """What another rollout owes, for this one to settle in its place; None where none does.

    Raises:
        OSError: When the other one's folder cannot be brought here.
        LostError: When the environment is, or may be, another's.
    """
    evidence = context.evidence
    owed = owed_in(context.plan.environment, evidence.holding)
    if owed is None or owed.folder == evidence.folder or _is_settled(owed.folder, context):
        return None
    return owed


def _is_settled(folder: Path, context: Context) -> bool:
    """Whether a rollout's folder says that it owes nothing; this host may not have noted that."""
    evidence = context.evidence
    beside = answered(context, lambda: evidence.holding.beside(folder))
    try:
        record = Evidence(folder, evidence.redactor, beside).verified_record()
    except NotARolloutError:
        return False
    # One that was withdrawn says nothing of what it has left live: whoever did that owes it.
    return record.header.withdrawn is None and not still_owes(record)


def still_owes(record: Record) -> bool:
    """Whether a rollout that is not at work any more has left live what may not stay."""
    last = record.header.last_attempt
    # All rows may have passed: what was killed before its summary has decided nothing.
    undecided = last is None or last.outcome is None
    return undecided or owes_rollback(record)
