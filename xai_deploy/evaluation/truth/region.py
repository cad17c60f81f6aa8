"""Ground truth of an image -> pixels of the network's input, through the resize and the crop of its preprocessing.

Row i of an input of H rows has its centre at y = top + (i + 1/2) * height / H in the image's own pixels, where (top, left,
height, width) is `preprocess.crop_box`; columns likewise. A pixel belongs to the region that its centre lies in; a centre on
an edge belongs to the region that begins there. Positions are rounded to a millionth of a pixel, so that 25/44 of 44 pixels
is 25.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ...detections import overlaps
from ...format.bundle import Input
from ...preprocess import crop_box
from .annotations import Box

_DECIMALS = 6


def region(boxes: Iterable[Box], height: int, width: int, spec: Input) -> NDArray[np.bool_]:
    """Pixels of the network's input whose centres lie in any of the boxes.

    A box partly outside the crop is cut. A box entirely outside the crop has no pixels, and neither has a box that is thinner
    than a pixel and lies between two centres.

    Args:
        boxes: Fractions of the whole upright image.
        height: The image's height in pixels.
        width: Its width.
        spec: The manifest's input.

    Returns:
        [H,W] of the network's input.
    """
    y, x = _centres(height, width, spec)
    inside = np.zeros((spec.height, spec.width), dtype=bool)
    for box in boxes:
        top, bottom = round(box.top * height, _DECIMALS), round(box.bottom * height, _DECIMALS)
        left, right = round(box.left * width, _DECIMALS), round(box.right * width, _DECIMALS)
        inside |= ((top <= y) & (y < bottom))[:, None] & ((left <= x) & (x < right))
    return inside


MATCH = 0.5
"""The intersection over union from which a detection is that of an object, as in COCO's AP50 (arXiv:1405.0312)."""


def matching_box(
    boxes: Iterable[Box], found: tuple[float, float, float, float], height: int, width: int, spec: Input
) -> tuple[Box, ...]:
    """Of some boxes the one that a detection overlaps most, if their intersection over union is `MATCH` at least; else none.

    Args:
        boxes: Fractions of the whole upright image.
        found: (left, top, right, bottom) of the detection in pixels of the network's input.
        height, width, spec: As for `region`.
    """
    top, left, seen_height, seen_width = crop_box(height, width, spec)
    down, across = spec.height / seen_height, spec.width / seen_width
    own = list(boxes)
    if not own:
        return ()
    edges = [
        (
            (box.left * width - left) * across,
            (box.top * height - top) * down,
            (box.right * width - left) * across,
            (box.bottom * height - top) * down,
        )
        for box in own
    ]
    shares = overlaps(np.array(found, np.float32), np.array(edges, np.float32))
    best = int(shares.argmax())
    return (own[best],) if shares[best] >= MATCH else ()


def mask_region(mask: NDArray[np.bool_], spec: Input) -> NDArray[np.bool_]:
    """The mask [h,w] of an image at the centres of the pixels [H,W] of the network's input; False outside the image.

    The mask [D,h,w] of a volume gives [D,H,W]."""
    *_, height, width = mask.shape
    y, x = _centres(height, width, spec)
    rows, columns = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    # A padded input has centres outside the image: clip the indices for the look-up, then set those pixels to False.
    known = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    seen: NDArray[np.bool_] = mask[..., rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)] & known
    return seen


def _centres(height: int, width: int, spec: Input) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """y [H] and x [W], in the image's pixels, of the centres of the input's rows and columns."""
    top, left, seen_height, seen_width = crop_box(height, width, spec)
    y = top + (np.arange(spec.height, dtype=np.float64) + 0.5) * (seen_height / spec.height)
    x = left + (np.arange(spec.width, dtype=np.float64) + 0.5) * (seen_width / spec.width)
    return y.round(_DECIMALS), x.round(_DECIMALS)
