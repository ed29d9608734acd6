"""What a rollout has left live in staging although its decision does not let that stand."""

from dataclasses import dataclass
from pathlib import Path

from canary_pipeline.model.decision import owes_rollback
from canary_pipeline.outside.claim import current_holder
from canary_pipeline.reports.history import past_rollouts
from canary_pipeline.reports.rollback_words import restoring_commands
from canary_pipeline.rollout.live.rollback import HELD
from canary_pipeline.store.folder import Evidence, NotARolloutError, Record

HELD_ON_PURPOSE = "held on purpose"

MOST_LOOKED_AT = 100
"""Rollouts; one that was followed by so many others is nobody's worry any more."""


@dataclass(frozen=True)
class LeftLive:
    """A cohort that is live, and a rollout that is not at work any more.

    Attributes:
        folder: The rollout's folder.
        percent: The cohort that was applied last.
        how: Why it is still live, in a few words.
        commands: What restores staging.
    """

    folder: Path
    percent: int
    how: str
    commands: str

    def __str__(self) -> str:
        """The whole of it as a sentence, without the commands."""
        return f"{self.folder.name} has left staging at {self.percent} % ({self.how})"


def left_live(root: Path, environment: str) -> LeftLive | None:
    """What the last rollout that changed an environment has left live, or None.

    Earlier rollouts do not matter: whoever applied last says what is live.

    Args:
        root: The folder that holds the rollouts' folders.
        environment: Such as `staging`.
    """
    if not root.is_dir():
        return None
    for past in past_rollouts(root, MOST_LOOKED_AT):
        try:
            record = Evidence(past.folder).verified_record()
        except NotARolloutError:
            continue
        if record.header.environment == environment and _changed_staging(record):
            return _left(past.folder, record)
    return None


def _changed_staging(record: Record) -> bool:
    applied = any(row.apply_log_file for row in record.cohort_rows)
    return applied or record.header.live_before is not None or bool(record.rollback_rows)


def _left(folder: Path, record: Record) -> LeftLive | None:
    header = record.header
    # All rows may have passed: what was killed before its summary has decided nothing.
    owes = owes_rollback(record) or not _ended(record)
    if header.live_before is None or header.applied_percent is None or not owes:
        return None
    holder = current_holder(header.environment) or {}
    if holder.get("run") in header.run_ids:
        return None
    commands = restoring_commands(record, folder)
    return LeftLive(folder, header.applied_percent, _how(record), commands)


def _ended(record: Record) -> bool:
    attempts = record.header.attempts
    return bool(attempts) and attempts[-1].outcome is not None


def _how(record: Record) -> str:
    # What an earlier attempt held or failed to restore says nothing of one that was killed since.
    attempt = len(record.header.attempts)
    last = next((row for row in record.rollback_rows[::-1] if row.attempt == attempt), None)
    if last is not None and last.reason == HELD:
        return HELD_ON_PURPOSE
    if last is not None and last.status == "failed":
        return "its rollback failed"
    return "it ended without rolling back" if _ended(record) else "it was killed"
