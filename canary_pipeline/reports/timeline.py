"""A rollout as a picture: what each gate and each cohort did when, and where it stopped.

Pillow draws it: matplotlib takes most of the time of `import dagster` to import alone.
"""

import io
import math
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from PIL import Image, ImageDraw, ImageFont

from canary_pipeline.model.record import Record
from canary_pipeline.model.text import foreign
from canary_pipeline.reports import lanes as of
from canary_pipeline.reports.lanes import BadLooks, Bar, Course, Panel, course_of

# Okabe and Ito's colours, which colour-blind people tell apart; hatches and words say the same.
GREEN, VERMILLION, GREY = "#009E73", "#D55E00", "#BBBBBB"
COLOURS = {"allow": GREEN, "block": VERMILLION, "failed": VERMILLION}
_SHADES = {"passed": "white", "failed": "#FBE3D6"}
_PALE = "#DDDDDD"

# Colour and hatch of a bar, by what it is; later ones are drawn above.
_LOOKS = {
    of.GATE: (GREEN, ""),
    of.SOAK: ("#56B4E9", "."),
    of.PROBE: ("#0072B2", ""),
    of.ROLLED_BACK: ("#CC79A7", "\\"),
    of.UNFINISHED: (GREY, "/"),
    of.BAD_LOOK: ("black", ""),
    of.FAILED: (VERMILLION, "/\\"),
}

# In pixels.
WIDTH, HIGHEST = 1100, 2200
_LEFT, _RIGHT = 242, 759
_TOP, _BETWEEN, _BOTTOM, _LANE = 60, 62, 78, 28
_THINNEST = 3  # so that a probe can be seen beside its soak
_HATCH = 6

MOST_TICKS = 8


def timeline(record: Record, now: datetime, bad_looks: BadLooks = MappingProxyType({})) -> bytes:
    """Draw what a rollout did when, as a PNG: gates above, what follows them below.

    The title tells the decision that follows from the record, once its last attempt has ended:
    beside the summary, draw `Evidence.verified_record()`, so that both speak of the same.

    Args:
        record: What the folder holds.
        now: Where the picture of a rollout that is under way ends.
        bad_looks: What is ticked in the soaks.
    """
    small = io.BytesIO()
    picture = _drawn(course_of(record, now, bad_looks))
    picture.quantize(64, Image.Quantize.FASTOCTREE).save(small, format="PNG")
    return small.getvalue()


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others, at most eight."""
    least = (high - low) / MOST_TICKS
    ten = 10.0 ** math.floor(math.log10(least))
    step = next(step for step in (ten, 2 * ten, 5 * ten, 10 * ten) if step >= least)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [number * step for number in range(first, last + 1)]


def _drawn(course: Course) -> Image.Image:
    sizes = [max(len(panel.lanes), 2) for panel in course.panels]
    around = _TOP + _BETWEEN + _BOTTOM
    lane = min(_LANE, (HIGHEST - around) / sum(sizes))
    image = Image.new("RGB", (WIDTH, around + math.ceil(lane * sum(sizes))), "white")
    draw = ImageDraw.Draw(image)
    colour = COLOURS.get(course.word, "black")
    draw.text((11, 25), course.title, colour, _font(17, bold=True), "lm")
    draw.text((11, 45), course.subtitle, "black", _font(12), "lm")
    top = float(_TOP)
    for panel, size in zip(course.panels, sizes, strict=True):
        _draw_panel(image, panel, top, top + lane * size, lane)
        top += lane * size + _BETWEEN
    _draw_legend(image, {bar.look for panel in course.panels for bar in panel.bars})
    return image


def _draw_panel(image: Image.Image, panel: Panel, top: float, bottom: float, lane: float) -> None:
    draw = ImageDraw.Draw(image)
    middles = {name: top + (level + 0.5) * lane for level, name in enumerate(panel.lanes)}
    points = min(12.0, 0.75 * lane)
    for name, (status, words) in panel.lanes.items():
        middle, shade = middles[name], _SHADES.get(status, "#EEEEEE")
        draw.rectangle((_LEFT, middle - 0.4 * lane, _RIGHT, middle + 0.4 * lane), shade)
        draw.text((_LEFT - 7, middle), foreign(name, 32), "black", _font(points), "rm")
        colour = COLOURS.get(status, "black")
        draw.text((_RIGHT + 7, middle), words, colour, _font(points - 1), "lm")
    if panel.bars:
        _draw_scale(draw, panel, top, bottom)
    for bar, left, right in _places(panel):
        height = max(round(0.62 * lane), 1)
        stretch = _stretch(bar.look, right - left, height)
        image.paste(stretch, (left, round(middles[bar.lane] - height / 2)))
    draw.line((_LEFT, bottom, _RIGHT, bottom), "black")


def _draw_scale(draw: ImageDraw.ImageDraw, panel: Panel, top: float, bottom: float) -> None:
    seconds, name = panel.unit
    for tick in ticks(panel.low / seconds, panel.high / seconds):
        x = _x(panel, tick * seconds)
        draw.line((x, top, x, bottom), _PALE)
        draw.line((x, bottom, x, bottom + 4), "black")
        draw.text((x, bottom + 6), f"{tick:.6g}", "black", _font(12), "mt")
    said = f"{name} of work since the start"
    draw.text((_RIGHT, bottom + 23), said, "black", _font(11), "rt")


def _places(panel: Panel) -> Iterator[tuple[Bar, int, int]]:
    """Each bar with its left and right edge, in the order of drawing."""
    for look in _LOOKS:
        for bar in panel.bars:
            if bar.look == look:
                left = round(_x(panel, bar.start))
                yield bar, left, max(round(_x(panel, bar.start + bar.seconds)), left + _THINNEST)


def _x(panel: Panel, seconds: float) -> float:
    share = (seconds - panel.low) / (panel.high - panel.low)
    return _LEFT + share * (_RIGHT - _LEFT - _THINNEST)


def _draw_legend(image: Image.Image, looks: set[str]) -> None:
    draw = ImageDraw.Draw(image)
    keys = [look for look in _LOOKS if look in looks]
    widths = [_font(12).getlength(look) + 58 for look in keys]
    left, y = (WIDTH - sum(widths)) / 2, image.height - 16
    for look, width in zip(keys, widths, strict=True):
        image.paste(_stretch(look, 28, 10), (round(left), y - 5))
        draw.text((left + 35, y), look, "black", _font(12), "lm")
        left += width


def _stretch(look: str, width: int, height: int) -> Image.Image:
    """A piece of a bar."""
    colour, hatch = _LOOKS[look]
    image = Image.new("RGB", (width, height), colour)
    draw = ImageDraw.Draw(image)
    for x in range(-height, width + height, _HATCH):
        if "/" in hatch:
            draw.line((x, height, x + height, 0), "white")
        if "\\" in hatch:
            draw.line((x, 0, x + height, height), "white")
        if "." in hatch:
            draw.point([(x, y) for y in range(2, height, 4)], "white")
    return image


@cache
def _font(pixels: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu, which has most letters; matplotlib, which draws trends, brings it along."""
    [package] = getattr(find_spec("matplotlib"), "submodule_search_locations", None) or [""]
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    file = Path(package) / "mpl-data/fonts/ttf" / name
    return ImageFont.truetype(file, pixels, layout_engine=ImageFont.Layout.BASIC)
