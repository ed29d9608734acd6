"""The go or no-go: a pure function of what the folder of a rollout holds."""

from dataclasses import dataclass
from typing import get_args

from canary_pipeline.model.commit import tested
from canary_pipeline.model.looks import FailedReason
from canary_pipeline.model.record import Header, Record
from canary_pipeline.model.rows import (
    HELD,
    MISSING_PROBE_CONFIG,
    NOT_VERIFIED,
    SKIPPED_BY_FLAG,
    CohortRow,
    GateRow,
)
from canary_pipeline.model.wording import cohort_detail

HEADER, GATES, COHORTS, ROLLBACKS = (
    "rollout.json", "gate-results.jsonl", "cohort-results.jsonl", "rollback-results.jsonl",
)  # fmt: skip
"""Where the evidence of a reason lies."""

SOAK_TOLERANCE_SECONDS = 0.01
"""Clocks are read to milliseconds."""


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
    """The last attempt that was to run a gate, and at least the first whose rows count.

    A run that has no step for a gate does not run it, even where everything is done anew.
    """
    runs = [item.attempt for item in record.header.attempts if gate in item.gates_to_run]
    return max([*runs, record.header.counts_from])


def gates_are_clear(record: Record) -> bool:
    """Whether every gate is clear."""
    return all(gate_is_clear(record, gate.name) for gate in record.header.gates)


def cohort_is_clear(record: Record, percent: int) -> bool:
    """Whether a cohort's last row lets the next cohort start.

    That is `passed` after the whole soak, or `skipped` for missing probe configuration. Such a skip
    counts only in a rollout that had no probe configuration, and never covers up a probe that
    failed. Where the rollout makes its cohorts live, a pass counts only with what was seen live,
    and only as long as nobody has begun to roll it back.
    """
    row = record.last_cohort_row(percent)
    if row is None or row.status == "failed" or row.attempt < record.header.counts_from:
        return False
    if row.status == "passed":
        stands = record.header.apply_command is None or _stands(record, row)
        return stands and _short_soak(record, row) is None
    failed_before = any(
        other.status == "failed" for other in record.cohort_rows if other.cohort_percent == percent
    )
    was_not_live = bool(record.header.missing_for_probe)
    return row.reason == MISSING_PROBE_CONFIG and was_not_live and not failed_before


def _stands(record: Record, row: CohortRow) -> bool:
    """Whether a pass of a rollout that makes its cohorts live still says something."""
    return row.live is not None and not _rolled_back_since(record, row)


def _rolled_back_since(record: Record, row: CohortRow) -> bool:
    """Whether a rollback has begun since a cohort ended; an attempt rolls back after all else."""
    header = record.header
    touched = [other.attempt for other in record.rollback_rows if other.reason != HELD]
    return header.live_before is None or header.restoring or max(touched, default=0) >= row.attempt


def _short_soak(record: Record, row: CohortRow) -> str | None:
    """How a passed cohort soaked less than was planned, in words; None where it did not."""
    planned = record.header.soak_seconds
    # Rows of a version that did not measure it say only what was planned.
    measured = row.soak_seconds if row.soaked_seconds is None else row.soaked_seconds
    soaked = min(measured, row.soak_seconds)
    if soaked >= planned - SOAK_TOLERANCE_SECONDS:
        return None
    return f"soaked {soaked:g} s of {planned} s"


def decide(record: Record) -> Decision:
    """Compute the decision of a rollout whose last attempt has ended.

    `allow` needs a last row `passed` of every gate, and of every cohort of the rollout a last row
    `passed` or `skipped` with `missing_control_base_or_token`. Everything else blocks: a missing
    or unreadable row, an edited file, more than one commit, an attempt that did not finish.
    """
    last = record.header.last_attempt
    unfinished = []
    if last is not None and last.outcome is None:
        unfinished = [Reason(f"attempt {last.attempt} is under way, or was killed", HEADER)]
    return Decision((*unfinished, *decide_so_far(record).reasons))


def decide_so_far(record: Record) -> Decision:
    """Compute the decision as it would be if the attempt under way ended now."""
    reasons = [
        *(Reason(f"{problem.file} {problem.message}", problem.file) for problem in record.problems),
        *_withdrawn(record.header),
        *_attempt_reasons(record),
        *_commit_reasons(record),
        *_gate_reasons(record),
        *_cohort_reasons(record),
        *_rollback_reasons(record),
    ]
    return Decision(tuple(reasons))


