"""The rollouts that this host knows of, the newest first."""

import os
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from pathlib import Path

from canary_pipeline.model.environment import OUTPUT_ROOT
from canary_pipeline.model.moment import moment_of
from canary_pipeline.store import layout
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.journal import Journal
from canary_pipeline.store.listing import opened_at


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


def known_folders(environment: str) -> list[Path]:
    """The folders that may be of an environment's rollouts, wherever this host knows some to be.

    The newest one is among them though it is gone or cannot be read: nobody can say that it is
    older. One whose usual name is of another environment is not.

    Raises:
        OSError: When a folder that holds rollouts cannot be listed.
    """
    state = Journal(environment).read()
    roots = dict.fromkeys([Path(OUTPUT_ROOT).absolute(), *state.roots])
    found = [
        folder
        for root in roots
        if root.is_dir()
        for folder in rollout_folders(root, layout.OF_A_ROLLOUT)
        if not opened_at(folder.name) or folder.name.rpartition("-")[0] == environment
    ]
    gone = [state.newest] if state.newest and not state.newest.is_dir() else []
    return [*gone, *sorted(found)]


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


def rollout_folders(root: Path, names: Sequence[str] = (layout.HEADER,)) -> list[Path]:
    """The folders directly below a root that hold a rollout, in no particular order.

    One that cannot be looked into is among them, since nobody can say that it holds none.

    Args:
        root: The folder.
        names: Each shows that a folder is a rollout's.

    Raises:
        OSError: When the root itself cannot be listed.
    """
    with os.scandir(root) as entries:
        return [Path(entry.path) for entry in entries if _may_hold(entry, names)]


def newest_folders(
    root: Path, most: int, environments: Collection[str] | None = None
) -> list[Path]:
    """Folders among which the newest rollouts are, found without reading any.

    The usual name says environment and moment. A folder with another name may be of any, so all of
    these are among them.

    Args:
        root: The folder that holds them.
        most: How many rollouts are wanted.
        environments: The names of the environments that are wanted; None for all.

    Raises:
        OSError: When the root cannot be listed.
    """
    with os.scandir(root) as found:
        dated = [(opened_at(entry.name), entry) for entry in found]
    usual = sorted((one for one in dated if one[0]), key=itemgetter(0), reverse=True)
    wanted = (
        entry
        for _, entry in usual
        if environments is None or entry.name.rpartition("-")[0] in environments
    )
    newest = islice(filter(_may_hold, wanted), most)
    others = filter(_may_hold, (entry for moment, entry in dated if not moment))
    return [Path(entry.path) for entry in (*newest, *others)]


def _may_hold(entry: "os.DirEntry[str]", names: Sequence[str] = (layout.HEADER,)) -> bool:
    for name in names:
        try:
            os.lstat(f"{entry.path}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return Path(entry.path).is_dir()
        return True
    return False
