"""Images -> the network's input tensor, as the manifest says; and the part of an image that the network sees."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast, overload

import numpy as np
from numpy.typing import NDArray

from . import resample, volumes
from .errors import DtypeError, NonFiniteInputError, ShapeError
from .format.bundle import Input
from .format.image_input import BORDER
from .images.given import Image, as_array, is_single, read_given
from .images.npy import channels_last, is_npy
from .images.read import MAX_PIXELS, read_image
from .images.scale import InputRange, to_8_bits
from .images.shown import stretched

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Inputs of the network, taken as they are.

    Attributes:
        x: [n, ...] in the network's own layout and dtype.
        beside: Its further inputs by name, [n, ...] each.
    """

    x: NDArray[Any]
    beside: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def rows(self, index: Any) -> Prepared:
        """Some of them."""
        return Prepared(self.x[index], {name: value[index] for name, value in self.beside.items()})

    @classmethod
    def join(cls, parts: Sequence[Prepared]) -> Prepared:
        """Several of one network, one after the other."""
        names = parts[0].beside
        beside = {name: np.concatenate([part.beside[name] for part in parts]) for name in names}
        return cls(np.concatenate([part.x for part in parts]), beside)


Images = Image | Sequence[Image] | Prepared

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as PIL and OpenCV


@overload
def as_list(
    images: NDArray[np.generic] | Sequence[NDArray[np.generic]], spec: Input | None = None
) -> list[NDArray[np.generic]]: ...


@overload
def as_list(images: Images, spec: Input | None = None) -> Sequence[Image | Prepared]: ...


def as_list(images: Images, spec: Input | None = None) -> Sequence[Image | Prepared]:
    """One or many images -> a list of single ones: paths and PIL images as they are, read when they are prepared, and arrays.

    An array is uint8 [h,w], [h,w,1], [h,w,3] or [h,w,4] (RGBA), or float with the network's shape, and one axis more is a batch. An
    array [a,b,c] is never taken as a batch of grey images, which are given as a list or as [n,h,w,1]. For networks of volumes see
    `volumes.as_volumes`.

    Args:
        images: As for `Explainer.explain`.
        spec: The manifest's input; None: that of photos.

    Raises:
        ShapeError: No image was given, or an array does not have the rank or the channels of an image.
        DtypeError: Something is no image.
    """
    if isinstance(images, Prepared):
        return [Prepared(row) for row in images.x]
    if is_single(images):
        return [cast(Image, images)]
    if isinstance(images, bytes) or not (isinstance(images, (list, tuple)) or hasattr(images, "__len__")):
        raise DtypeError(
            "images are arrays, paths, PIL images or tensors, one or many; xai_deploy.read_image reads a file"
        )
    if not isinstance(images, Sequence) and spec is not None and spec.depth is not None:
        images = volumes.as_volumes(as_array(images))
    if not isinstance(images, Sequence):
        array = as_array(images)
        free = spec is not None and (spec.preprocess.range is not None or _channels(spec) is not None)
        pixels = free or array.dtype.kind != "f"
        if array.ndim not in ((2, 3, 4) if pixels else (3, 4)):
            raise ShapeError(f"an array of shape {array.shape} is neither an image nor a batch of images")
        if pixels and not free and array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
            raise ShapeError(
                f"an image has shape [h,w,3] (RGB) or [h,w] (grey), not {array.shape}; "
                "give several grey images as a list"
            )
        images = list(array) if array.ndim == 4 else [array]
    if len(images) == 0:
        raise ShapeError("no image was given")
    return [image if is_single(image) else as_array(image) for image in images]


