"""Soaks as a picture: what each limit holds of, cohort by cohort, and where the limit lies.

Import only where one is drawn: matplotlib takes longer to import than to draw.
"""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from canary_pipeline.model.limits import Limit
from canary_pipeline.model.soaks import series
from canary_pipeline.model.text import foreign
from canary_pipeline.reports.health import Soak
from canary_pipeline.reports.timeline import HIGHEST_INCHES, VERMILLION, WIDTH_INCHES, png, unit_of

PANEL_INCHES = 1.5
MOST_MARKED = 100


def soak_picture(soaks: Sequence[Soak]) -> bytes | None:
    """Draw each limited number over its soaks, as a PNG; None where there are no limits."""
    limits = soaks[0][1].limits if soaks else ()
    return png(lambda: soak_figure(soaks, limits)) if limits else None


def soak_figure(soaks: Sequence[Soak], limits: Sequence[Limit]) -> Figure:
    """The figure that `soak_picture` draws: a panel a number, a line a cohort."""
    held: dict[tuple[str, bool], list[Limit]] = {}
    for limit in limits:
        held.setdefault((limit.name, limit.growth), []).append(limit)
    height = min(0.8 + PANEL_INCHES * len(held), HIGHEST_INCHES)
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    longest = max((looks[-1].elapsed_seconds for *_, looks in soaks), default=0.0)
    unit, unit_name = unit_of(longest)
    panels = figure.subplots(len(held), squeeze=False, sharex=True)[:, 0]
    for axes, bounds in zip(panels, held.values(), strict=True):
        _draw(axes, bounds, soaks, unit)
    panels[-1].set_xlabel(f"{unit_name} of the soak", fontsize=8, loc="right")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=8)
    figure.suptitle("soaks, each with its limits", x=0.01, ha="left", weight="bold")
    return figure


def _draw(axes: Axes, bounds: Sequence[Limit], soaks: Sequence[Soak], unit: float) -> None:
    colours = mpl.colormaps["viridis"]
    for place, (percent, _, looks) in enumerate(soaks):
        seen = series(bounds[0], looks)
        axes.plot(
            [at / unit for at, _ in seen], [number for _, number in seen],
            marker="." if len(seen) <= MOST_MARKED else "", linewidth=1,
            color=colours(0.9 * place / max(len(soaks) - 1, 1)), label=f"{percent} %",
        )  # fmt: skip
    for limit in bounds:
        axes.axhline(limit.number, color=VERMILLION, linestyle="--", linewidth=1)
    axes.set_title(foreign("   ".join(map(str, bounds)), 110), fontsize=8, loc="left")
    axes.grid(color="#DDDDDD")
    axes.spines[["top", "right"]].set_visible(False)
