"""A rollout as a picture: what each gate and each cohort did when, and where it stopped.

Import only where one is drawn: matplotlib takes longer to import than to draw.
"""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from canary_pipeline.model.decision import decide
from canary_pipeline.model.moment import moment_of, plausible, seconds_between
from canary_pipeline.model.record import Header, Record
from canary_pipeline.model.rows import ALL_GATES, CohortRow, GateRow, RollbackRow
from canary_pipeline.model.text import duration, foreign
from canary_pipeline.model.wording import cohort_detail

# Okabe and Ito's colours, which colour-blind people tell apart; hatches and words say the same.
GREEN, VERMILLION, GREY = "#009E73", "#D55E00", "#BBBBBB"
COLOURS = {"allow": GREEN, "block": VERMILLION, "failed": VERMILLION}
_SHADES = {"passed": "white", "failed": "#FBE3D6"}

# Colour and hatch of a bar, by what the legend calls it; later ones are drawn above.
_UNFINISHED = "stopped or under way"
_LOOKS = {
    "gate passed": (GREEN, ""),
    "soak": ("#56B4E9", "...."),
    "(apply and) probe": ("#0072B2", ""),
    "rolled back": ("#CC79A7", r"\\\\"),
    _UNFINISHED: (GREY, "////"),
    "bad look": ("black", ""),
    "failed": (VERMILLION, "xxxx"),
}

WIDTH_INCHES, HIGHEST_INCHES = 11.0, 22.0
THINNEST_BAR = 0.006  # of the axis, so that a probe can be seen beside its soak
MOST_IDLE_SECONDS = 60.0  # between two steps; a longer pause is drawn as this

BadLooks = Mapping[int, Sequence[float]]
"""By cohort, at how many seconds of its last soak a look was bad."""

_Row = GateRow | CohortRow | RollbackRow
_Lanes = dict[str, Sequence[_Row]]


class _Bar(NamedTuple):
    """A stretch of a lane, in seconds of work since the start."""

    lane: str
    start: float
    seconds: float
    look: str


def timeline(record: Record, now: datetime, bad_looks: BadLooks = MappingProxyType({})) -> bytes:
    """Draw what a rollout did when, as a PNG: gates above, what follows them below.

    The title tells the decision that follows from the record, once its last attempt has ended:
    beside the summary, draw `Evidence.verified_record()`, so that both speak of the same.

    Args:
        record: What the folder holds.
        now: Where the picture of a rollout that is under way ends.
        bad_looks: What is ticked in the soaks.
    """
    return png(lambda: timeline_figure(record, now, bad_looks))


def png(draw: Callable[[], Figure]) -> bytes:
    """Draw the same whatever the user's `matplotlibrc` says, and say nothing on stderr."""
    drawn, small = io.BytesIO(), io.BytesIO()
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks
        mpl.rcdefaults()
        mpl.rcParams["font.size"] = 9
        mpl.rcParams["axes.formatter.useoffset"] = False
        mpl.rcParams["text.parse_math"] = False  # a `$` in what a command printed
        draw().savefig(drawn, format="png", dpi=100)
    few = Image.open(drawn).convert("RGB").quantize(64, Image.Quantize.FASTOCTREE)
    few.save(small, format="PNG")  # a third of the bytes
    return small.getvalue()


def unit_of(seconds: float) -> tuple[float, str]:
    """The unit that tells lengths up to this one best: its seconds, and its name."""
    units = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))
    return next((unit for unit in units if seconds >= 2 * unit[0]), (1.0, "seconds"))


