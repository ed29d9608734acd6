"""What the looks of a rollout's soaks have shown: as Markdown, as numbers, and when it was bad."""

from collections.abc import Iterator, Sequence

from canary_pipeline.model.looks import Look, Watch, problem_of
from canary_pipeline.model.record import Record
from canary_pipeline.model.soaks import closest, health_lines, last_soak
from canary_pipeline.model.watching import watch_of
from canary_pipeline.store.folder import Evidence

Soak = tuple[int, Watch, Sequence[Look]]
"""A cohort's percent, what is enforced, and the looks of the soak that counts."""


def watched_soaks(record: Record, evidence: Evidence) -> Iterator[Soak]:
    """The soak of each cohort that was watched."""
    for percent in record.header.cohorts:
        watch, looks = watch_of(record.header, percent), evidence.looks(percent)
        if watch is not None and looks:
            yield percent, watch, last_soak(looks)


def health_text(record: Record, evidence: Evidence) -> str | None:
    """A paragraph a cohort that was watched; None where none was."""
    lines = []
    for percent, watch, looks in watched_soaks(record, evidence):
        first, *limits = health_lines(watch, looks)
        lines += [f"- Cohort {percent} %: {first}", *(f"  - {line}" for line in limits)]
    return "\n".join(lines) or None


def limited_numbers(soaks: Sequence[Soak]) -> dict[str, float]:
    """The highest growth or level of each limited number, by names such as `growth/NAME/25`."""
    return {
        f"{'growth' if limit.growth else 'level'}/{limit.name}/{percent}": found[0]
        for percent, watch, looks in soaks
        for limit in watch.limits
        if (found := closest(limit, looks)) is not None
    }


def bad_moments(soaks: Sequence[Soak]) -> dict[int, list[float]]:
    """By cohort, at how many seconds of its soak a look was bad, or not answered."""
    return {
        percent: [
            look.elapsed_seconds
            for look in looks
            if look.number > 0 and (problem_of(watch, look) or not look.was_answered)
        ]
        for percent, watch, looks in soaks
    }
