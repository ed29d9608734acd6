"""What the looks of a rollout's soaks have shown, as Markdown for the summary."""

from canary_pipeline.model.record import Record
from canary_pipeline.model.soaks import health_lines, last_soak
from canary_pipeline.model.watching import watch_of
from canary_pipeline.store.folder import Evidence


def health_text(record: Record, evidence: Evidence) -> str | None:
    """A paragraph a cohort that was watched; None where none was."""
    lines = []
    for percent, _ in record.cohorts:
        watch, looks = watch_of(record.header, percent), evidence.looks(percent)
        if watch is not None and looks:
            first, *limits = health_lines(watch, last_soak(looks))
            lines += [f"- Cohort {percent} %: {first}", *(f"  - {line}" for line in limits)]
    return "\n".join(lines) or None
