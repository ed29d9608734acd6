"""The go or no-go: a pure function of what the folder of a rollout holds."""

from dataclasses import dataclass

from canary_pipeline.model.rows import (
    MISSING_PROBE_CONFIG,
    SKIPPED_BY_FLAG,
    CohortRow,
    GateRow,
)
from canary_pipeline.store.folder import (
    COHORT_RESULTS,
    GATE_RESULTS,
    HEADER,
    ROLLBACK_RESULTS,
    Record,
)


@dataclass(frozen=True)
class Reason:
    """Something that blocks.

    Attributes:
        text: What was seen, as a sentence.
        evidence: The file that shows it, relative to the rollout's folder.
    """

    text: str
    evidence: str


@dataclass(frozen=True)
class Decision:
    """`allow` if and only if nothing blocks."""

    reasons: tuple[Reason, ...]

    @property
    def allowed(self) -> bool:
        """Whether production may be promoted."""
        return not self.reasons

    @property
    def word(self) -> str:
        """`allow` or `block`."""
        return "allow" if self.allowed else "block"


def gate_is_clear(record: Record, gate: str) -> bool:
    """Whether a gate's last row is `passed`, and no later attempt was to run it again."""
    row = record.last_gate_row(gate)
    return row is not None and row.status == "passed" and row.attempt >= last_run(record, gate)


def last_run(record: Record, gate: str) -> int:
    """The last attempt that was to run a gate, or 0."""
    runs = [item.attempt for item in record.header.attempts if gate in item.gates_to_run]
    return max(runs, default=0)


def gates_are_clear(record: Record) -> bool:
    """Whether every gate is clear."""
    return all(gate_is_clear(record, gate.name) for gate in record.header.gates)


def cohort_is_clear(record: Record, percent: int) -> bool:
    """Whether a cohort's last row lets the next cohort start.

    That is `passed`, or `skipped` for missing probe configuration. Such a skip counts only in a
    rollout that had no probe configuration, and never covers up a probe that failed. Where the
    rollout makes its cohorts live, a pass counts only with what was seen live, and that of its
    last cohort only as long as nobody has begun to roll it back.
    """
    row = record.last_cohort_row(percent)
    if row is None or row.status == "failed":
        return False
    if row.status == "passed":
        return record.header.apply_command is None or _stands(record, row)
    failed_before = any(
        other.status == "failed" for other in record.cohort_rows if other.cohort_percent == percent
    )
    was_not_live = bool(record.header.missing_for_probe)
    return row.reason == MISSING_PROBE_CONFIG and was_not_live and not failed_before


def _stands(record: Record, row: CohortRow) -> bool:
    """Whether a pass of a rollout that makes its cohorts live still says something."""
    is_last = row.cohort_percent == record.header.cohorts[-1]
    return row.live is not None and not (is_last and _rolled_back_since(record, row))


def _rolled_back_since(record: Record, row: CohortRow) -> bool:
    """Whether a rollback has begun since a cohort ended; an attempt rolls back after all else."""
    header = record.header
    touched = [other.attempt for other in record.rollback_rows if other.status != "skipped"]
    return header.live_before is None or header.restoring or max(touched, default=0) >= row.attempt


def decide(record: Record) -> Decision:
    """Compute the decision.

    `allow` needs a last row `passed` of every gate, and of every cohort of the rollout a last row
    `passed` or `skipped` with `missing_control_base_or_token`. Everything else blocks: a missing
    or unreadable row, an edited file, an attempt that was aborted or crashed.
    """
    reasons = [
        *(Reason(f"{problem.file} {problem.message}", problem.file) for problem in record.problems),
        *_attempt_reasons(record),
        *_gate_reasons(record),
        *_cohort_reasons(record),
        *_rollback_reasons(record),
    ]
    return Decision(tuple(reasons))


def _attempt_reasons(record: Record) -> list[Reason]:
    last = record.header.attempts[-1] if record.header.attempts else None
    if last is None or last.outcome in (None, "finished"):
        return []
    return [Reason(f"attempt {last.attempt} {last.outcome}: {last.detail}", HEADER)]


def _gate_reasons(record: Record) -> list[Reason]:
    if record.header.skip_gates or record.gates_were_skipped:
        return [Reason(f"gates were skipped ({SKIPPED_BY_FLAG}): a dry run", GATE_RESULTS)]
    if not record.header.gates:
        return [Reason("no gate is required, so none passed", HEADER)]
    return [
        _gate_reason(gate.name, record.last_gate_row(gate.name), last_run(record, gate.name))
        for gate in record.header.gates
        if not gate_is_clear(record, gate.name)
    ]


def _gate_reason(gate: str, row: GateRow | None, attempt: int) -> Reason:
    if row is None:
        return Reason(f"gate {gate} has no result", GATE_RESULTS)
    if row.attempt < attempt:
        return Reason(f"gate {gate} has no result of attempt {attempt}", GATE_RESULTS)
    detail = row.detail or row.reason or "no reason recorded"
    return Reason(f"gate {gate} {row.status}: {detail}", row.log_file or GATE_RESULTS)


def _cohort_reasons(record: Record) -> list[Reason]:
    if not record.header.cohorts:
        return [Reason("the rollout has no cohort", HEADER)]
    return [
        _cohort_reason(percent, record.last_cohort_row(percent))
        for percent in record.header.cohorts
        if not cohort_is_clear(record, percent)
    ]


def _cohort_reason(percent: int, row: CohortRow | None) -> Reason:
    if row is None:
        return Reason(f"cohort {percent} % has no result", COHORT_RESULTS)
    applied = row.apply_log_file if row.reason == "apply_failed" else None
    evidence = applied or row.response_file or COHORT_RESULTS
    if row.status == "skipped" and row.reason == MISSING_PROBE_CONFIG:
        return Reason(
            f"cohort {percent} % was skipped although it was to be probed, or had failed before",
            COHORT_RESULTS,
        )
    if row.status == "passed" and row.live is not None:
        text = f"cohort {percent} % passed, but staging was rolled back since"
        return Reason(text, ROLLBACK_RESULTS)
    if row.status == "passed":
        return Reason(f"cohort {percent} % passed without having been seen live", evidence)
    return Reason(f"cohort {percent} % {row.status}: {cohort_detail(row)}", evidence)


def _rollback_reasons(record: Record) -> list[Reason]:
    last = record.rollback_rows[-1] if record.rollback_rows else None
    if last is None or last.status != "failed":
        return []
    final = record.last_cohort_row(record.header.cohorts[-1]) if record.header.cohorts else None
    if final is not None and final.attempt > last.attempt:
        return []  # the rollout went on since, and made live what it wanted
    text = f"ROLLBACK FAILED, staging is not as it was: {last.reason}: {last.detail}"
    return [Reason(text, last.log_file or ROLLBACK_RESULTS)]


def owes_rollback(record: Record) -> bool:
    """Whether a rollout has left a cohort live that its decision does not let stand."""
    return record.header.live_before is not None and not decide(record).allowed


def cohort_detail(row: CohortRow) -> str:
    """What a cohort's row says beyond its status, in a few words."""
    if row.error is not None:
        return f"{row.reason}: {row.error}"
    if row.http_status is not None:
        routing = f", {row.driver}" if row.driver else ""
        because = f" by {row.routing_reason}" if row.routing_reason else ""
        return f"probe answered {row.http_status}{routing}{because}"
    if row.missing:
        return f"{row.reason}: {', '.join(row.missing)}"
    return row.reason or ""
