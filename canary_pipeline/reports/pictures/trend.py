"""Past rollouts as a picture: how long they took, and how they were decided."""

from collections.abc import Sequence
from statistics import median
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from canary_pipeline.reports.history import PastRollout
from canary_pipeline.reports.pictures.ink import (
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    WIDTH_INCHES,
    own_style,
    png,
)

_Decision = Literal["allow", "block", "none"]

_DECISIONS: dict[_Decision, tuple[str, str]] = {
    "none": (GREY, "s"),
    "block": (VERMILLION, "X"),
    "allow": (GREEN, "o"),
}
"""Colour and marker by decision, in the order of the strip from below."""

MANY = 80
"""How many rollouts are so many that their marks get small."""

RECENT = 10
OUTLIER = 20
"""How many times as long as usual a rollout must be for a scale in powers of ten."""


def trend(history: Sequence[PastRollout]) -> bytes:
    """Draw how long past rollouts and their longest gates took, and how they were decided.

    Args:
        history: Any number of rollouts, in any order; those that cannot be read are left out.

    Returns:
        A PNG.
    """
    with own_style():
        return png(trend_figure(history))


def trend_figure(history: Sequence[PastRollout]) -> Figure:
    """The figure that `trend` draws: durations above, decisions below, from old to new."""
    rollouts = sorted(
        (rollout for rollout in history if rollout.started_at is not None),
        key=lambda rollout: (rollout.started_at, rollout.folder.name),
    )
    figure = Figure(figsize=(WIDTH_INCHES, 5.0))
    above = figure.add_axes((0.08, 0.33, 0.9, 0.52))
    below = figure.add_axes((0.08, 0.13, 0.9, 0.15), sharex=above)
    figure.text(0.01, 0.98, _trend_title(rollouts), fontsize=12, fontweight="bold", va="top")
    _draw_durations(above, rollouts)
    _draw_decisions(below, rollouts)
    above.set_xlim(-0.5, max(len(rollouts), 1) - 0.5)
    above.tick_params(axis="x", labelbottom=False, length=0)
    _label_days(below, rollouts)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _decided(rollout: PastRollout) -> _Decision:
    return rollout.decision or "none"


def _trend_title(rollouts: Sequence[PastRollout]) -> str:
    if not rollouts:
        return "no rollouts"
    said = [f"{len(rollouts)} rollout{'s' if len(rollouts) > 1 else ''}: {_counts(rollouts)}"]
    if len(rollouts) > RECENT:
        said.append(f"the last {RECENT}: {_counts(rollouts[-RECENT:])}")
    return "; ".join(said)


def _counts(rollouts: Sequence[PastRollout]) -> str:
    words = {"allow": "allow", "block": "block", "none": "without a decision"}
    counts = [
        (sum(_decided(rollout) == name for rollout in rollouts), word)
        for name, word in words.items()
    ]
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _draw_durations(axes: Axes, rollouts: Sequence[PastRollout]) -> None:
    totals = [
        (at, rollout.duration_seconds, _decided(rollout))
        for at, rollout in enumerate(rollouts)
        if rollout.duration_seconds is not None
    ]
    gates = [(at, gate[1]) for at, rollout in enumerate(rollouts) if (gate := rollout.longest_gate)]
    lengths = [seconds for _, seconds, _ in totals] + [seconds for _, seconds in gates]
    unit, name = _unit(max(lengths, default=0.0))
    size = 6.5 if len(rollouts) <= MANY else 2.5
    if len(rollouts) <= MANY:
        axes.plot(
            [at for at, _, _ in totals],
            [seconds / unit for _, seconds, _ in totals],
            color=GREY, linewidth=0.8, zorder=1,
        )  # fmt: skip
    for decision, (colour, marker) in _DECISIONS.items():
        points = [(at, seconds / unit) for at, seconds, word in totals if word == decision]
        if not points:
            continue
        axes.plot(
            [at for at, _ in points], [length for _, length in points],
            linestyle="", marker=marker, markersize=size, color=colour, zorder=3,
            label=f"whole rollout, {decision if decision != 'none' else 'no decision'}",
        )  # fmt: skip
    if gates:
        axes.plot(
            [at for at, _ in gates],
            [seconds / unit for _, seconds in gates],
            color=BLUE, linewidth=1.0, linestyle="--", marker="_", markersize=size, zorder=2,
            label="longest gate",
        )  # fmt: skip
    _scale(axes, [seconds / unit for _, seconds, _ in totals], f"duration, {name}")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    if lengths:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, fontsize=8)


def _unit(longest: float) -> tuple[float, str]:
    """The unit for durations up to so many seconds, and its name."""
    for seconds, name in ((3600.0, "h"), (60.0, "min")):
        if longest >= 2 * seconds:
            return seconds, name
    return 1.0, "s"


def _scale(axes: Axes, totals: Sequence[float], label: str) -> None:
    """From zero; in powers of ten where one that was resumed days later would flatten the rest."""
    positive = [total for total in totals if total > 0]
    if positive and max(positive) > OUTLIER * median(positive):
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_formatter("{x:g}")  # the usual 10⁰ would be set as a formula
        axes.yaxis.set_minor_formatter("")
        axes.set_ylabel(f"{label} (powers of ten)")
    else:
        axes.set_ylim(bottom=0)
        axes.set_ylabel(label)


def _draw_decisions(axes: Axes, rollouts: Sequence[PastRollout]) -> None:
    few = len(rollouts) <= MANY
    for level, (decision, (colour, marker)) in enumerate(_DECISIONS.items()):
        where = [at for at, rollout in enumerate(rollouts) if _decided(rollout) == decision]
        axes.plot(
            where, [level] * len(where),
            linestyle="", marker=marker if few else "|", markersize=6.5, color=colour,
        )  # fmt: skip
    axes.set_yticks(range(len(_DECISIONS)), list(_DECISIONS))
    axes.set_ylim(-0.7, len(_DECISIONS) - 0.3)


def _label_days(axes: Axes, rollouts: Sequence[PastRollout]) -> None:
    """Say below some rollouts when they started."""
    most = 9
    step = max(-(-len(rollouts) // most), 1)
    where = range(0, len(rollouts), step)
    started = [rollouts[at].started_at for at in where]
    labels = ["" if when is None else f"{when:%Y-%m-%d}\n{when:%H:%M}" for when in started]
    axes.set_xticks(list(where), labels, fontsize=8)
    axes.set_xlabel("started (UTC)", fontsize=8, loc="right")
