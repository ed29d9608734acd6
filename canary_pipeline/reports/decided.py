"""The one place that writes a decision: `SUMMARY.md`, and what programs read."""

from canary_pipeline.model.decision import Decision, decide
from canary_pipeline.model.record import Record
from canary_pipeline.reports.health import health_text
from canary_pipeline.reports.summary import summary_text
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence


def write_decision(evidence: Evidence, record: Record) -> Decision:
    """Write what follows from a record, and return it."""
    decision = decide(record)
    health = health_text(record, evidence)
    evidence.write_text(layout.SUMMARY, summary_text(record, decision, evidence.folder, health))
    return decision


def written_decision(evidence: Evidence) -> str | None:
    """`allow` or `block` as the last line of `SUMMARY.md` says, or None where nothing is said."""
    lines = (evidence.read_text(layout.SUMMARY) or "").splitlines()
    last = lines[-1] if lines else ""
    said = last.removeprefix("Decision: ")
    return said if last in ("Decision: allow", "Decision: block") else None
