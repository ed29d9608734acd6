"""What all pictures share: colours, a style of their own, and small PNG files.

Colours are Okabe and Ito's, which colour-blind people tell apart; a hatch, a marker or a word says
the same again.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

GREEN, VERMILLION, GREY, SKY, BLUE, BLACK = (
    "#009E73", "#D55E00", "#999999", "#56B4E9", "#0072B2", "#222222",
)  # fmt: skip

COLOURS = 64
DOTS_PER_INCH = 100
WIDTH_INCHES = 11.0

_STYLE = {
    name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith("backend")
} | {
    "font.size": 9,
    "hatch.linewidth": 0.7,
    "text.parse_math": False,  # a `$` in what a command printed begins no formula
}


@contextmanager
def own_style() -> Iterator[None]:
    """Draw the same whatever the user's `matplotlibrc` says, and say nothing on stderr."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks
        yield


def png(figure: Figure) -> bytes:
    """Draw a figure with few colours, which makes a quarter of the bytes."""
    figure.set_dpi(DOTS_PER_INCH)
    dots = io.BytesIO()
    figure.savefig(dots, format="rgba")
    drawn = Image.frombytes("RGBA", figure.canvas.get_width_height(), dots.getvalue())
    few = drawn.convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE)
    out = io.BytesIO()
    few.save(out, format="PNG", optimize=True)
    return out.getvalue()
