"""The colour maps, one file per family, found by name."""

from .colormap import ColorMap, colormaps

__all__ = ["ColorMap", "colormaps"]