def prepare(image: Image | Prepared, spec: Input) -> NDArray[Any]:
    """One image -> one input of the network.

    Args:
        image: A path, a PIL image, or uint8 RGB [h,w,3] (or RGBA [h,w,4], or grey [h,w], [h,w,1]) of any size; or floats in the
            network's own layout (`spec.image_shape`), taken as already preprocessed. If the manifest states a range, numbers of any
            type [h,w,C] or [C,h,w] of any size are pixels. Volumes are arrays [D,h,w] or [D,h,w,C] with as many slices as the
            network takes; see `volumes`.
        spec: The manifest's input.

    Returns:
        Array of `spec.image_shape` and `spec.dtype`.

    Raises:
        InputError: The image is not one of the above, or can't be read.
    """
    if isinstance(image, Prepared):
        if (image.x.shape, image.x.dtype) != (spec.image_shape, np.dtype(spec.dtype)):
            raise ShapeError(
                f"a prepared image is {spec.dtype} {spec.image_shape}, not {image.x.dtype} {image.x.shape}; "
                "prepare it for this network"
            )
        return image.x
    image = read_for(image, spec)
    if spec.depth is not None and not volumes.is_preprocessed(image, spec):
        return volumes.stacked([prepare(one, spec.slice) for one in image], spec)
    if image.dtype == np.uint8:
        return _from_pixels(image, spec)
    if spec.preprocess.range is not None:
        return _from_pixels(_in_pixels(image, spec), spec, rounds=False)
    if image.dtype.kind != "f":
        raise DtypeError(
            f"images are uint8 pixels or preprocessed floats, not {image.dtype}; a network exported with --input-range LOW,HIGH "
            "takes values of any type"
        )
    if image.shape != spec.image_shape:
        raise ShapeError(
            f"a preprocessed image for this network has shape {spec.image_shape} ({spec.layout[1:]}), not {image.shape}"
        )
    if spec.dtype == "uint8":
        raise DtypeError("this network takes uint8 pixels; give uint8 images, not floats")
    with np.errstate(over="ignore"):  # a value that overflows a smaller type becomes infinite, and is refused below
        image = np.asarray(image, dtype=spec.dtype)
    if not (np.isfinite(image.min()) and np.isfinite(image.max())):  # NumPy's min and max pass NaN on
        raise NonFiniteInputError("the input holds NaN or infinity")
    return image


class Frame(NamedTuple):
    """The part of a photo that reaches the network, in whole pixels of the photo."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and its columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def resized(height: int, width: int, spec: Input) -> tuple[tuple[int, int], tuple[int, int]]:
    """The (height, width) that a photo of height x width is resized to, and the (top, left) corner of the crop from that.

    In a letterbox the corner is negative: so many pixels of border lie before the photo.
    """
    side = spec.preprocess.resize
    if side == "stretch":
        return (spec.height, spec.width), (0, 0)
    if side == "letterbox":
        return _boxed(height, width, spec)
    size = side if isinstance(side, tuple) else _shorter_to(height, width, side)
    return size, _crop_corner(*size, spec)


def crop_box(height: int, width: int, spec: Input) -> tuple[float, float, float, float]:
    """The part of an image of height x width that reaches the network: (top, left, height, width) in its own pixels."""
    (resized_height, resized_width), (top, left) = resized(height, width, spec)
    down, across = height / resized_height, width / resized_width  # the image's pixels per resized pixel
    return top * down, left * across, spec.height * down, spec.width * across


def frame(height: int, width: int, spec: Input) -> Frame:
    """`crop_box` in whole pixels of the photo: at least 1 x 1, and inside the photo."""
    if not spec.preprocess.crops:
        return Frame(0, 0, height, width)
    top, left, rows, columns = (round(v) for v in crop_box(height, width, spec))
    top, left = min(top, height - 1), min(left, width - 1)
    return Frame(top, left, min(max(rows, 1), height - top), min(max(columns, 1), width - left))


def view(image: Image | Prepared, spec: Input) -> Pixels:
    """The part of an image that reaches the network, at the image's own resolution: RGB [h,w,3]. See `as_photo`."""
    pixels = as_photo(image, spec)
    return np.ascontiguousarray(pixels[frame(pixels.shape[0], pixels.shape[1], spec).slices])


def as_photo(image: Image | Prepared, spec: Input) -> Pixels:
    """An image in any form of `prepare`, but not preprocessed floats, as RGB [h,w,3] uint8.

    What is no photo (more than 8 bits, floats, channels that are no colours) is shown by three channels; see `stretched`. Of a
    volume a grid of slices is shown, of each the part that reaches the network; see `volumes.shown`.

    Raises:
        InputError: It is not one of these, or can't be read.
    """
    if isinstance(image, Prepared):
        raise DtypeError("an overlay needs the images themselves, not what was prepared from them")
    pixels = read_for(image, spec)
    if spec.depth is not None:
        return _slices_shown(pixels, spec)
    if _channels(spec) is None and (pixels.dtype == np.uint8 or spec.preprocess.range is None):
        return _as_rgb(pixels)
    if pixels.dtype != np.uint8:
        pixels = _in_pixels(pixels, spec)  # refuses NaN, too
    return stretched(_planes(pixels, spec), spec.preprocess.shown)


