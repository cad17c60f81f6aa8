"""Maps as pictures: colours, and the place of a map on the whole photo. NumPy only."""

from .colors import DIVERGING, SEQUENTIAL, color_bar, colorize, find_colormap, normalised
from .photo import on_photo

__all__ = ["DIVERGING", "SEQUENTIAL", "color_bar", "colorize", "find_colormap", "normalised", "on_photo"]
