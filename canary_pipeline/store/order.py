"""Which files of a rollout's folder other hosts see, and in what order they are published."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from canary_pipeline.store.layout import (
    DECISION,
    HEADER,
    IN_FLIGHT,
    LOGS,
    SIGNATURE,
    SUMMARY,
    UNPUBLISHED,
)

CONCLUDING = (SUMMARY, DECISION, SIGNATURE)
"""Published last, in this order."""


def order(name: str) -> tuple[int, str]:
    """Sorts files by their names: logs, rows, how far steps are, the header, what concludes.

    Whoever goes on where a step is believes that what came before is there.
    """
    if name in CONCLUDING:
        return 4 + CONCLUDING.index(name), name
    ranks = (name.endswith(".jsonl"), name.startswith(f"{IN_FLIGHT}/"), name == HEADER)
    return max((rank for rank, is_so in enumerate(ranks, 1) if is_so), default=0), name


def rests_on(name: str, other: str) -> bool:
    """Whether nobody is to see a file as long as they cannot see another one.

    The header rests on nothing: whoever rolls back for this host reads there what was live before.
    """
    return name != HEADER and order(other)[0] < order(name)[0]


def passes(name: str) -> bool:
    """Whether a file may be taken away again: what a step did, or was decided, until the next."""
    return name.startswith(f"{IN_FLIGHT}/") or name in (SIGNATURE, DECISION)


def is_log(name: str) -> bool:
    """Whether a file is a command's log: it may be big, and no two attempts write the same one."""
    return name.startswith(f"{LOGS}/")


def is_evidence(name: str) -> bool:
    """Whether a name stays in the folder, and is neither a lock, nor temporary, nor put aside."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and not PurePosixPath(name).is_absolute() and parts[0] != UNPUBLISHED


def names_in(folder: Path) -> Iterator[str]:
    """The names of the files that a folder holds for others to see; steps may end meanwhile."""
    for parent, _, files in os.walk(folder):
        for file in files:
            path = Path(parent, file)
            name = path.relative_to(folder).as_posix()
            if is_evidence(name) and path.is_file():
                yield name