def _slices_shown(array: NDArray[np.generic], spec: Input) -> Pixels:
    """Slices of a volume as one picture; they are concatenated first, so that values are stretched alike in all of them."""
    if volumes.is_preprocessed(array, spec):
        tiles = np.moveaxis(array, spec.channel_axis - 1, -1)[volumes.shown(spec.size[0])]
        colors = (2, 1, 0) if spec.preprocess.color == "BGR" else None
        photo = stretched(np.concatenate(tiles), spec.preprocess.shown or colors)
        return np.asarray(volumes.mosaic(photo.reshape(*tiles.shape[:3], 3)))
    tiles = array[volumes.shown(len(array))]
    photo = as_photo(np.concatenate(tiles), spec.slice)
    seen = frame(tiles.shape[1], tiles.shape[2], spec)
    return np.asarray(volumes.mosaic(photo.reshape(*tiles.shape[:3], 3)[(slice(None), *seen.slices)]))


def frame_of(image: NDArray[np.generic], spec: Input) -> Frame:
    """`frame` of what `read_for` gives: of an image, or of each slice of a volume."""
    size = volumes.photo_size(image, spec)
    return Frame(0, 0, spec.height, spec.width) if size is None else frame(*size, spec)


def read_for(image: Image, spec: Input, max_pixels: int = MAX_PIXELS) -> NDArray[np.generic]:
    """An image in any form as the array that a network's preprocessing takes; see `read_given`."""
    if spec.depth is not None:
        return volumes.read(image, spec, max_pixels)
    keep, channels = spec.preprocess.range is not None, _channels(spec)
    array = read_given(image, channels, keep, max_pixels)
    if keep and channels is None and array.dtype != np.uint8:
        array = channels_last(array, (1, 3))
    return array


def read_pixels(
    path: str | os.PathLike[str], spec: Input, max_pixels: int = MAX_PIXELS, input_range: InputRange | None = None
) -> NDArray[np.generic]:
    """A file as the array that a network's preprocessing takes: pixels, never preprocessed floats.

    Args:
        path: An image file, or a `.npy` file with an array [h,w], [h,w,C] or [C,h,w]; for networks of volumes with [D,h,w],
            [D,h,w,C], or preprocessed floats of the network's own shape.
        spec: The manifest's input.
        max_pixels: See `read_image`.
        input_range: The values that become black and white; None: those that the manifest states.

    Raises:
        InputError: It can't be read, or holds values of which nobody says what is black and white.
    """
    array = is_npy(Path(path)) or spec.depth is not None
    if not array and (input_range is not None or spec.preprocess.range is None) and _channels(spec) is None:
        return read_image(path, max_pixels, input_range)
    pixels = read_for(path, spec, max_pixels)
    if pixels.dtype == np.uint8:
        return pixels
    if input_range is not None:
        return to_8_bits(pixels, input_range, str(path))
    if spec.preprocess.range is None and not volumes.is_preprocessed(pixels, spec):
        raise DtypeError(
            f"{path}: holds {pixels.dtype}, and nobody says which values are black and white; give --input-range LOW,HIGH, or "
            "state it at export (xai-export --input-range)"
        )
    return pixels


def _channels(spec: Input) -> int | None:
    """How many channels an image has that are no colours; None for colours and grey."""
    return spec.channels if spec.preprocess.color == "CHANNELS" else None


