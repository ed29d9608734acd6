"""Past rollouts, read back from their folders: what was decided, how long it took, what blocked."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from canary_pipeline.model.commit import tested
from canary_pipeline.model.decision import decide
from canary_pipeline.model.moment import moment_of, rfc3339
from canary_pipeline.model.record import AttemptOutcome, Header, Record
from canary_pipeline.model.remarks import remarks
from canary_pipeline.model.text import one_line
from canary_pipeline.outside.claim import ClaimUnusableError, current_holder
from canary_pipeline.reports.decided import written_decision
from canary_pipeline.reports.verification import check
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.layout import DECISION, SUMMARY
from canary_pipeline.store.rollouts import newest_first

HolderOf = Callable[[str], Mapping[str, str] | None]
"""What whoever holds the environment of a name says of itself, or None where nobody does."""

Outcome = AttemptOutcome | Literal["under way", "killed", "not begun"]

MOST_REASONS = 2
"""How many reasons `what_blocked` tells before it only counts them."""

LONGEST_REASON = 200
"""Characters of one reason in `what_blocked`; the summary has all of it."""


@dataclass(frozen=True)
class PastRollout:
    """One rollout as its folder tells it.

    Attributes:
        folder: The rollout's folder, absolute.
        problem: Why the folder cannot be read; everything below is then empty.
        environment: Such as `staging`.
        started_at: When it was opened.
        ended_at: When its last attempt ended; None while one is under way, or was killed.
        duration_seconds: What its attempts took together.
        decision: What was decided, or None where there is nothing that one can rely on.
        verifies: Whether the decision follows from the folder; None where that cannot be said: it
            was written by an older version, or a run is under way.
        decided_at: When it was decided.
        commit: The one that was tested, without other changes.
        what_blocked: The first reasons that block, as one line; empty where nothing does.
        remarks: What the decision's word does not say by itself.
        attempts: How many runs worked on it.
        outcome: How the last attempt ended.
        gate_seconds: By gate that ran, how long its last run took.
        probe_failures: Cohorts whose last row failed.
        cohorts: The percents of this rollout.
        highest_passed: The highest percent whose cohort passed, or None.
        launched_by: Who or what launched its first attempt.
    """

    folder: Path
    problem: str | None = None
    environment: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    decision: Literal["allow", "block"] | None = None
    verifies: bool | None = None
    decided_at: datetime | None = None
    commit: str | None = None
    what_blocked: str = ""
    remarks: tuple[str, ...] = ()
    attempts: int = 0
    outcome: Outcome | None = None
    gate_seconds: tuple[tuple[str, float], ...] = ()
    probe_failures: int = 0
    cohorts: tuple[int, ...] = ()
    highest_passed: int | None = None
    launched_by: str = ""

    def to_json_object(self) -> dict[str, Any]:
        """The rollout for other tools: moments as RFC 3339, durations in seconds."""
        return {
            "folder": str(self.folder),
            "problem": self.problem,
            "environment": self.environment,
            "started_at": None if self.started_at is None else rfc3339(self.started_at),
            "ended_at": None if self.ended_at is None else rfc3339(self.ended_at),
            "duration_seconds": self.duration_seconds,
            "decision": self.decision,
            "verifies": self.verifies,
            "decided_at": None if self.decided_at is None else rfc3339(self.decided_at),
            "commit": self.commit,
            "what_blocked": self.what_blocked,
            "remarks": list(self.remarks),
            "attempts": self.attempts,
            "outcome": self.outcome,
            "gate_seconds": dict(self.gate_seconds),
            "probe_failures": self.probe_failures,
            "cohorts": list(self.cohorts),
            "highest_passed": self.highest_passed,
            "launched_by": self.launched_by,
        }


def past_rollouts(
    root: Path,
    limit: int | None = None,
    environments: Collection[str] | None = None,
    holder_of: HolderOf = current_holder,
) -> list[PastRollout]:
    """Read the rollouts directly below a folder, newest first.

    Args:
        root: Usually `attempts.OUTPUT_ROOT`.
        limit: The most rollouts to read, the newest ones; None for all.
        environments: The names of the environments whose rollouts are read; None for all.
        holder_of: Who holds an environment; by default whoever does so on this host.

    Raises:
        OSError: When the root cannot be listed.
    """
    found = newest_first(root, environments, limit)
    return [read_rollout(evidence, holder_of) for evidence in found]


def read_rollout(evidence: Evidence, holder_of: HolderOf = current_holder) -> PastRollout:
    """Read one rollout; what cannot be read is said in `problem`, never raised."""
    try:
        # Before the rows: whoever goes on with a rollout unsays its decision before adding any.
        decision = written_decision(evidence)
        record = evidence.record()
    except NotARolloutError as error:
        problem = one_line(str(error).replace(f"{evidence.folder}/", ""))
        return PastRollout(evidence.folder, problem=problem)
    header = record.header
    last = header.attempts[-1] if header.attempts else None
    started_at = moment_of(header.started_at)
    ended_at = moment_of(last.ended_at) if last else None
    outcome = _outcome(header, evidence.folder.name, holder_of)
    counted, reasons, verifies = _believed(evidence, record, decision, outcome)
    return PastRollout(
        folder=evidence.folder,
        environment=header.environment,
        started_at=started_at,
        ended_at=ended_at,
        duration_seconds=record.duration_seconds,
        decision=counted,
        verifies=verifies,
        decided_at=moment_of(header.decided_at),
        commit=tested(record).clean_commit,
        what_blocked=_in_short(reasons),
        remarks=remarks(record),
        attempts=len(header.attempts),
        outcome=outcome,
        gate_seconds=_gate_seconds(record),
        probe_failures=len(_cohorts_that(record, "failed")),
        cohorts=tuple(header.cohorts),
        highest_passed=max(_cohorts_that(record, "passed"), default=None),
        launched_by=header.attempts[0].launched_by if header.attempts else "",
    )


def _outcome(header: Header, name: str, holder_of: HolderOf) -> Outcome:
    if not header.attempts:
        return "not begun"
    last = header.attempts[-1]
    if last.outcome is not None:
        return last.outcome
    try:
        holder = holder_of(header.environment) or {}
    except ClaimUnusableError:
        holder = {}
    # A lease names the rollout until its run is known; who rolls back by hand is no run.
    return "under way" if holder.get("run") in (last.run_id, name) else "killed"


def _believed(
    evidence: Evidence, record: Record, written: str | None, outcome: Outcome
) -> tuple[Literal["allow", "block"] | None, list[str], bool | None]:
    """The decision as far as one can rely on it, why it is so, and whether it verifies."""
    found = check(evidence)
    if found.answer != "none" and found.statement is not None:
        return found.answer, [why.text for why in found.statement.details.reasons], True
    if record.header.decided_at is not None or evidence.exists(DECISION):
        unended = outcome in ("under way", "killed") and not evidence.exists(DECISION)
        return None, _no_decision(found.reasons), None if unended else False
    return *_believed_of_an_older_version(evidence, record, written, outcome), None


def _no_decision(reasons: Sequence[str]) -> list[str]:
    return [f"no decision: {reasons[0]}", *reasons[1:]]


def _believed_of_an_older_version(
    evidence: Evidence, record: Record, written: str | None, outcome: Outcome
) -> tuple[Literal["allow", "block"] | None, list[str]]:
    """The last line of a summary, unless what else the folder holds denies it; and why."""
    if written == "block":
        reasons = _written_reasons(evidence) or [item.text for item in decide(record).reasons]
        return "block", reasons
    if written is None:
        return None, [f"no decision: {outcome}"]
    against = [item.text for item in decide(record).reasons]
    if outcome != "finished":
        against = [f"its last attempt is {outcome}", *against]
    if against:
        return None, [f"no decision: {SUMMARY} says allow, but {against[0]}", *against[1:]]
    return "allow", []


def _written_reasons(evidence: Evidence) -> list[str]:
    """What `## Why` of the summary lists, each without where its evidence lies."""
    _, _, after = (evidence.read_text(SUMMARY) or "").partition("\n## Why\n")
    why, _, _ = after.partition("\n## ")
    bullets = [line.removeprefix("- ") for line in why.splitlines() if line.startswith("- ")]
    return [bullet.rpartition(" (evidence: `")[0] or bullet for bullet in bullets]


def _in_short(reasons: Sequence[str]) -> str:
    told = [_cut(one_line(reason)) for reason in reasons[:MOST_REASONS]]
    more = len(reasons) - len(told)
    return "; ".join([*told, *([f"and {more} more"] if more else [])])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"


def _gate_seconds(record: Record) -> tuple[tuple[str, float], ...]:
    return tuple(
        (row.gate, row.duration_seconds)
        for _, row in record.gates
        if row is not None and row.status != "skipped" and math.isfinite(row.duration_seconds)
    )


def _cohorts_that(record: Record, status: str) -> list[int]:
    return [percent for percent, row in record.cohorts if row is not None and row.status == status]
