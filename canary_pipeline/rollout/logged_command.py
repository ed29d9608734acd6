"""A shell command of a rollout: run in the checkout, bounded in time, its output kept as a log."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from canary_pipeline.outside import command as process
from canary_pipeline.outside.held_lease import elapsed
from canary_pipeline.outside.lease import LAST_GRACE_SECONDS
from canary_pipeline.rollout.context import Context
from canary_pipeline.store.held import Held

_REASONS: dict[process.End, str] = {
    "exited": "exit_code",
    "signal": "signal",
    "timeout": "timeout",
    "cannot_start": "cannot_start",
}

CHANGE_GRACE_SECONDS = 10.0
"""What changes staging is given from SIGINT to SIGTERM: tools like terraform save their state."""

GATE_VARIABLE = "OA_CANARY_GATE"

_OURS = re.compile("CANARY_PIPELINE_ROLLOUT|OA_.*_CANARY_SIGNING_KEY")
"""What no command inherits: a run inside it would join our folder, or it could sign for us."""


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        exit_code: None where it did not exit by itself.
        reason: Why it failed: `exit_code`, `signal`, `timeout`, `cannot_start` or
            `log_not_written`; None where it did not.
        detail: The reason as a sentence; without one, what could not be stopped of it.
    """

    exit_code: int | None
    reason: str | None = None
    detail: str | None = None


def run_logged(
    command: str,
    log_file: str,
    context: Context,
    variables: Mapping[str, str] | None = None,
    *,
    gate: str | None = None,
) -> Ending:
    """Run a command to its end.

    Args:
        command: Run by `bash -c` in the checkout, for at most the gates' timeout.
        log_file: What it prints, relative to the rollout's folder.
        context: Where and for how long it runs, where the log is kept, and who may stop it; what
            does not end at once then is left to the conclusion.
        variables: What its environment has beyond this process's own and the plan's.
        gate: The gate that it is: it is told so (`OA_CANARY_GATE`), has a folder of its own for
            what is temporary (`TMPDIR`), and no access to the keys of an agent. Where it is none it
            changes staging: it is given longer to end, and what it leaves in the background once
            it exited with 0 is left alone.
    """
    if gate is None:
        context.evidence.holding.confirm()
    given = {**context.plan.variables, **(variables or {}), **_claim_variables(context)}
    plan, default_grace = context.plan, process.GRACE_SECONDS if gate else CHANGE_GRACE_SECONDS
    grace = default_grace if plan.stop_grace_seconds is None else plan.stop_grace_seconds

    def look_up() -> None:
        context.check_stop()
        # A token may come and go while the command prints nothing.
        context.evidence.redactor.notice()

    with context.evidence.open_log(log_file) as log, ExitStack() as stack:
        try:
            environment = stack.enter_context(_environment(gate, given))
        except OSError as error:
            why = f"could not start: no temporary folder: {error.strerror}"
            finished = process.Finished("cannot_start", None, why)
        else:
            finished = process.run(
                ["bash", "-c", command],
                Path(plan.repo_root),
                environment,
                write=log.write,
                timeout_seconds=plan.gate_timeout_seconds,
                clock=context.clock,
                check_stop=look_up,
                grace_seconds=grace,
                grace_left=_LastGrace(context.evidence.holding).left,
                leave_background=gate is None,
                stopping=context.stopping.append,
            )
        if finished.end == "cannot_start":
            log.write(f"{finished.detail}\n".encode())
    context.evidence.holding.publish()
    return _ending(finished, log.error)


class _LastGrace:
    """How long commands may still go on once the environment may be another's."""

    def __init__(self, holding: Held) -> None:
        self._holding = holding
        self._until: float | None = None

    def left(self) -> float:
        """Seconds; without an end as long as the environment is held."""
        with suppress(OSError):  # a lock file that cannot be looked at says nothing
            if self._until is None and self._holding.lost() is not None:
                self._until = elapsed() + LAST_GRACE_SECONDS
        return math.inf if self._until is None else self._until - elapsed()


def _claim_variables(context: Context) -> dict[str, str]:
    """What lets staging refuse who has lost the environment, where it can."""
    token = context.evidence.holding.token
    return {} if token is None else {f"{context.plan.variable_prefix}_CLAIM_TOKEN": str(token)}


def _ending(finished: process.Finished, log_error: str | None) -> Ending:
    if finished.exit_code != 0:
        return Ending(finished.exit_code, _REASONS[finished.end], finished.detail)
    if log_error is not None:
        return Ending(0, "log_not_written", f"its log could not be written: {log_error}")
    return Ending(0, None, finished.detail or None)


@contextmanager
def _environment(gate: str | None, variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """What a command finds in its environment: this process's, without what is only for us."""
    inherited = {name: os.environ[name] for name in os.environ if not _OURS.fullmatch(name)}
    if gate is None:
        yield {**inherited, **variables}
        return
    inherited.pop("SSH_AUTH_SOCK", None)
    with TemporaryDirectory(prefix="gate-", ignore_cleanup_errors=True) as temporary:
        yield {**inherited, **variables, GATE_VARIABLE: gate, "TMPDIR": temporary}
