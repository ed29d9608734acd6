"""A figure of matplotlib's as a picture; import only where one is drawn, for it takes long."""

import io
import warnings
from collections.abc import Callable

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

WIDTH_INCHES, HIGHEST_INCHES = 11.0, 22.0


def png(draw: Callable[[], Figure]) -> bytes:
    """Draw the same whatever the user's `matplotlibrc` says, and say nothing on stderr."""
    drawn, small = io.BytesIO(), io.BytesIO()
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks
        mpl.rcdefaults()
        mpl.rcParams["font.size"] = 9
        mpl.rcParams["axes.formatter.useoffset"] = False
        mpl.rcParams["text.parse_math"] = False  # a `$` in what others wrote
        draw().savefig(drawn, format="png", dpi=100)
    few = Image.open(drawn).convert("RGB").quantize(64, Image.Quantize.FASTOCTREE)
    few.save(small, format="PNG")  # a third of the bytes
    return small.getvalue()
