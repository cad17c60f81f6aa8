"""Whether YOLO's lines hold a box and key points, "class cx cy w h x1 y1 ...", or a polygon, "class x1 y1 x2 y2 x3 y3 ...".

Both may have the same count of numbers. The data set's description says which: a .yaml file with `kpt_shape: [K, 2]` or `[K, 3]`
(the third number of a point says whether it is seen) for key points, and without it for anything else. If there is none, lines
that fit both are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import TruthError
from .reading import number, read_text

_SHAPE = re.compile(r"^kpt_shape:\s*(?:\[\s*(\d{1,4})\s*,\s*([23])\s*\]|-\s*(\d{1,4})\s*-\s*([23])\b)", re.MULTILINE)
_DESCRIBES = re.compile(r"^(names|nc|kpt_shape):", re.MULTILINE)
_FILE_LIMIT = 1 << 20  # bytes
_ABOVE = 2  # folders above the labels: set/data.yaml beside set/labels or set/train/labels
_SLACK = 0.01  # as `reading.fraction`'s
_SPREAD = 0.3  # of a box, in each direction, that key points take at least; a small polygon takes less of what would be its box

Line = tuple[str, list[str]]
"""Where it stands, and its words."""


def has_key_points(lines: Callable[[], Iterator[Line]], folder: Path) -> bool:
    """Whether all lines of a folder hold boxes with key points.

    Args:
        lines: Gives all lines with words, anew at each call: a data set may be too large to keep them.
        folder: The labels' folder.

    Raises:
        TruthError: They may be either, and no description is near.
    """
    first, words = next(lines(), ("", []))
    if len(words) < 7:
        return False  # key points are as many in all lines
    counts = {len(words) for _, words in lines()}
    shapes, others = _described(folder)
    if any(counts == {5 + points * depth} for points, depth in shapes):
        return True
    if others or len(counts) > 1:
        return False
    (count,) = counts
    values = np.array([[number(word, where) for word in words] for where, words in lines()], np.float64)
    for depth in (2, 3):
        if (count - 5) % depth == 0 and _fit(values[:, 1:5], values[:, 5:].reshape(len(values), -1, depth)):
            either = ("", "") if count % 2 == 0 else (" or polygons", ", 'names:' alone for polygons")
            raise TruthError(
                f"{first}: this and all lines look like boxes with key points{either[0]}; write 'kpt_shape: "
                f"[{(count - 5) // depth}, {depth}]' into {folder / 'data.yaml'} for key points{either[1]}"
            )
    return False


def _fit(boxes: NDArray[Any], points: NDArray[Any]) -> bool:
    """Whether each line's points lie in its box and take much of it; points at 0, 0 are not annotated.

    Args:
        boxes: [n,4], cx, cy, w, h.
        points: [n,K,2 or 3].
    """
    if points.shape[2] == 3 and not np.isin(points[..., 2], (0, 1, 2)).all():
        return False
    known = (points[..., :2] != 0).any(axis=2)
    centre, size = boxes[:, None, :2], boxes[:, None, 2:]
    inside = (np.abs(points[..., :2] - centre) <= size / 2 + _SLACK).all(axis=2)
    if not (inside | ~known).all() or not known.any():
        return False
    ends = [np.where(known[..., None], points[..., :2], filled) for filled in (-np.inf, np.inf)]
    some = known.any(axis=1)
    spread = (ends[0].max(axis=1) - ends[1].min(axis=1))[some] / np.maximum(boxes[some, 2:], 1e-9)
    return bool((np.median(spread, axis=0) >= _SPREAD).all())


def _described(folder: Path) -> tuple[list[tuple[int, int]], bool]:
    """What the nearest folder with descriptions says: their shapes of key points, and whether one has none."""
    above = folder.resolve()
    for place in (above, *above.parents[:_ABOVE]):
        texts = [text for file in sorted(place.glob("*.y*ml")) if _DESCRIBES.search(text := _text(file))]
        if texts:
            found = [_SHAPE.search(text) for text in texts]
            shapes = [(int(one[1] or one[3]), int(one[2] or one[4])) for one in found if one is not None]
            return shapes, None in found
    return [], False


def _text(file: Path) -> str:
    """The text of a file; none if it is no text, or can't be read: it may be anybody's."""
    try:
        return read_text(file, _FILE_LIMIT)
    except TruthError:
        return ""
