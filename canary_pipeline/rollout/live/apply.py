"""Making a cohort live: remember what was, apply, and verify, before the probe.

Only where an apply command is configured. A go decision about a percentage that was never live
is worth nothing, so what cannot be verified has failed.
"""

from dataclasses import dataclass, replace
from typing import Any

from canary_pipeline.model.env_sequence import cohort_routing, env_file_text, variables_of
from canary_pipeline.model.rows import LiveRouting, Routing
from canary_pipeline.outside.lease import CUT_OFF_SECONDS
from canary_pipeline.rollout.context import Cohort
from canary_pipeline.rollout.live.owing import inherited, owe
from canary_pipeline.rollout.live.routing import await_answer, await_live, forced_off
from canary_pipeline.rollout.logged_command import run_logged
from canary_pipeline.rollout.superseded import await_withdrawal
from canary_pipeline.store import layout

APPLY_FAILED = "apply_failed"


@dataclass(frozen=True)
class ApplyResult:
    """How making a cohort live went.

    Attributes:
        problem: `apply_failed`, `percent_not_live`, `shadow_not_live` or `canary_forced_off`; None
            when it is live.
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


def make_live(cohort: Cohort) -> ApplyResult:
    """Apply a cohort's variables and wait until staging shows them."""
    wanted, clock = cohort_routing(cohort.percent), cohort.context.clock
    cohort.note("apply")
    unknown = _remember_what_is_live(cohort, wanted)
    if unknown is not None:
        return ApplyResult(APPLY_FAILED, unknown)
    applied = _apply(cohort, wanted)
    if applied.problem is not None:
        return applied
    cohort.note("verify")
    started = clock.monotonic()
    seconds = cohort.plan.verify_timeout_seconds or 0
    seen = forced_off(wanted, await_live(wanted, seconds, cohort.context))
    waited = clock.monotonic() - started
    cohort.say(
        f"live after {waited:.1f} s: {seen.live}"
        if seen.problem is None
        else f"not live after {waited:.1f} s ({seen.problem}): {seen.detail}"
    )
    return replace(applied, problem=seen.problem, detail=seen.detail, live=seen.live)


def _remember_what_is_live(cohort: Cohort, wanted: Routing) -> str | None:
    """Record what was live before the first cohort; return why that cannot be, as a sentence.

    What a dead rollout owes is inherited: what was live before that one is what is restored.
    """
    evidence = cohort.context.evidence
    await_withdrawal(cohort.context)
    before = evidence.header().live_before
    if before is None:
        seen = await_answer(wanted, cohort.plan.http_timeout_seconds, cohort.context)
        if seen.live is None:
            return f"nothing was applied: {seen.detail}"
        owed = inherited(cohort.context)
        before = owed.before if owed else seen.live
        cohort.say(f"before the first cohort is live: {seen.live}")
        if owed:
            cohort.warn(
                f"{owed.folder.name} has left {seen.live} behind; a rollback restores what was "
                f"live before it: {owed.before}"
            )
        evidence.write_text(layout.ROLLBACK_ENV, env_file_text(variables_of(before)))
    if not owe(cohort.context, cohort.percent, before):
        return (
            f"nothing was applied: the evidence store has not taken {layout.HEADER} for "
            f"{CUT_OFF_SECONDS} s, so no other host could restore staging"
        )
    return None


def _apply(cohort: Cohort, wanted: Routing) -> ApplyResult:
    context, plan = cohort.context, cohort.plan
    evidence, log_file = context.evidence, layout.apply_log(cohort.percent, context.attempt)
    variables = variables_of(wanted)
    env_file = evidence.write_text(layout.cohort_env(cohort.percent), env_file_text(variables))
    variables[f"{plan.variable_prefix}_ENV_FILE"] = str(env_file)
    started = context.clock.monotonic()
    ending = run_logged(plan.apply_command or "", log_file, context, variables)
    seconds = round(context.clock.monotonic() - started, 3)
    word = "applied" if ending.reason is None else f"apply failed ({ending.detail})"
    cohort.say(f"{word} in {seconds:.1f} s; {log_file}")
    return ApplyResult(
        None if ending.reason is None else APPLY_FAILED,
        ending.detail,
        ending.exit_code,
        seconds,
        log_file,
        evidence.sha256(log_file),
    )
