"""A rollout as a picture: what each gate and each cohort did when, and where it stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from canary_pipeline.model.decision import decide
from canary_pipeline.model.moment import moment_of
from canary_pipeline.model.record import Attempt, Record
from canary_pipeline.model.rows import ALL_GATES, CohortRow, GateRow
from canary_pipeline.model.text import duration, one_line
from canary_pipeline.model.wording import cohort_detail
from canary_pipeline.reports.pictures.ink import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    SKY,
    VERMILLION,
    WIDTH_INCHES,
    own_style,
    png,
)
from canary_pipeline.reports.pictures.time_axis import Interval, TimeAxis

WAITING = "#EEEEEE"

_COLOURS = {"passed": GREEN, "failed": VERMILLION, "allow": GREEN, "block": VERMILLION}
_BARS = {"passed": (GREEN, ""), "failed": (VERMILLION, "xxxx")}
"""Colour and hatch of a gate's bar by its status."""

_SOAK = (SKY, "....")

RIGHT_INCHES = 2.9
"""What the words beside the lanes take."""

BOTTOM_INCHES = 0.85
TOP_INCHES = 0.75
MARK_INCHES = 0.2
LANE_INCHES = 0.28
HIGHEST_INCHES = 22.0
"""However many lanes there are; they get narrower instead."""

THINNEST_BAR = 0.004
"""The part of the axis that the shortest bar takes, so that it can be seen."""

MOST_STOPS_TOLD = 3


