"""The rollouts that this host knows of, the newest first."""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from canary_pipeline.model.environment import OUTPUT_ROOT
from canary_pipeline.model.moment import moment_of
from canary_pipeline.store.folder import Evidence, NotARolloutError, newest_folders, rollout_folders
from canary_pipeline.store.journal import Journal


def newest_first(
    root: Path, environments: Collection[str] | None = None, limit: int | None = None
) -> list[Evidence]:
    """The rollouts directly below a folder, by when they started.

    A folder whose `rollout.json` cannot be read has its place by when it last changed. Of very
    many folders, only those are read whose names do not say that they are older.

    Args:
        root: The folder.
        environments: The names of the environments whose rollouts count; None for all.
        limit: The most rollouts; None for all.

    Raises:
        OSError: When the root cannot be listed.
    """
    folders = newest_folders(root, limit, environments) if limit else rollout_folders(root)
    found = [Evidence(folder.absolute()) for folder in folders]
    if environments is not None:
        found = [evidence for evidence in found if _environment(evidence) in environments]
    dated = [(_started_or_changed(evidence), evidence) for evidence in found]
    dated.sort(key=lambda item: (item[0], item[1].folder.name), reverse=True)
    return [evidence for _, evidence in dated[:limit]]


def newest_rollout(environment: str) -> Evidence | None:
    """The newest rollout of an environment, wherever this host knows its rollouts to be, or None.

    One whose folder is gone or cannot be read is among them: nobody can say that it is older.

    Raises:
        OSError: When a folder that holds rollouts cannot be listed.
    """
    state = Journal(environment).read()
    if state.newest is not None and not state.newest.is_dir():
        return Evidence(state.newest)
    roots = dict.fromkeys([Path(OUTPUT_ROOT).absolute(), *state.roots])
    found = [newest_first(root, {environment})[:1] for root in roots if root.is_dir()]
    return max((each for [each] in filter(None, found)), key=_started_or_changed, default=None)


def _environment(evidence: Evidence) -> str:
    """Which environment a folder is of; where it does not say, as it is named."""
    try:
        return evidence.header().environment
    except NotARolloutError:
        return evidence.folder.name.rpartition("-")[0]


def _started_or_changed(evidence: Evidence) -> datetime:
    try:
        started_at = moment_of(evidence.header().started_at)
    except NotARolloutError:
        started_at = None
    return started_at or evidence.changed_at() or datetime.min.replace(tzinfo=UTC)
