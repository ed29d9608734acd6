"""A wall-clock axis that is cut where nothing happened: a day between attempts is not drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

Interval = tuple[datetime, datetime]

LONGEST_GAP_DRAWN = 0.12
"""The longest gap that is drawn as long as it was, as a part of the time that was worked."""

CUT_WIDTH = 0.05
"""How wide a gap that is cut out is drawn, as a part of the time that was worked."""

MOST_TICKS = 9

_STEPS_SECONDS = (
    *(1, 2, 5, 10, 15, 30),
    *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3600 * hours for hours in (1, 2, 3, 6, 12)),
    *(86400 * days for days in (1, 2, 7, 14, 30, 90, 365)),
)


@dataclass(frozen=True)
class Span:
    """A stretch of time as it is drawn.

    Attributes:
        start: When it began.
        end: When it ended.
        at: Where it begins on the axis.
        width: Its length on the axis; for a stretch that is not cut, its seconds.
        is_cut: Whether nothing happened in it, so that it is drawn shorter than it was.
    """

    start: datetime
    end: datetime
    at: float
    width: float
    is_cut: bool

    def position(self, moment: datetime) -> float:
        """Where a moment lies on the axis; one outside of the span lies at its nearer end."""
        seconds = (self.end - self.start).total_seconds()
        part = (moment - self.start).total_seconds() / seconds if seconds > 0 else 0.0
        return self.at + self.width * min(max(part, 0.0), 1.0)


@dataclass(frozen=True)
class Tick:
    """A mark of the axis and what is written at it."""

    at: float
    label: str


@dataclass(frozen=True)
class TimeAxis:
    """An axis of stretches in order, each beginning where the one before it ends."""

    spans: tuple[Span, ...]

    @classmethod
    def of(cls, busy: Sequence[Interval]) -> "TimeAxis":
        """Make an axis that shows when something happened, and cuts long gaps between.

        Args:
            busy: When something happened; at least one interval, in any order.
        """
        merged = _merged(busy)
        if merged[0][0] == merged[-1][1]:  # a moment only, which has no length to draw
            merged = [(merged[0][0], merged[0][0] + timedelta(seconds=1))]
        worked = max(sum((end - start).total_seconds() for start, end in merged), 0.001)
        spans: list[Span] = []
        at = 0.0
        for start, end, is_gap in _with_gaps(merged):
            seconds = (end - start).total_seconds()
            is_cut = is_gap and seconds > LONGEST_GAP_DRAWN * worked
            width = CUT_WIDTH * worked if is_cut else seconds
            spans.append(Span(start, end, at, width, is_cut))
            at += width
        return cls(tuple(spans))

    @property
    def width(self) -> float:
        """How long the whole axis is."""
        return self.spans[-1].at + self.spans[-1].width

    def position(self, moment: datetime) -> float:
        """Where a moment lies on the axis; one before or after it lies at its end."""
        span = next((span for span in self.spans if moment <= span.end), self.spans[-1])
        return span.position(moment)

    @property
    def cuts(self) -> tuple[Span, ...]:
        """The gaps that are drawn shorter than they were."""
        return tuple(span for span in self.spans if span.is_cut)

    def ticks(self) -> list[Tick]:
        """Round wall-clock times, with the day where it is another than at the tick before."""
        step = next((s for s in _STEPS_SECONDS if self.width / s < MOST_TICKS), _STEPS_SECONDS[-1])
        nearest = self.width / (MOST_TICKS + 2)
        kept: list[Tick] = []
        day = self.spans[0].start.date()
        for span in (span for span in self.spans if not span.is_cut):
            for moment in _round_moments(span, step):
                at = span.position(moment)
                if kept and at - kept[-1].at < nearest:
                    continue
                new_day, day = moment.date() != day, moment.date()
                kept.append(Tick(at, _label(moment, step, with_day=new_day)))
        return kept


def _merged(busy: Sequence[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for start, end in sorted(busy):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, max(start, end)))
    return merged


def _with_gaps(merged: Sequence[Interval]) -> Iterator[tuple[datetime, datetime, bool]]:
    """The intervals in order, and between them the gaps: start, end, whether it is a gap."""
    before: datetime | None = None
    for start, end in merged:
        if before is not None:
            yield before, start, True
        yield start, end, False
        before = end


def _round_moments(span: Span, step: int) -> list[datetime]:
    """The multiples of a step within a span; its start where it holds none."""
    first = -(-span.start.timestamp() // step) * step
    count = int((span.end.timestamp() - first) // step) + 1
    found = [datetime.fromtimestamp(first + number * step, UTC) for number in range(max(count, 0))]
    return found or [span.start]


def _label(moment: datetime, step: int, *, with_day: bool) -> str:
    minute, day = 60, 86400
    if step >= day:
        return f"{moment:%Y-%m-%d}"
    on_the_minute = step >= minute and moment.second == 0
    time = f"{moment:%H:%M}" if on_the_minute else f"{moment:%H:%M:%S}"
    return f"{time}\n{moment:%Y-%m-%d}" if with_day else time
