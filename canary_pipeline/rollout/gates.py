"""A gate: a command in the checkout that must exit with 0, and the row that says whether it did."""

import os
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Self

from canary_pipeline.rollout import process
from canary_pipeline.rollout.clock import rfc3339
from canary_pipeline.rollout.credentials import Redactor
from canary_pipeline.rollout.plan import Gate, Plan
from canary_pipeline.rollout.records import ALL_GATES, SKIPPED_BY_FLAG, GateRow, InFlight
from canary_pipeline.rollout.surroundings import Surroundings

_REASONS: dict[process.End, str] = {
    "exited": "exit_code",
    "signal": "signal",
    "timeout": "timeout",
    "cannot_start": "cannot_start",
}


def run_gate(gate: Gate, plan: Plan, around: Surroundings) -> GateRow:
    """Run one gate to its end and add its row; never raises for a gate that fails."""
    clock, evidence = around.clock, around.evidence
    step = f"gate {gate.name}"
    started_at, started = clock.now(), clock.monotonic()
    evidence.set_in_flight(
        InFlight(
            step=step,
            phase="running",
            started_at=rfc3339(started_at),
            attempt=around.attempt,
            run_id=around.run_id,
        )
    )
    around.say(f"{step}: {gate.command}")
    finished, log_error = _run_logged(gate, plan, around)
    reason, detail = _reason(finished, log_error)
    row = GateRow(
        gate=gate.name,
        status="passed" if reason is None else "failed",
        reason=reason,
        detail=detail,
        exit_code=finished.exit_code,
        command=gate.command,
        started_at=rfc3339(started_at),
        finished_at=rfc3339(clock.now()),
        duration_seconds=round(clock.monotonic() - started, 3),
        log_file=gate.log_file,
        log_sha256=evidence.sha256(gate.log_file),
        attempt=around.attempt,
        run_id=around.run_id,
    )
    evidence.add_gate_row(row)
    evidence.clear_in_flight(step)
    ending = f"{row.status} in {row.duration_seconds:.1f} s"
    around.say(f"{step}: {ending}{f' ({detail})' if detail else ''}; {gate.log_file}")
    return row


ROOM_BYTES = 1024 * 1024
"""How much of a log gives way to rows and summary when the disk is full."""


class _Log:
    """A gate's log: redacted as it is written, and never a reason for the gate to stop.

    Once a write fails (a full disk, say) the rest is thrown away and `error` says why.
    """

    def __init__(self, file: BinaryIO, redactor: Redactor) -> None:
        self._file = file
        self._stream = redactor.stream(self._keep)
        self.write = self._stream.write
        self.error: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._file.close()

    def _keep(self, data: bytes) -> None:
        while data and self.error is None:
            try:
                data = data[self._file.write(data) :]
            except OSError as error:
                self.error = error.strerror or str(error)
                self._give_room()

    def _give_room(self) -> None:
        """Give back the end of the log, so that the row that says so finds room on a full disk."""
        with suppress(OSError):
            end = self._file.seek(0, os.SEEK_END)
            self._file.truncate(max(end - ROOM_BYTES, 0))


def _run_logged(
    gate: Gate, plan: Plan, around: Surroundings
) -> tuple[process.Finished, str | None]:
    """Run the gate's command; return how it ended, and why its log is incomplete if it is."""

    def look_up() -> None:
        around.check_owner()
        around.redactor.notice()  # a token may come and go while the gate prints nothing

    with _Log(around.evidence.open_log(gate.log_file), around.redactor) as log:
        finished = process.run(
            ["bash", "-c", gate.command],
            plan.repo_root,
            os.environ,
            write=log.write,
            timeout_seconds=plan.gate_timeout_seconds,
            clock=around.clock,
            check_owner=look_up,
        )
        if finished.end == "cannot_start":
            log.write(f"{finished.detail}\n".encode())
    return finished, log.error


def _reason(finished: process.Finished, log_error: str | None) -> tuple[str | None, str | None]:
    if finished.exit_code != 0:
        return _REASONS[finished.end], finished.detail
    if log_error is not None:
        return "log_not_written", f"its log could not be written: {log_error}"
    return None, None


def record_skipped_gates(around: Surroundings) -> None:
    """Add the one row that says that no gate ran, unless it is there."""
    if around.evidence.record().gates_were_skipped:
        return
    now = rfc3339(around.clock.now())
    around.evidence.add_gate_row(
        GateRow(
            gate=ALL_GATES,
            status="skipped",
            reason=SKIPPED_BY_FLAG,
            started_at=now,
            finished_at=now,
            attempt=around.attempt,
            run_id=around.run_id,
        )
    )
    around.say("gates: skipped (--skip-gates); the decision will be block")
