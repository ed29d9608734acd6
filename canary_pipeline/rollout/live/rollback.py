"""Rolling back: what was live before the first cohort is made live again, and verified."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from canary_pipeline.model.decision import owes_rollback
from canary_pipeline.model.env_sequence import env_file_text, variables_of
from canary_pipeline.model.moment import rfc3339
from canary_pipeline.model.record import Header, Record
from canary_pipeline.model.rows import HELD, NOT_VERIFIED, LiveRouting, RollbackRow, Status
from canary_pipeline.outside.object_store import StoreUnreachableError
from canary_pipeline.rollout.context import Context
from canary_pipeline.rollout.live.owing import owe, settle_debt
from canary_pipeline.rollout.live.routing import await_answer, await_live
from canary_pipeline.rollout.logged_command import run_logged
from canary_pipeline.rollout.superseded import await_withdrawal, withdraw_newer
from canary_pipeline.store import layout

STEP = "rollback"

ROLLBACK_FAILED = "rollback_failed"
ROLLBACK_STOPPED = "rollback_stopped"
NOT_RAISED = "not_raised"

_PERCENTS = ("user_percent", "autopilot_percent")


@dataclass(frozen=True)
class Restored:
    """How a rollback ended, before its row is written."""

    status: Status
    reason: str | None = None
    detail: str | None = None
    exit_code: int | None = None
    log_file: str | None = None
    live: LiveRouting | None = None


def settle(context: Context, cause: str) -> RollbackRow | None:
    """Roll back if the rollout blocks with a cohort live, or record that it is held on purpose.

    Args:
        context: Where to write, and whom to ask.
        cause: Why, as a few words.

    Returns:
        The row, or None where nothing is to be rolled back, or this attempt has seen to it.
    """
    if not _is_to_settle(context.evidence.verified_record(), context.attempt):
        return None
    if context.plan.on_block == "hold":
        percent = context.evidence.header().applied_percent
        detail = f"cohort {percent} % is left as it is, for somebody to look at"
        return _add(context, cause, Restored("skipped", HELD, detail), context.clock.monotonic())
    return roll_back(context, cause)


def _is_to_settle(record: Record, attempt: int) -> bool:
    """Whether a rollout blocks with a cohort live, and this attempt has not seen to it yet.

    A rollback that was stopped has not seen to it.
    """
    ours = [row for row in record.rollback_rows if row.attempt == attempt]
    settled = bool(ours) and ours[-1].reason != ROLLBACK_STOPPED
    return not settled and owes_rollback(record)


def roll_back(context: Context, cause: str, *, may_raise: bool = False) -> RollbackRow:
    """Make live what was live before the first cohort, and add the row that says how that went.

    Args:
        context: Where to write, and whom to ask.
        cause: Why, as a few words.
        may_raise: Whether a percent may be raised above what is live now: what somebody else has
            lowered since is theirs, unless a person says otherwise. Then that is raised, too,
            which an earlier rollback has left alone.

    Raises:
        ValueError: When the rollout has applied nothing.
    """
    started = context.clock.monotonic()
    if may_raise:
        _owe_what_was_not_raised(context)
    wanted = _before(context)
    # Whatever becomes of it, what was applied may not be live any more.
    context.evidence.update_header(lambda header: header.model_copy(update={"restoring": True}))
    # Neither of these is a reason to leave staging as it is.
    with suppress(OSError):
        context.evidence.holding.publish()  # a host that goes on for this one must know
    withdrawn = _withdrawn(context, withdraw_newer, "is withdrawn once staging is restored")
    context.note(STEP, "rollback")
    try:
        restored = _restore(context, wanted) if may_raise else lower(context, wanted)
    except BaseException as error:
        detail = f"before it was done ({str(error) or type(error).__name__})"
        _add(context, cause, Restored("failed", ROLLBACK_STOPPED, detail), started)
        raise
    finally:
        context.evidence.clear_in_flight(STEP)
    row = _add(context, cause, restored, started)
    if row.status == "passed" or row.reason == NOT_RAISED:
        _forget(context)
    if not withdrawn:
        _withdrawn(context, await_withdrawal, "stands")
    return row


def lower(context: Context, wanted: LiveRouting) -> Restored:
    """Restore, but leave whatever percent somebody has set since to less than was live before."""
    live = await_answer(wanted, context.plan.http_timeout_seconds, context).live
    header = context.evidence.header()
    # Where nobody can tell what is live, what was live before is all that is known.
    lowered = {} if live is None else _lowered_since(live, wanted, header)
    if not lowered:
        return _restore(context, wanted)
    detail = (
        f"left as it is, at {live}: somebody has set that since cohort {header.applied_percent} % "
        f"was applied, and a rollback to {wanted} would raise it; "
        "`canary-rollout rollback --raise` does"
    )
    if len(lowered) == len(_PERCENTS):
        return Restored("skipped", NOT_RAISED, detail, live=live)
    context.warn(STEP, f"{' and '.join(lowered)} {detail}")
    return _restore(context, wanted.model_copy(update=lowered))


def _lowered_since(live: LiveRouting, wanted: LiveRouting, header: Header) -> dict[str, int]:
    """The percents that somebody else has set, by name, to less than was live before."""
    # Where the last cohort never became live, the one before it still is.
    ours = [percent for percent in header.cohorts if percent <= (header.applied_percent or 0)]
    now = {name: getattr(live, name) for name in _PERCENTS}
    return {
        name: percent
        for name, percent in now.items()
        if percent not in ours and percent < getattr(wanted, name)
    }


def not_raised(record: Record) -> LiveRouting | None:
    """What the last rollback was to restore, where it left alone what somebody had lowered."""
    last, header = record.last_rollback, record.header
    if last is None or last.status == "failed" or last.live is None:
        return None
    if header.live_before is not None or header.withdrawn is not None:
        return None
    lower = any(getattr(last.live, name) < getattr(last.wanted, name) for name in _PERCENTS)
    return last.wanted if lower else None


def _owe_what_was_not_raised(context: Context) -> None:
    """Owe it again: should raising it fail, that is told as of any rollback."""
    wanted, evidence = not_raised(context.evidence.record()), context.evidence
    if wanted is not None:
        cohorts = context.plan.cohorts
        applied = [each for each in cohorts if evidence.exists(layout.cohort_env(each))]
        owe(context, max(applied or cohorts), wanted)


def _withdrawn(context: Context, withdraw: Callable[[Context], None], otherwise: str) -> bool:
    """Whether what a newer rollout has decided is withdrawn; if not, that is a warning."""
    try:
        withdraw(context)
    except (OSError, StoreUnreachableError) as error:
        context.warn(STEP, f"what a newer rollout has decided {otherwise}: {error}")
        return False
    return True


def _restore(context: Context, wanted: LiveRouting) -> Restored:
    evidence, plan = context.evidence, context.plan
    log_file = layout.free_rollback_log(evidence.folder, context.attempt)
    variables = variables_of(wanted)
    env_file = evidence.write_text(layout.ROLLBACK_ENV, env_file_text(variables))
    variables[f"{plan.variable_prefix}_ENV_FILE"] = str(env_file)
    context.tell(f"rollback: back to {wanted}")
    command = plan.rollback_command or plan.apply_command or ""
    ending = run_logged(command, log_file, context, variables)
    if ending.reason is not None:
        return Restored("failed", ROLLBACK_FAILED, ending.detail, ending.exit_code, log_file)
    seen = await_live(wanted, plan.verify_timeout_seconds or 0, context)
    status: Status = "passed" if seen.problem is None else "failed"
    unseen = seen.problem is not None and seen.live is None
    reason = NOT_VERIFIED if unseen else seen.problem
    return Restored(status, reason, seen.detail, ending.exit_code, log_file, seen.live)


def _before(context: Context) -> LiveRouting:
    before = context.evidence.header().live_before
    if before is None:
        raise ValueError("this rollout has applied nothing that is not restored")
    return before


def _add(context: Context, cause: str, restored: Restored, started: float) -> RollbackRow:
    evidence, clock = context.evidence, context.clock
    seconds = round(clock.monotonic() - started, 3)
    row = RollbackRow(
        status=restored.status,
        reason=restored.reason,
        detail=restored.detail,
        cause=cause,
        command=context.plan.rollback_command or "",
        exit_code=restored.exit_code,
        wanted=_before(context),
        live=restored.live,
        started_at=rfc3339(clock.now() - timedelta(seconds=seconds)),
        finished_at=rfc3339(clock.now()),
        duration_seconds=seconds,
        log_file=restored.log_file,
        log_sha256=evidence.sha256(restored.log_file) if restored.log_file else None,
        attempt=context.attempt,
        run_id=context.run_id,
    )
    evidence.add(row)
    why = f" ({row.reason}: {row.detail})" if row.reason else ""
    context.tell(f"rollback: {row.status}{why} in {seconds:.1f} s")
    return row


def _forget(context: Context) -> None:
    """Nothing of the rollout is live any more: no soak can go on, and a next apply looks anew."""
    nothing = {"live_before": None, "applied_percent": None, "restoring": False}
    context.evidence.update_header(lambda header: header.model_copy(update=nothing))
    settle_debt(context)
    for state in context.evidence.all_in_flight():
        if state.step.startswith("cohort "):
            context.evidence.clear_in_flight(state.step)