def _cut(text: str, longest: int) -> str:
    text = one_line(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


@dataclass(frozen=True)
class _Lane:
    """A gate or a cohort.

    Attributes:
        rows: All its rows, oldest first; the last one counts.
        words: How it ended.
    """

    name: str
    rows: Sequence[GateRow | CohortRow]
    words: str

    @property
    def status(self) -> str:
        """The status of the row that counts, or `no result`."""
        return self.rows[-1].status if self.rows else "no result"


@dataclass(frozen=True)
class _Stop:
    """Where an attempt stopped, and by what."""

    moment: datetime
    text: str


def timeline(record: Record, moment: datetime) -> bytes:
    """Draw what a rollout did when: a lane for each gate and each cohort.

    The title tells the decision that follows from the record, once its last attempt has ended.
    Draw it from `Evidence.verified_record()` where the picture stands beside the summary, so that
    both speak of the same.

    Args:
        record: What the folder holds.
        moment: Now: where the picture of a rollout that is under way ends.

    Returns:
        A PNG.
    """
    with own_style():
        return png(timeline_figure(record, moment))


def timeline_figure(record: Record, moment: datetime) -> Figure:
    """The figure that `timeline` draws."""
    lanes = _lanes(record)
    axis = TimeAxis.of(_busy(record, moment))
    stops = _stops(record)
    marks = MARK_INCHES * (min(len(stops), MOST_STOPS_TOLD) + (len(record.header.attempts) > 1))
    edges = TOP_INCHES + marks + BOTTOM_INCHES
    height = min(edges + LANE_INCHES * max(len(lanes), 3), HIGHEST_INCHES)
    points = min(9.0, 72 * 0.75 * (height - edges) / max(len(lanes), 1))
    left = 0.35 + 0.0078 * points * max((len(lane.name) for lane in lanes), default=0)
    figure = Figure(figsize=(WIDTH_INCHES, height))
    axes = figure.add_axes(
        (
            left / WIDTH_INCHES,
            BOTTOM_INCHES / height,
            (WIDTH_INCHES - left - RIGHT_INCHES) / WIDTH_INCHES,
            (height - edges) / height,
        )
    )
    _prepare(axes, axis, lanes, points)
    for number, lane in enumerate(lanes):
        _draw_lane(axes, axis, number, lane, points)
    _draw_cuts(axes, axis)
    _draw_marks(axes, axis, record.header.attempts, stops)
    _draw_title(figure, record, height)
    _draw_legend(figure)
    return figure


def _lanes(record: Record) -> list[_Lane]:
    header = record.header
    skipped = [row for row in record.gate_rows if row.gate == ALL_GATES]
    lanes = []
    for gate in header.gates:
        rows = [row for row in record.gate_rows if row.gate == gate.name] or skipped
        lanes.append(_Lane(_cut(f"gate {gate.name}", 40), rows, _gate_words(rows)))
    for percent in header.cohorts:
        cohorts = [row for row in record.cohort_rows if row.cohort_percent == percent]
        lanes.append(_Lane(f"cohort {percent} %", cohorts, _cohort_words(cohorts)))
    return lanes


def _gate_words(rows: Sequence[GateRow]) -> str:
    if not rows:
        return "no result"
    row = rows[-1]
    why = row.detail or row.reason
    return f"{row.status}: {why}" if why else f"{row.status} in {duration(row.duration_seconds)}"


def _cohort_words(rows: Sequence[CohortRow]) -> str:
    if not rows:
        return "no result"
    row = rows[-1]
    if row.status != "passed":
        return f"{row.status}: {cohort_detail(row)}"
    return f"passed, soaked {duration(row.soak_seconds)}" if row.soak_seconds else "passed"


def _rows(record: Record) -> list[GateRow | CohortRow]:
    return [*record.gate_rows, *record.cohort_rows]


def _row_moments(row: GateRow | CohortRow) -> list[datetime]:
    """Every moment that a row tells, in order."""
    if isinstance(row, GateRow):
        texts = [row.started_at, row.finished_at]
    else:
        texts = [row.probed_at, row.soak_started_at, row.soak_ended_at]
    return [found for text in texts if (found := moment_of(text)) is not None]


def _busy(record: Record, moment: datetime) -> list[Interval]:
    """When an attempt was working on the rollout.

    One that was killed did so until its last sign of life; one that is under way, until now.
    """
    header = record.header
    signs = [found for row in _rows(record) for found in _row_moments(row)]
    starts = [moment_of(attempt.started_at) for attempt in header.attempts]
    busy: list[Interval] = []
    for number, attempt in enumerate(header.attempts):
        start = starts[number]
        next_start = next(iter(starts[number + 1 :]), None)
        if start is not None:
            ours = [sign for sign in signs if sign >= start and not _before(next_start, sign)]
            last_sign = max([start, *ours])
            is_last = attempt is header.attempts[-1]
            alive = is_last and moment - last_sign <= _longest_step(record)
            end = moment_of(attempt.ended_at) or (moment if alive else last_sign)
            busy.append((start, max(last_sign, end)))
    opened = moment_of(header.started_at) or moment
    return busy or [(opened, max([opened, *signs]))]


def _before(next_start: datetime | None, sign: datetime) -> bool:
    """Whether the next attempt had begun when a row says that something happened."""
    return next_start is not None and next_start <= sign


def _longest_step(record: Record) -> timedelta:
    """How long nothing may be heard of a rollout that is under way."""
    header = record.header
    return timedelta(seconds=max(header.gate_timeout_seconds, header.soak_seconds) + 60)


def _stops(record: Record) -> list[_Stop]:
    found = (_stop_of(record, attempt) for attempt in record.header.attempts)
    return [stop for stop in found if stop is not None]


def _stop_of(record: Record, attempt: Attempt) -> _Stop | None:
    """What ended an attempt, or else its first row that failed."""
    ended_at = moment_of(attempt.ended_at)
    if attempt.outcome in ("aborted", "crashed") and ended_at is not None:
        return _Stop(ended_at, f"{attempt.outcome}: {attempt.detail or 'no reason recorded'}")
    failed = [
        _Stop(moments[-1], _failure(row))
        for row in _rows(record)
        if row.status == "failed" and row.attempt == attempt.attempt
        if (moments := _row_moments(row))
    ]
    return min(failed, key=lambda stop: stop.moment, default=None)


def _failure(row: GateRow | CohortRow) -> str:
    if isinstance(row, GateRow):
        return f"gate {row.gate} failed: {row.detail or row.reason or 'no reason recorded'}"
    return f"cohort {row.cohort_percent} % failed: {cohort_detail(row)}"


def _prepare(axes: Axes, axis: TimeAxis, lanes: Sequence[_Lane], points: float) -> None:
    axes.set_xlim(0, axis.width)
    axes.set_ylim(max(len(lanes), 1) - 0.5, -0.5)
    axes.set_yticks([])  # names are plain texts: ticks take longer to draw
    for number, lane in enumerate(lanes):
        axes.text(-0.01 * axis.width, number, lane.name, fontsize=points, ha="right", va="center")
    ticks = axis.ticks()
    axes.set_xticks([tick.at for tick in ticks], [tick.label for tick in ticks], fontsize=8)
    axes.set_xlabel(f"UTC, from {axis.spans[0].start:%Y-%m-%d}", fontsize=8, loc="right")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_lane(axes: Axes, axis: TimeAxis, number: int, lane: _Lane, points: float) -> None:
    if lane.status in ("no result", "skipped"):
        style = (WAITING, "////" if lane.status == "skipped" else "")
        _rectangle(axes, number, (0, axis.width), style, height=0.8, zorder=0.5)
    for row in lane.rows:
        if isinstance(row, GateRow):
            _draw_gate(axes, axis, number, row)
        else:
            _draw_cohort(axes, axis, number, row, points)
    colour = VERMILLION if lane.status == "failed" else BLACK
    axes.text(
        axis.width * 1.012,
        number,
        _cut(lane.words, 46),
        fontsize=min(points, 8),
        va="center",
        color=colour if lane.status in _COLOURS else "#666666",
    )


def _draw_gate(axes: Axes, axis: TimeAxis, number: int, row: GateRow) -> None:
    start, end = moment_of(row.started_at), moment_of(row.finished_at)
    if row.status not in _BARS or start is None or end is None:
        return
    _bar(axes, axis, number, (start, end), _BARS[row.status])


def _draw_cohort(axes: Axes, axis: TimeAxis, number: int, row: CohortRow, points: float) -> None:
    start, end = moment_of(row.soak_started_at), moment_of(row.soak_ended_at)
    if start is not None and end is not None and row.soak_seconds:
        _bar(axes, axis, number, (start, end), _SOAK)
    probed = moment_of(row.probed_at)
    if probed is not None:
        passed = row.status != "failed"
        axes.plot(
            [axis.position(probed)],
            [number],
            marker="o" if passed else "X",
            markersize=points * (0.7 if passed else 0.95),
            color=BLUE if passed else VERMILLION,
            markeredgecolor="white",
            markeredgewidth=0.5,
            zorder=4,
            clip_on=False,
        )


def _bar(
    axes: Axes, axis: TimeAxis, number: int, interval: Interval, style: tuple[str, str]
) -> None:
    start, end = map(axis.position, interval)
    width = max(end - start, THINNEST_BAR * axis.width)
    start = max(min(start, axis.width - width), 0.0)
    _rectangle(axes, number, (start, start + width), style, height=0.62, zorder=2)


def _rectangle(
    axes: Axes,
    number: int,
    ends: tuple[float, float],
    style: tuple[str, str],
    *,
    height: float,
    zorder: float,
) -> None:
    """A bar in a lane; `Axes.barh` does the same, but takes thrice as long."""
    start, end = ends
    colour, hatch = style
    axes.add_patch(
        Rectangle(
            (start, number - height / 2),
            end - start,
            height,
            facecolor=colour,
            hatch=hatch,
            edgecolor="white",
            zorder=zorder,
        )
    )


def _draw_cuts(axes: Axes, axis: TimeAxis) -> None:
    for cut in axis.cuts:
        axes.axvspan(cut.at, cut.at + cut.width, color="white", zorder=1)
        for edge in (cut.at, cut.at + cut.width):
            axes.axvline(edge, color=GREY, linewidth=0.8, linestyle=":", zorder=1.5)
        axes.text(
            cut.at + cut.width / 2,
            0.5,
            f"{duration((cut.end - cut.start).total_seconds())} later",
            transform=axes.get_xaxis_transform(),
            rotation=90,
            ha="center",
            va="center",
            fontsize=8,
            color="#555555",
            zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )


def _draw_marks(
    axes: Axes, axis: TimeAxis, attempts: Sequence[Attempt], stops: Sequence[_Stop]
) -> None:
    """Lines through all lanes, and above the lanes what each means: stops over attempts."""
    level = 0
    told = -axis.width
    middle = axis.width / 2
    for attempt in attempts[1:]:
        start = moment_of(attempt.started_at)
        if start is None:
            continue
        at = axis.position(start)
        axes.axvline(at, color=BLACK, linewidth=0.9, linestyle="--", zorder=3)
        if at - told > 0.1 * axis.width:
            _Mark(at, at > middle, f"attempt {attempt.attempt}", BLACK).write(axes, 0)
            told = at
        level = 1
    for number, stop in enumerate(reversed(stops)):
        at = axis.position(stop.moment)
        axes.axvline(at, color=VERMILLION, linewidth=1.3, zorder=3, clip_on=False)
        if number < MOST_STOPS_TOLD:
            _Mark(at, at > middle, _cut(stop.text, 90), VERMILLION).write(axes, level + number)


@dataclass(frozen=True)
class _Mark:
    """Words above the lanes, to the left of their line where that is far to the right."""

    at: float
    is_late: bool
    text: str
    colour: str

    def write(self, axes: Axes, level: int) -> None:
        axes.annotate(
            self.text,
            (self.at, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-2 if self.is_late else 2, 3 + level * MARK_INCHES * 72),
            textcoords="offset points",
            ha="right" if self.is_late else "left",
            fontsize=8,
            color=self.colour,
        )


def _draw_title(figure: Figure, record: Record, height: float) -> None:
    header = record.header
    word = _verdict(record)
    started = moment_of(header.started_at)
    when = header.started_at if started is None else f"{started:%Y-%m-%d %H:%M:%S} UTC"
    first = _cut(f"{header.environment}, {when}", 60)
    figure.text(
        0.15 / WIDTH_INCHES,
        1 - 0.1 / height,
        f"{first}: {word}",
        fontsize=12,
        fontweight="bold",
        va="top",
        color=_COLOURS.get(word, BLACK),
    )
    figure.text(
        0.15 / WIDTH_INCHES, 1 - 0.34 / height, _subtitle(record, word), va="top", color=BLACK
    )


def _subtitle(record: Record, word: str) -> str:
    """How long it took in how many attempts, and the first reason that blocks."""
    attempts = record.header.attempts
    started_at = moment_of(record.header.started_at)
    ended_at = moment_of(attempts[-1].ended_at) if attempts else None
    said = [f"{len(attempts)} attempt{'' if len(attempts) == 1 else 's'}"]
    if started_at and ended_at and ended_at >= started_at:
        said.insert(0, duration((ended_at - started_at).total_seconds()))
    reasons = decide(record).reasons if word == "block" else ()
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        said.append(_cut(reasons[0].text, 110) + more)
    return "; ".join(said)


def _verdict(record: Record) -> str:
    """The decision, or that there is none yet: rows of an attempt may still be missing."""
    attempts = record.header.attempts
    if not attempts or attempts[-1].outcome is None:
        return "no decision yet"
    return decide(record).word


def _draw_legend(figure: Figure) -> None:
    handles: list[Patch | Line2D] = [
        Patch(facecolor=GREEN, edgecolor="white", label="gate passed"),
        Patch(facecolor=VERMILLION, edgecolor="white", hatch="xxxx", label="gate failed"),
        _key("o", BLUE, "probe passed"),
        _key("X", VERMILLION, "probe failed"),
        Patch(facecolor=SKY, edgecolor="white", hatch="....", label="soak"),
        Patch(facecolor=WAITING, edgecolor=GREY, hatch="////", label="skipped"),
        Patch(facecolor=WAITING, edgecolor=GREY, label="no result"),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=7, frameon=False, fontsize=8)


def _key(marker: str, colour: str, label: str) -> Line2D:
    return Line2D([], [], marker=marker, color=colour, linestyle="", markersize=7, label=label)
