"""What a timeline shows: of each gate and each cohort its bars, and how it ended in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from canary_pipeline.model.decision import decide
from canary_pipeline.model.moment import moment_of, plausible, seconds_between
from canary_pipeline.model.record import Header, Record
from canary_pipeline.model.rows import ALL_GATES, CohortRow, GateRow, RollbackRow
from canary_pipeline.model.text import duration, foreign
from canary_pipeline.model.wording import cohort_detail

# What a bar may be, as the legend calls it.
GATE, SOAK, PROBE = "gate passed", "soak", "(apply and) probe"
ROLLED_BACK, UNFINISHED = "rolled back", "stopped or under way"
BAD_LOOK, FAILED = "bad look", "failed"

MOST_IDLE_SECONDS = 60.0  # between two steps; a longer pause is drawn as this

BadLooks = Mapping[int, Sequence[float]]
"""By cohort, at how many seconds of its last soak a look was bad."""

_Row = GateRow | CohortRow | RollbackRow
_Rows = dict[str, Sequence[_Row]]


class Bar(NamedTuple):
    """A stretch of a lane, in seconds of work since the start."""

    lane: str
    start: float
    seconds: float
    look: str


class End(NamedTuple):
    """How a lane ended: the status of its last row, and that in words."""

    status: str
    words: str


@dataclass(frozen=True)
class Panel:
    """Lanes on a scale of their own: a soak may take a thousand times as long as a gate.

    Attributes:
        lanes: How each ended, by its name, from top to bottom.
        bars: Later ones are drawn above.
    """

    lanes: Mapping[str, End]
    bars: Sequence[Bar]

    @property
    def low(self) -> float:
        """Where its first bar begins, in seconds."""
        return min((bar.start for bar in self.bars), default=0.0)

    @property
    def high(self) -> float:
        """Where its last bar ends, in seconds."""
        return max(end_of(self.bars), self.low + 0.001)

    @property
    def unit(self) -> tuple[float, str]:
        """The unit of its scale: its seconds, and its name."""
        return unit_of(self.high)


@dataclass(frozen=True)
class Course:
    """What a rollout did when.

    Attributes:
        title: Which rollout, and its decision.
        word: The decision alone.
        subtitle: How long it took, and the first reason that blocks.
        panels: Gates above, what follows them below.
    """

    title: str
    word: str
    subtitle: str
    panels: tuple[Panel, ...]


def course_of(record: Record, now: datetime, bad_looks: BadLooks = MappingProxyType({})) -> Course:
    """What a rollout did when.

    Args:
        record: What the folder holds.
        now: Where the course of a rollout that is under way ends.
        bad_looks: What is ticked in the soaks.
    """
    rows, (word, subtitle) = _lanes(record), _verdict(record)
    bars = _bars(record.header, *rows, now)
    bars += [tick for percent, at in bad_looks.items() for tick in _ticks(percent, at, bars)]
    started = record.header.started_at[:19].replace("T", " ")
    title = f"{foreign(f'{record.header.environment}, {started}', 60)} UTC: {word}"
    panels = tuple(
        Panel(
            {lane: _ended(own) for lane, own in lanes.items()},
            [bar for bar in bars if bar.lane in lanes],
        )
        for lanes in rows
    )
    return Course(title, word, subtitle, panels)


def unit_of(seconds: float) -> tuple[float, str]:
    """The unit that tells lengths up to this one best: its seconds, and its name."""
    units = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))
    return next((unit for unit in units if seconds >= 2 * unit[0]), (1.0, "seconds"))


def _lanes(record: Record) -> tuple[_Rows, _Rows]:
    """All rows of each gate, and of what comes after the gates in turn; the last one counts."""
    of_gates, of_cohorts, undone = record.gate_rows, record.cohort_rows, record.rollback_rows
    names, percents = [gate.name for gate in record.header.gates], record.header.cohorts
    gates: _Rows = {
        f"gate {it}": [row for row in of_gates if row.gate in (it, ALL_GATES)] for it in names
    }
    cohorts: _Rows = {
        f"cohort {it} %": [row for row in of_cohorts if row.cohort_percent == it] for it in percents
    }
    return gates, {**cohorts, "rollback": undone} if undone else cohorts


def _bars(header: Header, gates: _Rows, later: _Rows, now: datetime) -> list[Bar]:
    """The bars of all rows, as long as a monotonic clock says.

    Attempts follow one another without the pauses between, and no step begins before the one that
    it waits for has ended: a clock that was set back leaves the picture in order.
    """
    bars: list[Bar] = []
    rows = [(lane, row) for lane, rows in (gates | later).items() for row in rows]
    rows.sort(key=lambda item: (_told(item[1]) or "") if item[0] in gates else "~")
    for attempt in header.attempts:
        begin = end_of(bars)
        for lane, row in rows:
            if row.attempt == attempt.attempt and row.status != "skipped":
                since = seconds_between(attempt.started_at, _told(row)) or 0.0
                goes_on = since < 0 < begin  # a soak that an earlier attempt began
                earliest, head = begin if lane in gates else end_of(bars), _head_seconds(row)
                start = min(max(begin + since - head, earliest), end_of(bars) + MOST_IDLE_SECONDS)
                bars += _row_bars(lane, row, start, 0.0 if goes_on else head)
        if attempt is header.attempts[-1] and attempt.outcome != "finished":
            worked = seconds_between(attempt.started_at, attempt.ended_at or now.isoformat()) or 0.0
            bars += _unfinished(gates, later, begin, end_of(bars), begin + worked)
    return bars


def _row_bars(lane: str, row: _Row, start: float, head: float) -> list[Bar]:
    """A row as bars; a cohort's soak is its last part, up to the moment when it failed."""
    seconds, failed = plausible(row.duration_seconds), row.status == "failed"
    soak = seconds - _head_seconds(row)
    if not isinstance(row, CohortRow) or (failed and not soak):
        done = GATE if isinstance(row, GateRow) else ROLLED_BACK
        return [Bar(lane, start, seconds, FAILED if failed else done)]
    parts = Bar(lane, start, head, PROBE), Bar(lane, start + head, soak, SOAK)
    bars = [bar for bar in parts if bar.seconds] or [parts[0]]
    return [*bars, Bar(lane, start + head + soak, 0.0, FAILED)] if failed else bars