def _withdrawn(header: Header) -> list[Reason]:
    return [Reason(f"withdrawn: {header.withdrawn}", HEADER)] if header.withdrawn else []


def _attempt_reasons(record: Record) -> list[Reason]:
    last = record.header.last_attempt
    if last is None or last.outcome in (None, "finished"):
        return []
    return [Reason(f"attempt {last.attempt} {last.outcome}: {last.detail}", HEADER)]


def _commit_reasons(record: Record) -> list[Reason]:
    commits = tested(record).commits
    if len(commits) < 2:  # noqa: PLR2004 - one commit is what a decision is about
        return []
    return [Reason(f"the checkout moved while it was tested: {' and '.join(commits)}", GATES)]


def _gate_reasons(record: Record) -> list[Reason]:
    if record.header.skip_gates or record.gates_were_skipped:
        return [Reason(f"gates were skipped ({SKIPPED_BY_FLAG}): a dry run", GATES)]
    if not record.header.gates:
        return [Reason("no gate is required, so none passed", HEADER)]
    return [
        _gate_reason(gate.name, row, last_run(record, gate.name))
        for gate, row in record.gates
        if not gate_is_clear(record, gate.name)
    ]


def _gate_reason(gate: str, row: GateRow | None, attempt: int) -> Reason:
    if row is None:
        return Reason(f"gate {gate} has no result", GATES)
    if row.attempt < attempt:
        return Reason(f"gate {gate} has no result of attempt {attempt}", GATES)
    detail = row.detail or row.reason or "no reason recorded"
    return Reason(f"gate {gate} {row.status}: {detail}", row.log_file or GATES)


def _cohort_reasons(record: Record) -> list[Reason]:
    if not record.header.cohorts:
        return [Reason("the rollout has no cohort", HEADER)]
    return [
        _cohort_reason(record, percent, row)
        for percent, row in record.cohorts
        if not cohort_is_clear(record, percent)
    ]


def _cohort_reason(record: Record, percent: int, row: CohortRow | None) -> Reason:
    if row is None:
        return Reason(f"cohort {percent} % has no result", COHORTS)
    if row.status == "passed":
        return _unsupported_pass(record, row)
    if row.status == "skipped" and row.reason == MISSING_PROBE_CONFIG:
        text = f"cohort {percent} % was skipped although it was to be probed, or had failed before"
        return Reason(text, COHORTS)
    if row.reason in get_args(FailedReason):
        evidence = row.health_file
    else:
        evidence = row.apply_log_file if row.reason == "apply_failed" else row.response_file
    evidence = evidence or COHORTS
    return Reason(f"cohort {percent} % {row.status}: {cohort_detail(row)}", evidence)


def _unsupported_pass(record: Record, row: CohortRow) -> Reason:
    """Why a pass does not count."""
    cohort = f"cohort {row.cohort_percent} % passed"
    if row.attempt < record.header.counts_from:
        return Reason(f"{cohort} at another commit, and has no result since", COHORTS)
    short = _short_soak(record, row)
    if short is not None:
        return Reason(f"{cohort}, but {short}", COHORTS)
    if row.live is not None:
        return Reason(f"{cohort}, but staging was rolled back since", ROLLBACKS)
    return Reason(f"{cohort} without having been seen live", row.response_file or COHORTS)


def _rollback_reasons(record: Record) -> list[Reason]:
    last = record.last_rollback
    if last is None or last.status != "failed":
        return []
    final = record.cohorts[-1][1] if record.cohorts else None
    if final is not None and final.attempt > last.attempt:
        return []  # the rollout went on since, and made live what it wanted
    how = "FAILED, staging is not as it was"
    if last.reason == NOT_VERIFIED:
        how = "NOT VERIFIED, though its command ended well"
    text = f"ROLLBACK {how}: {last.reason}: {last.detail}"
    return [Reason(text, last.log_file or ROLLBACKS)]


def owes_rollback(record: Record) -> bool:
    """Whether a rollout has left a cohort live that its decision does not let stand."""
    return record.header.live_before is not None and not decide_so_far(record).allowed
