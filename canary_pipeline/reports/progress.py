"""What a rollout is doing, told while it runs: a live table on a terminal, else plain lines."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from canary_pipeline.model.record import InFlight, Record
from canary_pipeline.model.rows import CohortRow, GateRow
from canary_pipeline.model.wording import cohort_detail
from canary_pipeline.store.folder import Evidence, NotARolloutError

LOOK_UP_SECONDS = 0.25
PLAIN_REMINDER_SECONDS = 60
"""How often plain output says how much of a soak is left."""

LEAST_COLUMNS, LEAST_LINES = 60, 4
"""A terminal that is smaller has no room for a table, and is told in lines."""

_DOING = {"apply": "applying", "verify": "verifying", "probe": "probing"}
_STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow", "waiting": "dim"}


@dataclass(frozen=True)
class StepProgress:
    """One step as a person follows it.

    Attributes:
        step: Such as `gate sync-security` or `cohort 25`.
        status: `waiting`, `running`, `probing`, `soaking`, or how it ended.
        detail: What there is to say, changing as time passes.
        seconds_left: Of a soak.
    """

    step: str
    status: str
    detail: str = ""
    seconds_left: float | None = None


def steps(
    record: Record, in_flight: list[InFlight], now: datetime, *, dead: bool = False
) -> list[StepProgress]:
    """Every step of a rollout in order, as it stands now.

    Args:
        record: What the folder holds.
        in_flight: The steps that have begun and not ended.
        now: Now.
        dead: Whether nobody works on the rollout, so that these were killed.
    """
    found = _steps(record, in_flight, now)
    began = {state.step: state.phase for state in in_flight} if dead else {}
    return [
        StepProgress(step.step, "killed", f"at {began[step.step]}") if step.step in began else step
        for step in found
    ]


def _steps(record: Record, in_flight: list[InFlight], now: datetime) -> list[StepProgress]:
    moving = {state.step: state for state in in_flight}
    attempt = record.header.attempts[-1].attempt if record.header.attempts else 1
    found = []
    for gate, row in record.gates:
        name = f"gate {gate.name}"
        if record.gates_were_skipped and row is None:
            found.append(StepProgress(name, "skipped", "--skip-gates"))
        else:
            found.append(_step(name, row, moving.get(name), attempt, now))
    for percent, cohort in record.cohorts:
        name = f"cohort {percent}"
        found.append(_step(name, cohort, moving.get(name), attempt, now))
    return found + _rollback(record, moving.get("rollback"), attempt)


def _rollback(record: Record, state: InFlight | None, attempt: int) -> list[StepProgress]:
    """The rollback, once there is one: whoever stopped a rollout waits for it."""
    if state is not None and state.attempt == attempt:
        return [StepProgress("rollback", "restoring", "an interrupt leaves staging as it is")]
    row = record.last_rollback
    if row is None or row.attempt != attempt:
        return []
    return [StepProgress("rollback", row.status, row.detail or f"{row.live or row.wanted}")]


def _step(
    name: str, row: GateRow | CohortRow | None, state: InFlight | None, attempt: int, now: datetime
) -> StepProgress:
    if state is not None and state.attempt == attempt:
        return _moving(name, state, now)
    if row is None:
        return StepProgress(name, "waiting")
    detail = cohort_detail(row) if isinstance(row, CohortRow) else row.detail or ""
    took = f"in {row.duration_seconds:.1f} s" if row.duration_seconds else ""
    return StepProgress(name, row.status, ", ".join(part for part in (detail, took) if part))


def _moving(name: str, state: InFlight, now: datetime) -> StepProgress:
    if state.phase == "soak" and state.soak_ends_at:
        ends_at = datetime.fromisoformat(state.soak_ends_at)
        left = max((ends_at - now).total_seconds(), 0)
        said = f", {state.said}" if state.said else ""
        return StepProgress(name, "soaking", f"{clock_face(left)} left{said}", left)
    if state.phase in _DOING:
        return StepProgress(name, _DOING[state.phase])
    since = max((now - datetime.fromisoformat(state.started_at)).total_seconds(), 0)
    return StepProgress(name, "running", f"for {clock_face(since)}")


def clock_face(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    face = f"{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
    return f"{hours}:{face}" if hours else face


@contextmanager
def shown(evidence: Evidence, out: TextIO) -> Iterator[None]:
    """Show a rollout's progress while the body runs, from what its folder says."""
    look, console = _looker(evidence), Console(file=out)
    if out.isatty() and console.width >= LEAST_COLUMNS and console.height >= LEAST_LINES:
        with _shown_live(look, console):
            yield
        return
    stop = threading.Event()
    lines = PlainLines(lambda line: print(line, file=out, flush=True))

    def follow() -> None:
        while not stop.wait(LOOK_UP_SECONDS):
            lines.show(look())

    follower = threading.Thread(target=follow, name="progress", daemon=True)
    follower.start()
    try:
        yield
    finally:
        stop.set()
        follower.join()
        lines.show(look())


@contextmanager
def _shown_live(look: Callable[[], list[StepProgress]], console: Console) -> Iterator[None]:
    """Show a table that moves, as much of it as fits; in the end all of it."""
    over = False

    def table() -> Table:
        now = look()
        if over or 2 * len(now) < console.height:
            return _table(now)
        return _table(fitting(now, console.height - 1), whole=False)

    refresh = 1 / LOOK_UP_SECONDS
    with Live(console=console, get_renderable=table, refresh_per_second=refresh):
        try:
            yield
        finally:
            over = True


def fitting(now: list[StepProgress], lines: int) -> list[StepProgress]:
    """The steps around the last one that moves, where there is no room for all."""
    begun = [place for place, step in enumerate(now, 1) if step.status != "waiting"]
    end = max([lines, *begun[-1:]])
    return now[max(end - lines, 0) : end]


def _looker(evidence: Evidence) -> Callable[[], list[StepProgress]]:
    def look() -> list[StepProgress]:
        try:
            record = evidence.record()
        except NotARolloutError:
            return []
        return steps(record, list(evidence.all_in_flight()), datetime.now(UTC))

    return look


def _table(now: list[StepProgress], *, whole: bool = True) -> Table:
    """A line for each step, or more where its whole detail needs them."""
    table = Table(box=None, pad_edge=False)
    for column in ("Step", "Status", "Detail"):
        table.add_column(column, header_style="bold", no_wrap=column != "Detail")
    for step in now:
        style = _STYLES.get(step.status, "cyan")
        detail = Text(step.detail, no_wrap=not whole, overflow=None if whole else "ellipsis")
        table.add_row(step.step, f"[{style}]{step.status}[/]", detail)
    return table


class PlainLines:
    """Progress as lines: one when a step changes, and a reminder now and then during a soak."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """Show nothing yet.

        Args:
            write: Takes each line.
        """
        self._write = write
        self._said: dict[str, tuple[str, float]] = {}

    def show(self, now: list[StepProgress]) -> None:
        """Say what has changed."""
        for step in now:
            status, left = self._said.get(step.step, ("waiting", 0.0))
            changed = step.status not in (status, "waiting")  # as one that was stopped is again
            remind = (
                step.seconds_left is not None and left - step.seconds_left >= PLAIN_REMINDER_SECONDS
            )
            if changed or remind:
                self._said[step.step] = (step.status, step.seconds_left or 0.0)
                self._write(
                    f"{step.step}: {step.status}{f', {step.detail}' if step.detail else ''}"
                )