def timeline_figure(
    record: Record, now: datetime, bad_looks: BadLooks = MappingProxyType({})
) -> Figure:
    """The figure that `timeline` draws."""
    panels, (word, subtitle) = _lanes(record), _verdict(record)
    bars = _bars(record.header, *panels, now)
    bars += [tick for percent, at in bad_looks.items() for tick in _ticks(percent, at, bars)]
    sizes = [max(len(lanes), 2) for lanes in panels]
    height = min(2.0 + 0.28 * sum(sizes), HIGHEST_INCHES)
    lane_inches = (height - 2.0) / sum(sizes)
    figure = Figure(figsize=(WIDTH_INCHES, height))
    figure.subplots_adjust(0.22, 0.8 / height, 0.69, 1 - 0.6 / height, hspace=1.2 / (height - 2))
    for axes, lanes in zip(figure.subplots(2, height_ratios=sizes), panels, strict=True):
        _draw_bars(axes, list(lanes), [bar for bar in bars if bar.lane in lanes])
        _draw_words(axes, lanes, points=min(9.0, 54 * lane_inches))
    started = record.header.started_at[:19].replace("T", " ")
    title = f"{foreign(f'{record.header.environment}, {started}', 60)} UTC: {word}"
    colour = COLOURS.get(word, "black")
    figure.text(0.01, 1 - 0.25 / height, title, fontsize=12, weight="bold", color=colour)
    figure.text(0.01, 1 - 0.45 / height, subtitle)
    drawn = [key for axes in figure.axes for key in axes.get_legend_handles_labels()[0]]
    keys = {key.get_label(): key for key in drawn}
    figure.legend(handles=list(keys.values()), loc="lower center", ncols=6, frameon=False)
    return figure


def _lanes(record: Record) -> tuple[_Lanes, _Lanes]:
    """All rows of each gate, and of what comes after the gates in turn; the last one counts."""
    of_gates, of_cohorts, undone = record.gate_rows, record.cohort_rows, record.rollback_rows
    names, percents = [gate.name for gate in record.header.gates], record.header.cohorts
    gates: _Lanes = {
        f"gate {it}": [row for row in of_gates if row.gate in (it, ALL_GATES)] for it in names
    }
    cohorts: _Lanes = {
        f"cohort {it} %": [row for row in of_cohorts if row.cohort_percent == it] for it in percents
    }
    return gates, {**cohorts, "rollback": undone} if undone else cohorts


def _bars(header: Header, gates: _Lanes, later: _Lanes, now: datetime) -> list[_Bar]:
    """The bars of all rows, as long as a monotonic clock says.

    Attempts follow one another without the pauses between, and no step begins before the one that
    it waits for has ended: a clock that was set back leaves the picture in order.
    """
    bars: list[_Bar] = []
    rows = [(lane, row) for lane, rows in (gates | later).items() for row in rows]
    rows.sort(key=lambda item: (_told(item[1]) or "") if item[0] in gates else "~")
    for attempt in header.attempts:
        begin = _end(bars)
        for lane, row in rows:
            if row.attempt == attempt.attempt and row.status != "skipped":
                since = seconds_between(attempt.started_at, _told(row)) or 0.0
                goes_on = since < 0 < begin  # a soak that an earlier attempt began
                earliest, head = begin if lane in gates else _end(bars), _head_seconds(row)
                start = min(max(begin + since - head, earliest), _end(bars) + MOST_IDLE_SECONDS)
                bars += _row_bars(lane, row, start, 0.0 if goes_on else head)
        if attempt is header.attempts[-1] and attempt.outcome != "finished":
            worked = seconds_between(attempt.started_at, attempt.ended_at or now.isoformat()) or 0.0
            bars += _unfinished(gates, later, begin, _end(bars), begin + worked)
    return bars


def _row_bars(lane: str, row: _Row, start: float, head: float) -> list[_Bar]:
    """A row as bars; a cohort's soak is its last part, up to the moment when it failed."""
    seconds, failed = plausible(row.duration_seconds), row.status == "failed"
    soak = seconds - _head_seconds(row)
    if not isinstance(row, CohortRow) or (failed and not soak):
        done = "gate passed" if isinstance(row, GateRow) else "rolled back"
        return [_Bar(lane, start, seconds, "failed" if failed else done)]
    parts = _Bar(lane, start, head, "(apply and) probe"), _Bar(lane, start + head, soak, "soak")
    bars = [bar for bar in parts if bar.seconds] or [parts[0]]
    return [*bars, _Bar(lane, start + head + soak, 0.0, "failed")] if failed else bars