def _in_pixels(values: NDArray[np.generic], spec: Input) -> NDArray[np.float32]:
    """Values of the stated range as pixels, of which 0 is black and 255 white: 255 (v - low) / (high - low), the same shape.

    Raises:
        DtypeError: They are no real numbers.
        NonFiniteInputError: A value is NaN or infinity.
    """
    assert spec.preprocess.range is not None
    if values.dtype.kind not in "buif":
        raise DtypeError(f"an image holds real numbers, not {values.dtype}")
    low, high = spec.preprocess.range
    pixels = np.empty(values.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for row, source in zip(pixels, values, strict=True):  # in float64, row by row: the memory is that of the result
            row[...] = (source.astype(np.float64) - low) * (255 / (high - low))
    if not (np.isfinite(pixels.min(initial=0)) and np.isfinite(pixels.max(initial=0))):
        raise NonFiniteInputError("the image holds NaN or infinity")
    return pixels


def _planes(image: NDArray[np.generic], spec: Input) -> NDArray[np.generic]:
    """An image's pixels [h,w,C]: RGB, or the channels of a network whose channels are no colours.

    Raises:
        ShapeError: It has other channels.
    """
    channels = _channels(spec)
    if channels is None:
        return _as_rgb(image) if image.dtype == np.uint8 else _three(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[-1] != channels or 0 in image.shape:
        raise ShapeError(
            f"an image for this network has {channels} channels, [h,w,{channels}], not {image.shape}; give it as an array or a "
            ".npy file"
        )
    return image


def _from_pixels(image: NDArray[np.generic], spec: Input, rounds: bool = True) -> NDArray[Any]:
    """One input of the network from pixels [h,w,C]; `rounds`: they are whole numbers, and stay so when they are resized."""
    pixels = _planes(image, spec)
    height, width = pixels.shape[:2]
    how = spec.preprocess
    size, corner = resized(height, width, spec)
    boxed = how.resize == "letterbox"
    part = (0, 0, *size) if boxed else (*corner, spec.height, spec.width)  # only the crop is resampled
    planes = resample.resize(
        np.moveaxis(pixels, -1, 0), *size, interpolation=how.interpolation, antialias=how.antialias, part=part
    )
    if size != (height, width) and rounds:
        planes = np.clip(np.rint(planes), 0, 255)  # reference pipelines resize 8-bit images to 8-bit images
    if boxed:
        before = [-first for first in corner]
        after = [side - own - first for side, own, first in zip((spec.height, spec.width), size, before, strict=True)]
        planes = np.pad(planes, ((0, 0), *zip(before, after, strict=True)), constant_values=BORDER)
    if how.color == "BGR":
        planes = planes[::-1]
    elif how.color == "GRAY":
        grey = np.tensordot(_LUMA, planes, 1)[None]
        planes = np.rint(grey) if rounds else grey
    if planes.shape[0] != spec.channels:
        raise ShapeError(f"the network takes {spec.channels} channels, a {how.color} image has {planes.shape[0]}")
    planes = how.normalise(planes)
    if spec.dtype == "uint8":
        planes = np.clip(np.rint(planes), 0, 255)
    # `channel_axis` counts the batch, hence the axis that is added and taken off again.
    return np.ascontiguousarray(np.moveaxis(planes[None], 1, spec.channel_axis)[0], dtype=spec.dtype)


def _as_rgb(image: NDArray[np.generic]) -> Pixels:
    if image.dtype != np.uint8:
        raise DtypeError(f"an image has uint8 pixels, not {image.dtype}")
    rgb: Pixels = _three(image).astype(np.uint8, copy=False)
    return rgb


def _three(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """Colours [h,w,3] of an image, or its grey three times."""
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or 0 in image.shape:
        raise ShapeError(f"an image has shape [h,w,3] (RGB) or [h,w] (grey), not {image.shape}")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _shorter_to(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) with the shorter one equal to `side`. The longer one is truncated to whole pixels, as torchvision does."""
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def _boxed(height: int, width: int, spec: Input) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size of a letterbox's photo, and the corner of the input in its pixels; rounded as Ultralytics' LetterBox does."""
    ratio = min(spec.height / height, spec.width / width)
    size = max(round(height * ratio), 1), max(round(width * ratio), 1)
    top, left = (round((side - own) / 2 - 0.1) for side, own in zip((spec.height, spec.width), size, strict=True))
    return size, (-top, -left)


def _crop_corner(height: int, width: int, spec: Input) -> tuple[int, int]:
    """The (top, left) corner of the centre crop, rounded as torchvision does."""
    return round((height - spec.height) / 2.0), round((width - spec.width) / 2.0)
