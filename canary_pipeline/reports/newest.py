"""The newest decision below a root that a promotion asks for: no older one answers for it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from canary_pipeline.model.commit import commits_seen
from canary_pipeline.model.moment import moment_of
from canary_pipeline.model.text import one_line
from canary_pipeline.reports.verification import Demands, Verification, statement_of, verify
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.rollouts import rollout_folders


def verify_newest(root: Path, demands: Demands, now: datetime) -> Verification:
    """Whether the newest decision below a root can be relied on; of its commit, if one is asked.

    Newest is what was worked on last; of several at the same moment, one that does not allow. A
    rollout counts for whatever its rows or its decision say that it is of, and for every commit
    that it has seen, so that none can hide a later block behind an older `allow`.

    Raises:
        OSError: When the root cannot be listed.
    """
    dated: list[tuple[datetime, Evidence]] = []
    environments: set[str] = set()
    for folder in sorted(rollout_folders(root, layout.OF_A_ROLLOUT)):
        evidence = Evidence(folder)
        try:
            said = _claims(evidence)
        except NotARolloutError as error:
            return Verification(folder, (f"{error}; it may be the newest",), (layout.HEADER,))
        asked_for = set(filter(demands.ask_for, said.environments))
        if asked_for and demands.commit in (None, *said.commits):
            environments |= asked_for
            dated.append((said.touched_at, evidence))
    if len(environments) > 1:
        several = " and ".join(sorted(environments))
        return Verification(root, (f"there are rollouts of {several}; --environment says which",))
    if not dated:
        which = f"commit {demands.commit}" if demands.commit else "any kind"
        return Verification(root, (f"there is no rollout of {which} below {one_line(str(root))}",))
    newest = max(touched for touched, _ in dated)
    found = [verify(evidence, demands, now) for touched, evidence in dated if touched == newest]
    return next((one for one in found if one.answer != "allow"), found[-1])


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
    moments = [record.header.started_at, record.header.decided_at]
    moments += [attempt.started_at for attempt in record.header.attempts]
    decided = statement_of(evidence.read_bytes(layout.DECISION))
    if decided is not None:
        environments.add(decided.details.environment)
        commits.update(decided.details.commits)
        moments.append(decided.details.decided_at)
    latest = max(
        moment_of(text) or datetime.max.replace(tzinfo=UTC) for text in moments if text is not None
    )
    return _Claims(environments, commits, latest)
