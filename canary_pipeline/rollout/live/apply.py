"""Making a cohort live: remember what was, apply, and verify, before the probe and after the soak.

Only where an apply command is configured. A go decision about a percentage that was never live
is worth nothing, so what cannot be verified has failed.
"""

from dataclasses import dataclass, replace
from typing import Any

from canary_pipeline.model.env_sequence import (
    ROLLBACK_ENV_FILE,
    cohort_routing,
    env_file_text,
    env_file_variable,
    variables_of,
)
from canary_pipeline.model.plan import HIGHEST_PERCENT, Changes
from canary_pipeline.model.rows import CohortRow, Header, LiveRouting, Routing
from canary_pipeline.rollout.cohort import Cohort
from canary_pipeline.rollout.live.routing import (
    PERCENT_NOT_LIVE,
    Seen,
    await_answer,
    await_live,
)
from canary_pipeline.rollout.logged_command import CHANGE_GRACE_SECONDS, run_logged

APPLY_FAILED = "apply_failed"
PERCENT_DRIFTED = "percent_drifted"

OVERRIDES = frozenset(
    {
        "force_control_service", "force_driver", "user_override", "autopilot_override",
        "autopilot_binding",
    }
)  # fmt: skip
"""Routing reasons that outrank the canary, in the control service's own order of precedence."""


@dataclass(frozen=True)
class Made:
    """How making a cohort live went.

    Attributes:
        problem: `apply_failed`, `percent_not_live` or `shadow_not_live`; None when it is live.
        detail: The problem as a sentence.
        exit_code: The apply command's.
        seconds: How long the apply command took; None where it was not run.
        log_file: What it printed, relative to the rollout's folder.
        log_sha256: The log's digest.
        live: What staging showed last.
    """

    problem: str | None
    detail: str | None
    exit_code: int | None = None
    seconds: float | None = None
    log_file: str | None = None
    log_sha256: str | None = None
    live: LiveRouting | None = None

    def fields(self) -> dict[str, Any]:
        """What the cohort's row says of it."""
        return {
            "apply_exit_code": self.exit_code,
            "apply_seconds": self.seconds,
            "apply_log_file": self.log_file,
            "apply_log_sha256": self.log_sha256,
            "live": self.live,
        }


def make_live(cohort: Cohort) -> Made:
    """Apply a cohort's variables and wait until staging shows them."""
    changes, wanted = _changes(cohort), cohort_routing(cohort.percent)
    cohort.note_phase("apply")
    unknown = _remember_what_is_live(cohort, wanted)
    if unknown is not None:
        return Made(APPLY_FAILED, unknown)
    applied = _apply(cohort, changes, wanted)
    if applied.problem is not None:
        return applied
    cohort.note_phase("verify")
    started = cohort.around.clock.monotonic()
    seen = await_live(wanted, changes.verify_timeout_seconds, cohort.control_plane, cohort.around)
    waited = cohort.around.clock.monotonic() - started
    cohort.say(
        f"live after {waited:.1f} s: {seen.live}"
        if seen.problem is None
        else f"not live after {waited:.1f} s ({seen.problem}): {seen.detail}"
    )
    return replace(applied, problem=seen.problem, detail=seen.detail, live=seen.live)


def _changes(cohort: Cohort) -> Changes:
    if cohort.plan.changes is None:
        raise ValueError("this rollout applies nothing")
    return cohort.plan.changes


def _remember_what_is_live(cohort: Cohort, wanted: Routing) -> str | None:
    """Record what was live before the first cohort; return why that cannot be, as a sentence."""
    before = cohort.around.evidence.header().live_before
    if before is None:
        seen = await_answer(
            wanted, cohort.plan.http_timeout_seconds, cohort.control_plane, cohort.around
        )
        if seen.live is None:
            return f"nothing was applied: {seen.detail}"
        before = seen.live
        cohort.say(f"before the first cohort is live: {before}")
        text = env_file_text(variables_of(before))
        cohort.around.evidence.write_env_file(ROLLBACK_ENV_FILE, text)

    def remember(header: Header) -> Header:
        applied = {
            "live_before": before, "applied_percent": cohort.percent, "restoring": False,
        }  # fmt: skip
        return header.model_copy(update=applied)

    cohort.around.evidence.update_header(remember)
    return None


def _apply(cohort: Cohort, changes: Changes, wanted: Routing) -> Made:
    around, log_file = cohort.around, f"logs/apply-{cohort.percent}.log"
    variables = variables_of(wanted)
    env_file = around.evidence.write_env_file(
        f"cohort-{cohort.percent}.env", env_file_text(variables)
    )
    variables[env_file_variable(cohort.plan.environment.name)] = str(env_file)
    started = around.clock.monotonic()
    ending = run_logged(
        changes.apply_command,
        log_file,
        cohort.plan,
        around,
        variables,
        grace_seconds=CHANGE_GRACE_SECONDS,
        leave_background=True,
    )
    seconds = round(around.clock.monotonic() - started, 3)
    word = "applied" if ending.reason is None else f"apply failed ({ending.detail})"
    cohort.say(f"{word} in {seconds:.1f} s; {log_file}")
    return Made(
        None if ending.reason is None else APPLY_FAILED,
        ending.detail,
        ending.exit_code,
        seconds,
        log_file,
        around.evidence.sha256(log_file),
    )


def is_still_live(cohort: Cohort) -> bool:
    """Whether a cohort that an earlier attempt has made live is live now, and may be relied on.

    After an abort it was rolled back, and after a kill somebody may have done that by hand.
    """
    if cohort.plan.changes is None:
        return True
    if cohort.around.evidence.header().restoring:
        cohort.say("a rollback has begun since it was live; it starts anew")
        return False
    seen = _seen_now(cohort)
    if seen.problem is not None:
        cohort.say(f"is not live any more, and starts anew: {seen.detail}")
    return seen.problem is None


def verified_after_soak(cohort: Cohort, row: CohortRow) -> CohortRow:
    """The row of a cohort that soaked: failed where its percents are not live any more."""
    seen = _seen_now(cohort)
    if seen.problem is None:
        return row.model_copy(update={"live_after_soak": seen.live})
    drifted = seen.live is not None and seen.problem == PERCENT_NOT_LIVE
    reason = PERCENT_DRIFTED if drifted else seen.problem
    cohort.say(f"{reason} at the end of the soak: {seen.detail}")
    return row.model_copy(
        update={
            "status": "failed",
            "reason": reason,
            "error": f"at the end of the soak {seen.detail}",
            "live_after_soak": seen.live,
        }
    )


def _seen_now(cohort: Cohort) -> Seen:
    wanted = cohort_routing(cohort.percent)
    seconds = cohort.plan.http_timeout_seconds
    return await_answer(wanted, seconds, cohort.control_plane, cohort.around)


def routing_contradiction(row: CohortRow) -> str | None:
    """What the probe said against the percent that is live, where that is certain; or None.

    At 100 % every user is in the canary, unless something that outranks it says otherwise.
    """
    if row.status != "passed" or row.cohort_percent != HIGHEST_PERCENT:
        return None
    if row.driver != "control_service" or row.routing_reason in OVERRIDES:
        return None
    return (
        f"100 % is live, but the probe was routed to {row.driver} by {row.routing_reason}, "
        "not to the canary's driver"
    )
