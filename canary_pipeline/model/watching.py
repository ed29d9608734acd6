"""What is watched while a cohort soaks, and whether the looks on file bear out its row."""

from collections.abc import Sequence

from canary_pipeline.model.env_sequence import cohort_routing
from canary_pipeline.model.health import judge
from canary_pipeline.model.limits import Limit, parse_limits
from canary_pipeline.model.looks import Look, Watch
from canary_pipeline.model.moment import seconds_between
from canary_pipeline.model.plan import Plan
from canary_pipeline.model.record import Header
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


def unsupported(header: Header, row: CohortRow, looks: Sequence[Look]) -> str | None:
    """What the looks on file say against a cohort's pass; None where they bear it out.

    Args:
        header: What the rollout does, and its attempts.
        row: The cohort's row.
        looks: All looks of the cohort.
    """
    watch = watch_of(header, row.cohort_percent)
    if watch is None or row.status != "passed" or header.skip_gates:
        return None
    if not looks:
        return "holds no look, and its cohort passed" if row.health_file or watch.limits else None
    soak = last_soak(looks)
    if _is_another(header, row, soak[0]):
        return "holds another soak, and its cohort passed"
    verdict = judge(watch, soak).verdict
    if verdict is None:
        return "does not reach the end of the soak, and its cohort passed"
    return None if verdict.passed else f"shows {verdict.reason}, and its cohort passed"


def _is_another(header: Header, row: CohortRow, first: Look) -> bool:
    """Whether a soak with this first look is not the one that a row tells of.

    Rows of an older version do not name theirs: it began before its first look, and saw what
    counts.
    """
    if row.soak not in (None, first.soak):
        return True
    before = first.attempt < header.counts_from <= row.attempt
    return before or (seconds_between(row.soak_started_at, first.at) or 0.0) < 0
