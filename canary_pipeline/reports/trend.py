"""Past rollouts as a picture: how long each took, and how it was decided."""

from collections.abc import Sequence
from statistics import median

from matplotlib.figure import Figure

from canary_pipeline.reports.history import PastRollout
from canary_pipeline.reports.lanes import unit_of
from canary_pipeline.reports.plot import WIDTH_INCHES, png
from canary_pipeline.reports.timeline import GREEN, GREY, VERMILLION

# Colour and marker by decision.
_LOOKS = {
    "allow": (GREEN, "o"),
    "block": (VERMILLION, "X"),
    "without a decision": (GREY, "s"),
}
OUTLIER = 20  # times as long as usual; then the scale is in powers of ten


def trend(rollouts: Sequence[PastRollout]) -> bytes:
    """Draw past rollouts from old to new, as a PNG.

    Args:
        rollouts: Any number, in any order; those that cannot be read are left out.
    """
    return png(lambda: trend_figure(rollouts))


def trend_figure(rollouts: Sequence[PastRollout]) -> Figure:
    """The figure that `trend` draws; a rollout whose duration is not known stands at 0."""
    dated = [(it.started_at, it.folder.name, it) for it in rollouts if it.started_at]
    found = [rollout for *_, rollout in sorted(dated, key=lambda item: item[:2])]
    words = [rollout.decision or "without a decision" for rollout in found]
    lengths = [rollout.duration_seconds or 0.0 for rollout in found]
    usual = median([seconds for seconds in lengths if seconds] or [1.0])
    unit, unit_name = unit_of(usual)
    figure = Figure(figsize=(WIDTH_INCHES, 4.0), layout="constrained")
    axes = figure.subplots()
    for word, (colour, marker) in _LOOKS.items():
        where = [at for at, own in enumerate(words) if own == word]
        axes.plot(
            where, [lengths[at] / unit for at in where], marker, color=colour, clip_on=False,
            markersize=max(2, 7 - len(found) / 50), label=f"{len(where)} {word}",
        )  # fmt: skip
    if max(lengths, default=0.0) > OUTLIER * usual:  # one that was resumed days later
        axes.set_yscale("symlog", linthresh=usual / unit)
        axes.yaxis.set_major_formatter("{x:g}")  # the usual 10⁰ would be set as a formula
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"duration, {unit_name}")
    axes.grid(axis="y", color="#DDDDDD")
    axes.spines[["top", "right"]].set_visible(False)
    ticks = range(0, len(found), len(found) // 9 + 1)
    axes.set_xticks(ticks, [f"{found[at].started_at:%Y-%m-%d\n%H:%M}" for at in ticks], fontsize=8)
    axes.set_xlabel("started (UTC)", fontsize=8, loc="right")
    figure.suptitle(f"past rollouts: {len(found)}", x=0.01, ha="left", weight="bold")
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    return figure
