"""Which commit a rollout tested: what a reader may conclude from its decision."""

from dataclasses import dataclass

from canary_pipeline.model.record import Record


@dataclass(frozen=True)
class Tested:
    """What the gates that count ran at.

    Attributes:
        commits: Every commit seen, oldest first; empty where the checkout is not under version
            control.
        dirty: Whether there were uncommitted changes at any time; None where unknown.
    """

    commits: tuple[str, ...]
    dirty: bool | None

    @property
    def clean_commit(self) -> str | None:
        """The one commit that was tested without other changes, or None where that is not so."""
        return self.commits[0] if len(self.commits) == 1 and self.dirty is False else None

    def __str__(self) -> str:
        """The same in words."""
        if not self.commits:
            return "unknown (the checkout is not under version control)"
        where = self.commits[0]
        if len(self.commits) > 1:
            where = f"gates ran at {' and at '.join(self.commits)}"
        return f"{where}, with uncommitted changes" if self.dirty else where


def tested(record: Record) -> Tested:
    """The commits that the rows which count, and the attempts that wrote them, were written at."""
    header = record.header
    counted = [item for item in header.attempts if item.attempt >= header.counts_from]
    seen = [(item.commit, item.commit_after, item.dirty) for item in counted]
    seen += [
        (row.commit, row.commit_after, row.dirty)
        for _, row in record.gates
        if row and row.attempt >= header.counts_from
    ]
    if not any(commit for commit, _, _ in seen):
        seen = [(header.commit, None, header.dirty)]  # as written before attempts knew theirs
    commits = [commit for pair in seen for commit in pair[:2] if commit]
    dirty = [state for _, _, state in seen if state is not None]
    return Tested(tuple(dict.fromkeys(commits)), any(dirty) if dirty else None)


def commits_seen(record: Record) -> set[str]:
    """Every commit that any attempt or gate of a rollout has seen, whether it counts or not."""
    header = record.header
    seen = [(item.commit, item.commit_after) for item in header.attempts]
    seen += [(row.commit, row.commit_after) for row in record.gate_rows]
    return {commit for pair in ((header.commit, None), *seen) for commit in pair if commit}
