"""The segments of an image that methods hide and show: cells of a grid, superpixels, or labels from a file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import resample
from ..errors import ImageFileError, NotApplicableError, OptionError
from ..images import MAX_PIXELS
from ..images.npy import is_npy, read_image_array
from ..images.read import read_values
from ..preprocess import frame
from ..targets.places import shown_in
from .method import Array, Forward, Index
from .superpixels import slic

MOST = 2500  # segments; a regression over them takes their cube of operations

_DRAWN = re.compile(r"(grid|slic):(\d{1,4})")


def check_segments(name: str, written: str) -> None:
    """Refuse what describes no segments: `grid:N`, `slic:N`, or the name of a file of labels.

    Raises:
        OptionError: It is none of these, or asks for more than `MOST` segments.
    """
    drawn = _DRAWN.fullmatch(written)
    if drawn is None:
        if Path(written).suffix.lower() not in (".npy", ".png"):
            raise OptionError(f"{name}: segments are grid:N, slic:N or a file of labels (.npy, .png), not {written!r}")
        return
    kind, number = drawn[1], int(drawn[2])
    count = number**2 if kind == "grid" else number
    if not 1 <= count <= MOST:
        raise OptionError(f"{name}: segments={written} asks for {count} segments; 1 to {MOST} are possible")


def segments(name: str, written: str, forward: Forward) -> list[Index]:
    """The segment of each pixel of each image, [H,W] with labels 0, 1, 2, ... ([D,H,W] of a volume).

    `grid:N` cuts each axis into N nearly equal parts, or into single pixels if it has fewer. `slic:N` gives about N superpixels of
    the image as the network gets it. A file holds a whole number for each pixel, of the photo or of the network's input: then each
    position takes the label of the photo's pixel at its centre.

    Raises:
        InputError: The file can't be read, or its labels fit no image.
        NotApplicableError: There are more than `MOST` segments.
        BackendNotInstalledError: scikit-image is missing for `slic`.
    """
    drawn, size, count = _DRAWN.fullmatch(written), forward.image_size, len(forward.x)
    if drawn is None:
        labels = _read(Path(written))
        return [_counted(name, _laid(written, labels, forward, i)) for i in range(count)]
    if drawn[1] == "slic":
        return [_counted(name, _superpixels(forward, i, int(drawn[2]))) for i in range(count)]
    number = int(drawn[2])
    cells = np.zeros(size, np.int64)
    for axis, side in enumerate(size):
        part = np.arange(side) * min(number, side) // side
        cells = cells * number + part.reshape([-1 if a == axis else 1 for a in range(len(size))])
    return [_counted(name, cells)] * count


def centres(labels: Index) -> NDArray[np.float64]:
    """The mean position of each segment's pixels, [segments,axes]."""
    places, counts = labels.ravel(), np.bincount(labels.ravel())
    axes = np.indices(labels.shape).reshape(labels.ndim, -1)
    return np.stack([np.bincount(places, axis) / counts for axis in axes], axis=1)


def _counted(name: str, labels: NDArray[np.generic]) -> Index:
    """The labels as 0, 1, 2, ..."""
    values, counted = np.unique(labels, return_inverse=True)
    if len(values) > MOST:
        raise NotApplicableError(f"{name}: the image has {len(values)} segments; at most {MOST} are possible")
    return np.asarray(counted.reshape(labels.shape), np.int64)


def _read(path: Path) -> NDArray[np.generic]:
    """The labels of a file that may be a stranger's: [h,w], or [d,h,w] of a volume.

    Raises:
        InputError: It can't be read, or does not hold a whole number for each pixel.
    """
    if is_npy(path):
        labels = read_image_array(path, MAX_PIXELS)
    else:
        pixels = read_values(path)
        labels = pixels[..., 0] if pixels.ndim == 3 else pixels
        if pixels.ndim == 3 and (pixels != pixels[..., :1]).any():  # a palette: each colour is a label
            labels = pixels.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1])
    if labels.dtype.kind not in "bui":
        raise ImageFileError(f"{path}: holds {labels.dtype}; labels of segments are whole numbers")
    return labels


def _laid(written: str, labels: NDArray[np.generic], forward: Forward, image: int) -> NDArray[np.generic]:
    """The labels of a photo's pixels, or of the network's input, at the positions of the input.

    Raises:
        ImageFileError: They have the size of neither.
    """
    photo = forward.sizes[image] if forward.sizes else None
    size = forward.image_size
    if len(size) == 2 and labels.shape == photo:
        seen = np.unique(labels[frame(*photo, forward.spec).slices], return_inverse=True)[1]
        shape = frame(*photo, forward.spec)
        numbers: Array = seen.reshape(shape.height, shape.width).astype(np.float32)
        shown = shown_in(*photo, forward.spec)
        whole = np.full(size, seen.max() + 1)  # a letterbox's border is a segment of its own
        whole[shown.slices] = resample.resize(numbers, shown.height, shown.width, interpolation="nearest")
        return whole
    if labels.shape != size:
        sizes = " or ".join(dict.fromkeys(" x ".join(map(str, one)) for one in (photo, size) if one is not None))
        raise ImageFileError(
            f"{written}: its labels have shape {' x '.join(map(str, labels.shape))}; image {image + 1} needs {sizes} "
            "(rows x columns)"
        )
    return labels


def _superpixels(forward: Forward, image: int, count: int) -> Index:
    spec = forward.spec
    planes = np.asarray(forward.channels_first(forward.x[image : image + 1])[0], np.float64)  # [C,H,W]
    black, white = (end.reshape(-1, *(1,) * (planes.ndim - 1)) for end in spec.preprocess.ends())
    pixels = np.clip((planes - black) / (white - black), 0, 1)
    if spec.preprocess.color == "BGR":
        pixels = pixels[::-1]
    return slic(np.moveaxis(pixels, 0, -1), count, spec.preprocess.color in ("RGB", "BGR") and len(pixels) == 3)