def _ticks(percent: int, at: Sequence[float], bars: Sequence[_Bar]) -> list[_Bar]:
    """The bad looks of a cohort's last soak, which may have been cut short."""
    lane = f"cohort {percent} %"
    soak = next((bar for bar in reversed(bars) if bar[::3] == (lane, "soak")), None)
    moments = [seconds for seconds in at if soak and seconds <= soak.seconds]
    return [_Bar(lane, soak.start + seconds, 0.0, "bad look") for seconds in moments if soak]


def _head_seconds(row: _Row) -> float:
    """What a cohort took before its soak, which the look that decides it ends."""
    soak = row.duration_seconds
    if isinstance(row, CohortRow):
        soak = row.soak_seconds if row.soaked_seconds is None else row.soaked_seconds
    return max(plausible(row.duration_seconds) - plausible(soak), 0.0)


def _unfinished(gates: _Lanes, later: _Lanes, begin: float, end: float, stop: float) -> list[_Bar]:
    """What an attempt was at when it was stopped: a row is written as its step ends."""
    running = [lane for lane, rows in gates.items() if not rows]
    failed = any(rows and rows[-1].status == "failed" for rows in (gates | later).values())
    waiting = [] if failed else [lane for lane, rows in later.items() if not rows]
    start = begin if running else end
    seconds = max(stop - start, 0.0)
    return [_Bar(lane, start, seconds, _UNFINISHED) for lane in running or waiting[:1]]


def _end(bars: Sequence[_Bar]) -> float:
    return max((bar.start + bar.seconds for bar in bars), default=0.0)


def _told(row: _Row) -> str | None:
    """When a step began, or a cohort was probed."""
    return row.probed_at if isinstance(row, CohortRow) else row.started_at


def _draw_bars(axes: Axes, lanes: Sequence[str], bars: Sequence[_Bar]) -> None:
    """Draw on a scale of their own: a soak may take a thousand times as long as a gate."""
    low, high = min((bar.start for bar in bars), default=0.0), _end(bars)
    (unit, unit_name), thinnest = unit_of(high), THINNEST_BAR * max(high - low, 0.001)
    axes.set_xlim(low / unit, (max(high, low + 0.001) + thinnest) / unit)
    axes.set_xlabel(f"{unit_name} of work since the start", fontsize=8, loc="right")
    axes.xaxis.set_visible(bool(bars))
    axes.grid(axis="x", color="#DDDDDD")
    axes.set_axisbelow(True)
    for look, (colour, hatch) in _LOOKS.items():
        if ours := [bar for bar in bars if bar.look == look]:
            axes.barh(
                [lanes.index(bar.lane) for bar in ours],
                [max(bar.seconds, thinnest) / unit for bar in ours],
                left=[bar.start / unit for bar in ours],
                height=0.62, color=colour, hatch=hatch, ec="white", linewidth=0.3, label=look,
            )  # fmt: skip


def _draw_words(axes: Axes, lanes: _Lanes, points: float) -> None:
    axes.set_yticks(range(len(lanes)), [foreign(lane, 32) for lane in lanes], fontsize=points)
    axes.set_ylim(max(len(lanes), 2) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    beside = axes.get_yaxis_transform()
    for level, rows in enumerate(lanes.values()):
        status, words = (rows[-1].status, _words(rows[-1])) if rows else ("", "no result")
        colour, words = COLOURS.get(status, "black"), foreign(words, 56)
        axes.axhspan(level - 0.4, level + 0.4, color=_SHADES.get(status, "#EEEEEE"), zorder=0)
        axes.text(1.01, level, words, transform=beside, size=points - 1, va="center", color=colour)


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
