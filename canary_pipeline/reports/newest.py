"""The newest decision, which a promotion asks for: no older one answers for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from canary_pipeline.model.commit import commits_seen
from canary_pipeline.model.moment import moment_of
from canary_pipeline.model.record import Header
from canary_pipeline.model.text import one_line
from canary_pipeline.reports.verification import Demands, Verification, statement_of, verify
from canary_pipeline.store import layout
from canary_pipeline.store.elsewhere import Elsewhere
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.rollouts import rollout_folders

_UNKNOWN = datetime.max.replace(tzinfo=UTC)
"""When something was worked on of which nobody can say when: it may be the newest."""


def verify_newest(root: Path, demands: Demands, now: datetime) -> Verification:
    """Whether the newest decision below a root can be relied on; of its commit, if one is asked.

    Raises:
        OSError: When the root cannot be listed.
    """
    folders = sorted(rollout_folders(root, layout.OF_A_ROLLOUT))
    found = verify_last(folders, demands, now, of_commit=demands.commit)
    if found is None:
        which = f"commit {demands.commit}" if demands.commit else "any kind"
        return Verification(root, (f"there is no rollout of {which} below {one_line(str(root))}",))
    return found


def verify_last(
    folders: Iterable[Path], demands: Demands, now: datetime, *, of_commit: str | None = None
) -> Verification | None:
    """Whether one can rely on the decision of the rollout that was worked on last, or None.

    Of several at the same moment, one that does not allow answers. A rollout counts for whatever
    its rows or its decision say that it is of, and for every commit that it has seen or may have
    seen, so that none can hide a later block behind an older `allow`.

    Args:
        folders: The rollouts' folders.
        demands: What is asked of the decision; only rollouts that they ask for count.
        now: The present.
        of_commit: Whether only rollouts count that have seen this commit.
    """
    dated: list[tuple[datetime, Evidence]] = []
    environments: set[str] = set()
    for evidence in map(Evidence, folders):
        try:
            said = _claims(evidence)
        except NotARolloutError as error:
            reason = f"{error}; it may be the newest"
            return Verification(evidence.folder, (reason,), (layout.HEADER,))
        asked_for = set(filter(demands.ask_for, said.environments))
        if asked_for and _may_be_of(of_commit, said.commits):
            environments |= asked_for
            dated.append((said.touched_at, evidence))
    if len(environments) > 1:
        several = " and ".join(sorted(environments))
        reason = f"there are rollouts of {several}; --environment says which"
        return Verification(dated[0][1].folder.parent, (reason,))
    newest = max((touched for touched, _ in dated), default=None)
    found = [verify(evidence, demands, now) for touched, evidence in dated if touched == newest]
    return next((one for one in found if one.answer != "allow"), found[-1] if found else None)


def bring_last(shared: Elsewhere, root: Path | None = None, of_commit: str | None = None) -> None:
    """Bring here the published rollout of an environment that was worked on last.

    Args:
        shared: The environment, as every host sees it.
        root: The folder that holds rollouts' folders; None for the usual one.
        of_commit: Whether only rollouts count that have seen this commit.

    Raises:
        OSError: When a folder cannot be written.
        StoreUnreachableError: When the store does not answer.
    """
    dated = [
        (_touched_at(header) if header else _UNKNOWN, name)
        for name, header in shared.headers().items()
        if header is None or _may_be_of(of_commit, _commits(header))
    ]
    newest = max((touched for touched, _ in dated), default=None)
    for name in [name for touched, name in dated if touched == newest]:
        shared.bring(name, root and root / name)


@dataclass(frozen=True)
class _Claims:
    """What a rollout may be of, by its rows and by its decision, where they differ.

    Attributes:
        environments: Names.
        commits: All that were seen.
        touched_at: When it was worked on last; one that tells no moment may be the newest.
    """

    environments: set[str]
    commits: set[str]
    touched_at: datetime


def _claims(evidence: Evidence) -> _Claims:
    """What both say; where they differ, somebody has edited one of them.

    Raises:
        NotARolloutError: When `rollout.json` cannot be read.
    """
    record = evidence.record()
    environments, commits = {record.header.environment}, commits_seen(record)
    touched_at = _touched_at(record.header)
    decided = statement_of(evidence.read_bytes(layout.DECISION))
    if decided is not None:
        environments.add(decided.details.environment)
        commits.update(decided.details.commits)
        touched_at = max(touched_at, _moment(decided.details.decided_at or ""))
    return _Claims(environments, commits, touched_at)


def _may_be_of(commit: str | None, commits: set[str]) -> bool:
    """Whether a rollout that saw these commits may have seen this one; None stands for any."""
    return commit is None or not commits or commit in commits


def _commits(header: Header) -> set[str]:
    pairs = ((item.commit, item.commit_after) for item in header.attempts)
    return {commit for pair in ((header.commit,), *pairs) for commit in pair if commit}


def _touched_at(header: Header) -> datetime:
    last = [item.started_at for item in header.attempts]
    return max(map(_moment, [header.started_at, header.decided_at or header.started_at, *last]))


def _moment(text: str) -> datetime:
    return moment_of(text) or _UNKNOWN
