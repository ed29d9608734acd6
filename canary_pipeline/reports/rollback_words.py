"""What people are told of a rollback: what was restored, what was not, and what to do by hand."""

import shlex
from pathlib import Path

from canary_pipeline.model.env_sequence import variables_of
from canary_pipeline.model.record import Record
from canary_pipeline.model.rows import HELD, NOT_VERIFIED, RollbackRow
from canary_pipeline.store.layout import ROLLBACK_ENV


def rollback_words(record: Record, folder: Path) -> str | None:
    """The rollback of a rollout as Markdown; None where the rollout changes nothing.

    Args:
        record: What the folder holds.
        folder: The rollout's folder, absolute.
    """
    header = record.header
    if header.apply_command is None:
        return None
    last = record.last_rollback
    if last is not None and last.status == "failed":
        return _failed(last, record, folder)
    if header.live_before is not None:
        return _still_live(last, record, folder)
    if last is not None and last.status == "skipped":
        return f"**NOT RESTORED**: {last.detail}."
    if last is not None:
        return f"Restored: {last.live} (because {last.cause}; evidence: `{last.log_file}`)."
    return "Nothing was applied."


def _failed(row: RollbackRow, record: Record, folder: Path) -> str:
    how = "IS NOT VERIFIED" if row.reason == NOT_VERIFIED else "FAILED"
    return (
        f"**THE ROLLBACK {how}** ({row.reason}: {row.detail}). Staging may be left at "
        f"{record.header.applied_percent} %; before the rollout it was: {row.wanted}. "
        f"{_by_hand(record, folder)}"
    )


def _still_live(last: RollbackRow | None, record: Record, folder: Path) -> str:
    header = record.header
    if last is not None and last.reason == HELD and last.attempt == len(header.attempts):
        return (
            f"Held on purpose: cohort {header.applied_percent} % stays live for somebody to look "
            f"at. {_by_hand(record, folder)}"
        )
    return (
        f"{header.applied_percent} % was applied last and has not been rolled back; before the "
        f"rollout it was: {header.live_before}. {_by_hand(record, folder)}"
    )


def _by_hand(record: Record, folder: Path) -> str:
    return f"To restore it:\n\n```sh\n{restoring_commands(record, folder)}\n```"


def restoring_commands(record: Record, folder: Path) -> str:
    """The commands that restore staging: this program's, and the bare one if that is not at hand.

    Args:
        record: What the folder holds, with something to restore.
        folder: The rollout's folder, absolute.
    """
    header = record.header
    lines = [rollback_command(folder)]
    if header.live_before is None:
        return lines[0]
    variables = {**header.variables, **variables_of(header.live_before)}
    variables[f"{header.variable_prefix}_ENV_FILE"] = str(folder / ROLLBACK_ENV)
    given = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    bare = f"cd {shlex.quote(header.repo_root)} && {given} bash -c"
    rollback, apply = header.rollback_command or "", header.apply_command or ""
    lines += ["# or, without this program:", f"({bare} {shlex.quote(rollback)})"]
    if apply != rollback:
        lines += ["# or, by the apply command:", f"({bare} {shlex.quote(apply)})"]
    return "\n".join(lines)


def rollback_command(folder: Path) -> str:
    """This program's command that restores what was live before a rollout."""
    return f"canary-rollout rollback {shlex.quote(str(folder))}"
