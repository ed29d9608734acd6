"""What a rollout has left live in staging although its decision does not let that stand."""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from canary_pipeline.model.decision import HEADER
from canary_pipeline.model.environment import Environment
from canary_pipeline.model.record import Record
from canary_pipeline.model.rows import HELD, NOT_VERIFIED
from canary_pipeline.outside.claim import FOLDER_LOCK, current_holder, holder_of
from canary_pipeline.reports.rollback_words import restoring_commands, rollback_command
from canary_pipeline.rollout.live.owing import still_owes
from canary_pipeline.store.elsewhere import elsewhere
from canary_pipeline.store.folder import Evidence, NotARolloutError
from canary_pipeline.store.journal import Journal, Owed
from canary_pipeline.store.outbox import Item, Outbox
from canary_pipeline.store.rollouts import newest_first

LEFT_LIVE = "left live"
"""What a notice of it says where others name a decision."""

HELD_ON_PURPOSE = "held on purpose"

MOST_LOOKED_AT = 100
"""Rollouts of an older version; one that was followed by so many is nobody's worry any more."""


@dataclass(frozen=True)
class LeftLive:
    """A cohort that is live, and a rollout that is not at work any more.

    Attributes:
        folder: The rollout's folder.
        percent: The cohort that was applied last.
        how: Why it is still live, in a few words.
        commands: What restores staging.
        environment: Where it is live.
    """

    folder: Path
    percent: int
    how: str
    commands: str
    environment: str

    def __str__(self) -> str:
        """The whole of it as a sentence, without the commands."""
        return f"{self.folder.name} has left {self.environment} at {self.percent} % ({self.how})"


def announce_left_live(left: LeftLive) -> None:
    """Put a notice of it into the outbox, unless it is there; a full disk is no reason to stop."""
    why = f"{left}; to restore it:\n{left.commands}"
    record = _record(left.folder)
    last = record.header.last_attempt if record else None
    item = Item(
        environment=left.environment,
        folder=str(left.folder),
        attempt=last.attempt if last else 0,
        decision=LEFT_LIVE,
        reasons=((why, HEADER),),
        run_id=last.run_id if last else "",
        at=datetime.now(UTC),
    )
    with suppress(OSError):
        Outbox(left.environment).put(item)


def left_live(environment: Environment) -> LeftLive | None:
    """What the rollout that changed an environment last has left live, or None.

    The journal knows it, wherever that rollout keeps its folder; the lease, where hosts share the
    environment. Before there was a journal, the newest rollouts of the usual place are asked.
    """
    shared = elsewhere(environment, os.environ)
    if shared is not None:
        left = shared.owed()
        return _left_by(left, environment.name) if left else None
    owed = Journal(environment.name).read().owed
    if owed is not None:
        return _left_by(owed, environment.name)
    root = Path(environment.output_root)
    found = newest_first(root, {environment.name}) if root.is_dir() else []
    for evidence in found[:MOST_LOOKED_AT]:
        record = _record(evidence.folder)
        if record and record.header.environment == environment.name and _changed_staging(record):
            return _left(evidence.folder, record)
    return None


def _left_by(owed: Owed, environment: str) -> LeftLive | None:
    record = _record(owed.folder)
    if record is not None:
        return _left(owed.folder, record)
    if current_holder(environment):
        return None
    how = "its rollout.json cannot be read"
    return LeftLive(owed.folder, owed.percent, how, rollback_command(owed.folder), environment)


def _record(folder: Path) -> Record | None:
    try:
        return Evidence(folder).verified_record()
    except NotARolloutError:
        return None


def _changed_staging(record: Record) -> bool:
    applied = any(row.apply_log_file for row in record.cohort_rows)
    return applied or record.header.live_before is not None or bool(record.rollback_rows)


def _left(folder: Path, record: Record) -> LeftLive | None:
    header = record.header
    if header.live_before is None or header.applied_percent is None or not still_owes(record):
        return None
    if holder_of(folder / FOLDER_LOCK) is not None:  # somebody works on it
        return None
    commands = restoring_commands(record, folder)
    return LeftLive(folder, header.applied_percent, _how(record), commands, header.environment)


def _ended(record: Record) -> bool:
    last = record.header.last_attempt
    return last is not None and last.outcome is not None


def _how(record: Record) -> str:
    # What an earlier attempt held or failed to restore says nothing of one that was killed since.
    attempt = len(record.header.attempts)
    last = next((row for row in record.rollback_rows[::-1] if row.attempt == attempt), None)
    if last is not None and last.reason == HELD:
        return HELD_ON_PURPOSE
    if last is not None and last.status == "failed":
        verified = last.reason != NOT_VERIFIED
        return "its rollback failed" if verified else "its rollback could not be verified"
    return "it ended without rolling back" if _ended(record) else "it was killed"
