"""Where a region lies: a box, a polygon, a mask, all of the image, or where the network itself predicts the class.

Each gives the share of every position of the dense scores that the region covers, [H,W] in [0,1]. Boxes, polygons and masks are
given in pixels of the whole photo; resize, crop and letterbox of the preprocessing are followed. A position that the region
covers in part counts in part, so that a small box is not lost between two positions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..detections import Detection
from ..errors import NotPredictedError, TargetError
from ..format.image_input import Input
from ..format.manifest import Explained
from ..foundation.options import quoted
from ..images import MAX_PIXELS, read_image
from ..images.npy import is_npy, read_image_array
from ..preprocess import Frame, frame, resized
from .seeds import Array, Index

_ARRAY = "mask"
_NUMBER = r"-?\d+(?:\.\d+)?"
_BOX = re.compile(rf"{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}")
_POLYGON = re.compile(rf"{_NUMBER}\s*,\s*{_NUMBER}(?:\s+{_NUMBER}\s*,\s*{_NUMBER}){{2,}}")


@dataclass(frozen=True, eq=False)
class Seen:
    """What a place is laid on: n images, as the network saw them.

    Attributes:
        spec: How an image becomes the network's input.
        scores: The dense scores.
        sizes: Per image, (height, width) of the photo; None for prepared inputs, whose pixels are those of the network's input.
        predicted: Gives the class that the network predicts at each position, [n,H,W] int64; -1 for none of its classes.
        detections: Gives the detections of each image, the best one first, of a detector.
    """

    spec: Input
    scores: Explained
    sizes: Sequence[tuple[int, int] | None]
    predicted: Callable[[], Index]
    detections: Callable[[], Sequence[Sequence[Detection]]] = tuple

    def part(self, start: int, stop: int) -> Seen:
        """The images from `start` to `stop` - 1."""
        return Seen(
            self.spec,
            self.scores,
            self.sizes[start:stop],
            lambda: self.predicted()[start:stop],
            lambda: self.detections()[start:stop],
        )


@dataclass(frozen=True, eq=False)
class Place:
    """A region of an image, as a caller describes it.

    Attributes:
        said: How it is written, for people: "120,40,60,60", "mask.png", "all", "predicted".
        mask: Booleans of the photo's size, [h,w], or of a volume's, [D,h,w]; None for the others.
        points: Corners (x, y) of a box or a polygon in pixels of the photo, in order; x to the right, y down.
    """

    said: str
    mask: NDArray[np.bool_] | None = None
    points: tuple[tuple[float, float], ...] = ()

    @classmethod
    def read(cls, written: object, refuse_file: Callable[[object], None] = lambda named: None) -> Place:
        """A place from a text, a path, a box (x, y, width, height), corners [(x, y), ...] or an array of booleans: [h,w], of a
        volume also [D,h,w].

        Args:
            written: One of these.
            refuse_file: Called with the name of a file before it is read; see `ScoreSpace.refuse_file`.

        Raises:
            TargetError: It is none of these, or a file that is refused.
            ImageFileError: The mask's file can't be read.
        """
        if isinstance(written, Place):
            return written
        if isinstance(written, np.ndarray):
            return cls(_ARRAY, as_mask(written, "the mask"))
        if isinstance(written, os.PathLike):
            written = os.fspath(written)
        if isinstance(written, str):
            return _from_text(written.strip(), refuse_file)
        if isinstance(written, (tuple, list)):
            numbers = _numbers(written)
            if not np.isfinite(numbers).all():
                raise TargetError(f"region {quoted(written)}: the numbers of a box, and of corners, are finite")
            if numbers.shape == (4,):
                return _box(*numbers.tolist())
            if numbers.ndim == 2 and numbers.shape[0] >= 3 and numbers.shape[1] == 2:
                return _polygon([(float(x), float(y)) for x, y in numbers])
        raise TargetError(
            f"a region is 'predicted', 'all', a box x,y,width,height, corners, a PNG file or an array of booleans, "
            f"not {quoted(written)}"
        )

    def same(self, other: Place) -> bool:
        """Whether two places are described alike."""
        masks = [place.mask for place in (self, other) if place.mask is not None]
        return self.said == other.said and (not masks or (len(masks) == 2 and np.array_equal(masks[0], masks[1])))

    def covers(self, seen: Seen, classes: Index, name: Callable[[int], str] = "class {}".format) -> Array:
        """The share of each position that the region covers, [n,H,W].

        Args:
            seen: The images.
            classes: The class asked about in each, [n].
            name: Names a class in messages.

        Raises:
            NotPredictedError: It is "predicted", and the network predicts the class nowhere in an image.
            TargetError: The region is empty, lies outside what the network sees, or its mask has another size than the photo.
        """
        places = seen.scores.shape[1:]
        if self.said == "all":
            return np.ones((len(seen.sizes), *places), np.float32)
        if self.said == "predicted":
            asked = classes.reshape(-1, *(1,) * len(places))
            covered: Array = (seen.predicted() == asked).astype(np.float32)
            there = covered.any(axis=tuple(range(1, covered.ndim)))
            if not there.all():
                raise NotPredictedError(
                    f"the network predicts {name(int(classes[~there][0]))} at no position; name a region "
                    "(CLASS@x,y,width,height, CLASS@mask.png or CLASS@all)"
                )
            return covered
        return np.stack([self._laid(seen, size) for size in seen.sizes])

    def _laid(self, seen: Seen, size: tuple[int, int] | None) -> Array:
        """The share of each position, [H,W], of one image; [D,H,W] of a volume, through whose slices a flat region goes."""
        height, width = size or (seen.spec.height, seen.spec.width)
        *deep, h, w = seen.scores.shape[1:]
        mask, flat = self.mask, (height, width)
        if mask is not None and mask.shape not in (flat, (*seen.spec.size[:-2], *flat)):
            sides, own = (" x ".join(map(str, a[::-1])) for a in (mask.shape, (*seen.spec.size[:-2], *flat)))
            named = "the mask" if self.said == _ARRAY else f"the mask {self.said}"  # an array has no name
            raise TargetError(f"{named} has {sides} pixels, its image {own}")
        if mask is None:
            mask = _inside(self.points, height, width)
        if not mask.any():
            outside = self.mask is None
            raise TargetError(
                f"the region {self.said} lies outside the image, which has {width} x {height} pixels"
                if outside
                else f"the region {self.said} is empty"
            )
        shown = Frame(0, 0, seen.spec.height, seen.spec.width)
        if size is not None:
            mask = mask[(..., *frame(height, width, seen.spec).slices)]
            shown = shown_in(height, width, seen.spec)
        first, last = np.array(shown[:2]) / seen.spec.size[-2:], np.add(shown[:2], shown[2:]) / seen.spec.size[-2:]
        down, across = overlaps(mask.shape[-2], h, first[0], last[0]), overlaps(mask.shape[-1], w, first[1], last[1])
        share: Array = (down @ mask.astype(np.float32) @ across.T).astype(np.float32)
        if mask.ndim == 3:
            share = np.tensordot(overlaps(len(mask), *deep), share, 1).astype(np.float32)
        elif deep:
            share = np.repeat(share[None], deep[0], axis=0)
        if not share.any():
            raise TargetError(f"the region {self.said} lies outside the part of the image that the network sees")
        return share


PREDICTED = Place("predicted")
ALL = Place("all")


def shown_in(height: int, width: int, spec: Input) -> Frame:
    """Where the network's input shows a photo of height x width, in pixels of the input: everywhere but in a letterbox's border."""
    if spec.preprocess.resize != "letterbox":
        return Frame(0, 0, spec.height, spec.width)
    size, (top, left) = resized(height, width, spec)
    return Frame(-top, -left, *size)


def overlaps(source: int, size: int, first: float = 0.0, last: float = 1.0) -> Array:
    """The share of each of `size` equal cells of an axis that each of `source` equal cells covers, [size,source].

    The `source` cells lie between `first` and `last`, shares of the axis; if they are all of it, rows sum to 1.
    """
    ends, own = first + (last - first) * np.arange(source + 1) / source, np.arange(size + 1) / size
    low = np.maximum(own[:-1, None], ends[None, :-1])
    high = np.minimum(own[1:, None], ends[None, 1:])
    matrix: Array = (np.maximum(high - low, 0) * size).astype(np.float32)
    return matrix


def is_place(text: str) -> bool:
    """Whether a text can be a place: one of the two words, numbers, or the name of an image file."""
    text = text.strip()
    if text in ("predicted", "all") or _BOX.fullmatch(text) or _POLYGON.fullmatch(text):
        return True
    return Path(text).suffix.lower() in (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".npy")


def _from_text(text: str, refuse_file: Callable[[object], None]) -> Place:
    if text in ("predicted", "all"):
        return Place(text)
    if _BOX.fullmatch(text):
        return _box(*(float(number) for number in text.split(",")))
    if _POLYGON.fullmatch(text):
        return _polygon(
            [(float(x), float(y)) for x, y in (pair.split(",") for pair in re.split(r"(?<=\d)\s+(?=-?\d)", text))]
        )
    if not is_place(text):
        raise TargetError(
            f"region {quoted(text)}: give 'predicted', 'all', a box x,y,width,height, corners 'x,y x,y x,y', or a mask's file"
        )
    refuse_file(text)
    if is_npy(Path(text)):
        return Place(Path(text).name, as_mask(read_image_array(Path(text), MAX_PIXELS), text, colors=False))
    return Place(Path(text).name, as_mask(read_image(text), text))


def _numbers(written: Sequence[object]) -> NDArray[np.float64]:
    """What is written as an array; one without numbers if it holds anything else."""
    try:
        return np.asarray(written, np.float64)
    except (TypeError, ValueError):
        return np.zeros(0)


def _box(x: float, y: float, width: float, height: float) -> Place:
    if width <= 0 or height <= 0:
        raise TargetError(f"the box {x:g},{y:g},{width:g},{height:g} is empty: width and height are above 0")
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return Place(f"{x:g},{y:g},{width:g},{height:g}", None, corners)


def _polygon(points: list[tuple[float, float]]) -> Place:
    said = " ".join(f"{x:g},{y:g}" for x, y in points)
    if np.linalg.matrix_rank(np.subtract(points, points[0])) < 2:
        raise TargetError(f"the polygon {said} is empty: its corners lie on one line")
    return Place(said, None, tuple(points))


def as_mask(values: NDArray[np.generic], name: str, colors: bool = True) -> NDArray[np.bool_]:
    """The region of a picture with two values, the lower of which is outside.

    Args:
        values: [h,w], or [h,w,C] of a picture, all of whose channels are equal; [D,h,w] of a volume.
        name: Its name, for messages.
        colors: An array of rank 3 that does not hold booleans is [h,w,C].

    Raises:
        TargetError: It holds other values, or nothing but one.
    """
    if values.ndim == 3 and colors and values.dtype != bool:
        if (values != values[..., :1]).any():
            raise TargetError(
                f"{name}: a mask is black and white, and this picture has colours; save the object white on black"
            )
        values = values[..., 0]
    if values.ndim not in (2, 3) or values.dtype.kind not in "biuf":
        raise TargetError(f"{name}: a mask is a picture [h,w] of two values, not {values.dtype} {list(values.shape)}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise TargetError(
            f"{name}: the mask holds NaN or infinity; a mask has two values, 0 outside and another inside"
        )
    levels = np.unique(values)
    if len(levels) > 2 or (len(levels) == 2 and levels[0] != 0):
        raise TargetError(
            f"{name}: a mask has two values, 0 outside and another inside; this one has {', '.join(map(str, levels[:4]))}"
            f"{' ...' if len(levels) > 4 else ''}"
        )
    if not levels.any():
        shape = " x ".join(map(str, values.shape))
        raise TargetError(
            f"{name}: the mask is empty, all of its {shape} values are 0; mark the region with another value"
        )
    return np.asarray(values != 0)


def _inside(points: Sequence[tuple[float, float]], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside a polygon (even-odd rule); of a box at least the pixels that it touches, [h,w]."""
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    inside = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if y0 == y1:
            continue
        crossing = (y0 <= y) != (y1 <= y)  # [h,1]: the edge crosses the row of centres
        at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        inside ^= crossing & (x < at)
    if not inside.any():  # smaller than a pixel: the pixel in which it lies
        cx, cy = (float(np.mean([point[i] for point in points])) for i in (0, 1))
        if 0 <= cx < width and 0 <= cy < height:
            inside[int(cy), int(cx)] = True
    return inside
