"""Pictures inside a page, as data URLs of a bounded size."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import pictures
from ..images import encode_image, fit

Pixels = NDArray[np.uint8]

_QUALITY = 85  # of JPEG
SIDE = 256  # pixels of a thumbnail's longer side, at most


def shrink(picture: Pixels) -> Pixels:
    """RGB [h,w,3] -> at most `SIDE` pixels on either side."""
    return fit(picture, SIDE, enlarge=False)


def thumbnail(picture: Pixels, side: int = SIDE) -> str:
    """RGB [h,w,3] -> the data URL of a JPEG of at most `side` pixels on either side."""
    small = fit(picture, side, enlarge=False)
    return "data:image/jpeg;base64," + base64.b64encode(encode_image(small, ".jpg", _QUALITY)).decode("ascii")


@dataclass(frozen=True)
class Shown:
    """A picture of a page.

    Attributes:
        url: Its data URL.
        alt: What it shows, for people who can't see it.
        boxes: (left, top, width, height) in shares of the picture, drawn over it.
        tall: It is so much higher than wide that the page shows it narrower.
    """

    url: str
    alt: str
    boxes: Sequence[tuple[float, float, float, float]] = ()
    tall: bool = False


def show(picture: Pixels, alt: str, boxes: Sequence[tuple[float, float, float, float]] = (), side: int = SIDE) -> Shown:
    """RGB [h,w,3] as a picture of a page, of at most `side` pixels on either side."""
    return Shown(thumbnail(picture, side), alt, boxes, tall=picture.shape[0] > 1.5 * picture.shape[1])


@dataclass(frozen=True)
class ColorBar:
    """The colours of maps, with the words or numbers at its ends and in its middle."""

    url: str
    low: str
    high: str
    middle: str = ""


def color_bar(low: str, high: str, middle: str = "", colormap: str | None = None, signed: bool = False) -> ColorBar:
    """The bar of a colour map."""
    return ColorBar(thumbnail(pictures.color_bar(8, SIDE, colormap, signed)), low, high, middle)