def _ticks(percent: int, at: Sequence[float], bars: Sequence[Bar]) -> list[Bar]:
    """The bad looks of a cohort's last soak, which may have been cut short."""
    lane = f"cohort {percent} %"
    soak = next((bar for bar in reversed(bars) if bar[::3] == (lane, SOAK)), None)
    moments = [seconds for seconds in at if soak and seconds <= soak.seconds]
    return [Bar(lane, soak.start + seconds, 0.0, BAD_LOOK) for seconds in moments if soak]


def _head_seconds(row: _Row) -> float:
    """What a cohort took before its soak, which the look that decides it ends."""
    soak = row.duration_seconds
    if isinstance(row, CohortRow):
        soak = row.soak_seconds if row.soaked_seconds is None else row.soaked_seconds
    return max(plausible(row.duration_seconds) - plausible(soak), 0.0)


def _unfinished(gates: _Rows, later: _Rows, begin: float, end: float, stop: float) -> list[Bar]:
    """What an attempt was at when it was stopped: a row is written as its step ends."""
    running = [lane for lane, rows in gates.items() if not rows]
    failed = any(rows and rows[-1].status == "failed" for rows in (gates | later).values())
    waiting = [] if failed else [lane for lane, rows in later.items() if not rows]
    start = begin if running else end
    seconds = max(stop - start, 0.0)
    return [Bar(lane, start, seconds, UNFINISHED) for lane in running or waiting[:1]]


def end_of(bars: Sequence[Bar]) -> float:
    """Where the last of them ends, in seconds."""
    return max((bar.start + bar.seconds for bar in bars), default=0.0)


def _told(row: _Row) -> str | None:
    """When a step began, or a cohort was probed."""
    return row.probed_at if isinstance(row, CohortRow) else row.started_at


def _ended(rows: Sequence[_Row]) -> End:
    return End(rows[-1].status, foreign(_words(rows[-1]), 56)) if rows else End("", "no result")


def _words(row: _Row) -> str:
    """When a step began by the wall clock, how it ended and after how long."""
    detail = cohort_detail(row) if isinstance(row, CohortRow) else row.detail or row.reason
    why = f": {detail}" if detail and row.status != "passed" else ""
    if row.status == "skipped":
        return f"skipped{why}"
    began = moment_of(_told(row))
    when = f"{began:%m-%d %H:%M:%S}  " if began else ""
    return f"{when}{row.status} in {duration(plausible(row.duration_seconds))}{why}"


def _verdict(record: Record) -> tuple[str, str]:
    """The decision, and how long it took in how many attempts and the first reason that blocks."""
    attempts, seconds = record.header.attempts, record.duration_seconds
    took = "" if seconds is None else f"{duration(plausible(seconds))}; "
    said = f"{took}{len(attempts)} attempt{'' if len(attempts) == 1 else 's'}"
    if not attempts or attempts[-1].outcome is None:
        return "no decision yet", said  # rows of an attempt may still be missing
    decision = decide(record)
    why = "".join(f"; {foreign(reason.text, 120)}" for reason in decision.reasons[:1])
    more = f" (and {len(decision.reasons) - 1} more)" if len(decision.reasons) > 1 else ""
    return decision.word, said + why + more
