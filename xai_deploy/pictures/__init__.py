"""Maps as pictures: colours, what is drawn, and the place of a map on the whole photo. NumPy only."""

from .colors import DIVERGING, SEQUENTIAL, color_bar, colorize, find_colormap
from .mixing import OPACITY, Style, draw, overlay
from .photo import on_photo
from .scale import PERCENTILE, drawn

__all__ = [
    "DIVERGING",
    "OPACITY",
    "PERCENTILE",
    "SEQUENTIAL",
    "Style",
    "color_bar",
    "colorize",
    "draw",
    "drawn",
    "find_colormap",
    "on_photo",
    "overlay",
]
