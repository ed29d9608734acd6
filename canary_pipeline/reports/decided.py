"""The one place that writes a decision: `SUMMARY.md` for people, `decision.json` for programs."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from canary_pipeline.model.decision import Decision, decide
from canary_pipeline.model.record import Record
from canary_pipeline.model.rows import RolloutWarning
from canary_pipeline.outside.signature import SignatureError, sign
from canary_pipeline.reports.statement import statement_text
from canary_pipeline.reports.summary import summary_text
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence


@dataclass(frozen=True)
class Derived:
    """What follows from everything else that a folder holds.

    Attributes:
        decision: The decision.
        summary: `SUMMARY.md`.
        statement: `decision.json`; None while an attempt is under way.
    """

    decision: Decision
    summary: bytes
    statement: bytes | None


def derived(evidence: Evidence, record: Record, files: dict[str, str]) -> Derived:
    """Derive a decision, to write it or to check what is written.

    Args:
        evidence: The rollout's folder.
        record: What it holds.
        files: By name, the digest of every file that a decision is about.
    """
    decision = decide(record)
    text = summary_text(record, decision, evidence.folder)
    summary = evidence.redactor.data(text.encode("utf-8", "replace"))
    last = record.header.last_attempt
    if last is not None and last.outcome is None:
        return Derived(decision, summary, None)
    files = {**files, layout.SUMMARY: sha256(summary).hexdigest()}
    statement = statement_text(record, decision, dict(sorted(files.items())))
    return Derived(decision, summary, statement.encode())


def write_decision(evidence: Evidence, record: Record, key: Path | None = None) -> Decision:
    """Write what follows from a record, and return it.

    What was decided before is taken away first, so that no `decision.json` says `allow` beside a
    summary that does not.

    Args:
        evidence: The rollout's folder.
        record: What it holds now.
        key: What signs the decision. One that cannot is a warning, and the decision stays unsigned.
    """
    for name in (layout.SIGNATURE, layout.DECISION):
        evidence.remove(name)
    found = derived(evidence, record, evidence.digests())
    evidence.write_bytes(layout.SUMMARY, found.summary)
    if found.statement is None:
        return found.decision
    evidence.write_bytes(layout.DECISION, found.statement)
    if key is None:
        return found.decision
    try:
        evidence.write_bytes(layout.SIGNATURE, sign(evidence.read_bytes(layout.DECISION), key))
    except SignatureError as error:
        _warn(evidence, record, f"the decision is not signed: {error}")
        return write_decision(evidence, evidence.verified_record())
    return found.decision


def _warn(evidence: Evidence, record: Record, message: str) -> None:
    last, at = record.header.last_attempt, record.header.decided_at or ""
    attempt, run_id = (last.attempt, last.run_id) if last else (1, "")
    warning = RolloutWarning(
        step="signature", message=message, at=at, attempt=attempt, run_id=run_id
    )
    evidence.add_warning(warning)


def written_decision(evidence: Evidence) -> str | None:
    """`allow` or `block` as the last line of `SUMMARY.md` says, or None where nothing is said."""
    lines = (evidence.read_text(layout.SUMMARY) or "").splitlines()
    last = lines[-1] if lines else ""
    said = last.removeprefix("Decision: ")
    return said if last in ("Decision: allow", "Decision: block") else None
