"""Pictures as a matplotlib figure with colour bars (extra `plot`)."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendNotInstalledError
from .colors import find_colormap
from .mixing import Style

Pixels = NDArray[np.uint8]

_COLUMNS = 4
_WIDTH = 36  # characters of a line above a picture


def figure(
    pictures: Sequence[Pixels], captions: Sequence[str], title: str, signed: Sequence[bool], style: Style
) -> Any:
    """A `matplotlib.figure.Figure`, at most four pictures in a row. pyplot is not imported, so nothing has to be closed.

    Args:
        pictures: RGB [h,w,3], maps laid over photos.
        captions: One per picture.
        title: Above all.
        signed: Per picture, whether its map is signed. There is a colour bar for each kind of map.
        style: The pictures' colours.

    Raises:
        BackendNotInstalledError: matplotlib is not installed.
    """
    try:
        import matplotlib.cm
        import matplotlib.colors
        import matplotlib.figure
    except ImportError:
        raise BackendNotInstalledError(
            'plot needs matplotlib, which is not installed; pip install "xai-deploy[plot]"'
        ) from None
    # A notebook shows an object that gives its own PNG, whether pyplot is in use or not.
    kind = type("Figure", (matplotlib.figure.Figure,), {"_repr_png_": _as_png})
    columns = min(len(pictures), _COLUMNS)
    lines = -(-len(pictures) // columns)
    drawn = kind(figsize=(3.2 * columns + 1.2 * len(set(signed)), 3.4 * lines + 0.5), layout="constrained")
    axes = drawn.subplots(lines, columns, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    for place, picture, caption in zip(axes.flat, pictures, captions, strict=False):
        place.imshow(picture)
        # Wrapped here: matplotlib's own wrapping reads a "$" as mathematics, whatever parse_math says.
        place.set_title(textwrap.fill(caption, _WIDTH), fontsize=10, parse_math=False)
    drawn.suptitle(textwrap.fill(title, _WIDTH * columns), fontsize=11, parse_math=False)
    for two_sided in sorted(set(signed)):
        table = find_colormap(style.diverging if two_sided else style.sequential, two_sided).table / 255.0
        limits = matplotlib.colors.Normalize(-1 if two_sided else 0, 1)
        scale = matplotlib.cm.ScalarMappable(limits, matplotlib.colors.ListedColormap(table))
        meaning = "against ... for (per image)" if two_sided else "lowest ... highest (per image)"
        drawn.colorbar(scale, ax=axes, shrink=0.8, label=meaning)
    return drawn


def _as_png(drawn: Any) -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=96)
    return buffer.getvalue()
