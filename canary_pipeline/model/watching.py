"""What is watched while a cohort soaks, and whether the looks on file bear out its row."""

from collections.abc import Sequence

from canary_pipeline.model.env_sequence import cohort_routing
from canary_pipeline.model.health import judge
from canary_pipeline.model.limits import Limit, parse_limits
from canary_pipeline.model.looks import Look, Watch
from canary_pipeline.model.plan import Plan
from canary_pipeline.model.rows import CohortRow
from canary_pipeline.model.soaks import last_soak


def limits_of(plan: Plan) -> tuple[Limit, ...]:
    """The limits of a rollout."""
    return parse_limits(",".join(plan.limits)) if plan.limits else ()


def watch_of(plan: Plan, percent: int) -> Watch | None:
    """What is enforced while a cohort soaks; None where the soak is too short to be looked at."""
    if plan.soak_seconds < plan.watch_seconds:
        return None
    return Watch(
        limits=limits_of(plan),
        wanted=cohort_routing(percent) if plan.changes_staging else None,
        probes_live=plan.probes_are_live,
        soak_seconds=plan.soak_seconds,
        interval_seconds=plan.watch_seconds,
    )


def unsupported(plan: Plan, row: CohortRow, looks: Sequence[Look]) -> str | None:
    """What the looks on file say against a cohort's pass; None where they bear it out.

    Args:
        plan: What the rollout does.
        row: The cohort's row.
        looks: All looks of the cohort.
    """
    watch = watch_of(plan, row.cohort_percent)
    if watch is None or row.status != "passed" or plan.skip_gates:
        return None
    if not looks:
        return "holds no look, and its cohort passed" if row.health_file or watch.limits else None
    verdict = judge(watch, last_soak(looks)).verdict
    if verdict is None:
        return "does not reach the end of the soak, and its cohort passed"
    return None if verdict.passed else f"shows {verdict.reason}, and its cohort passed"
