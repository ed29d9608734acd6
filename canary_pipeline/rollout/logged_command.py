"""A shell command of a rollout: run in the checkout, bounded in time, its output kept as a log."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from canary_pipeline.outside import command as process
from canary_pipeline.rollout.context import Context

_REASONS: dict[process.End, str] = {
    "exited": "exit_code",
    "signal": "signal",
    "timeout": "timeout",
    "cannot_start": "cannot_start",
}


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        exit_code: None where it did not exit by itself.
        reason: Why it failed: `exit_code`, `signal`, `timeout`, `cannot_start` or
            `log_not_written`; None where it did not.
        detail: The reason as a sentence.
    """

    exit_code: int | None
    reason: str | None = None
    detail: str | None = None


def run_logged(
    command: str,
    log_file: str,
    context: Context,
    variables: Mapping[str, str] | None = None,
) -> Ending:
    """Run a command to its end.

    Args:
        command: Run by `bash -c` in the checkout, for at most the gates' timeout.
        log_file: What it prints, relative to the rollout's folder.
        context: Where and for how long it runs, where the log is kept, and who may stop it.
        variables: What its environment has beyond this process's own and the plan's.
    """

    def look_up() -> None:
        context.check_stop()
        # A token may come and go while the command prints nothing.
        context.evidence.redactor.notice()

    with context.evidence.open_log(log_file) as log:
        finished = process.run(
            ["bash", "-c", command],
            Path(context.plan.repo_root),
            {**os.environ, **context.plan.variables, **(variables or {})},
            write=log.write,
            timeout_seconds=context.plan.gate_timeout_seconds,
            clock=context.clock,
            check_owner=look_up,
        )
        if finished.end == "cannot_start":
            log.write(f"{finished.detail}\n".encode())
    return _ending(finished, log.error)


def _ending(finished: process.Finished, log_error: str | None) -> Ending:
    if finished.exit_code != 0:
        return Ending(finished.exit_code, _REASONS[finished.end], finished.detail)
    if log_error is not None:
        return Ending(0, "log_not_written", f"its log could not be written: {log_error}")
    return Ending(0)
