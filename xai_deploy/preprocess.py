"""Images -> the network's input tensor, as the manifest says; and the part of an image that the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast, overload

import numpy as np
from numpy.typing import NDArray

from . import resample
from .errors import DtypeError, NonFiniteInputError, ShapeError
from .format.bundle import Input
from .images.given import Image, as_array, is_single, read_given

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Inputs of the network, taken as they are.

    Attributes:
        x: [n, ...] in the network's own layout and dtype.
    """

    x: NDArray[Any]


Images = Image | Sequence[Image] | Prepared

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as PIL and OpenCV


@overload
def as_list(images: NDArray[np.generic] | Sequence[NDArray[np.generic]]) -> list[NDArray[np.generic]]: ...


@overload
def as_list(images: Images) -> Sequence[Image | Prepared]: ...


def as_list(images: Images) -> Sequence[Image | Prepared]:
    """One or many images -> a list of single ones: paths and PIL images as they are, read when they are prepared, and arrays.

    An array is uint8 [h,w], [h,w,1], [h,w,3] or [h,w,4] (RGBA), or float with the network's shape, and one axis more is a batch. An
    array [a,b,c] is never taken as a batch of grey images, which are given as a list or as [n,h,w,1].

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
    if not isinstance(images, Sequence):
        array = as_array(images)
        pixels = array.dtype.kind != "f"
        if array.ndim not in ((2, 3, 4) if pixels else (3, 4)):
            raise ShapeError(f"an array of shape {array.shape} is neither an image nor a batch of images")
        if pixels and array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
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
            network's own layout (`spec.image_shape`), taken as already preprocessed.
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
    image = read_given(image)
    if image.dtype == np.uint8:
        return _from_pixels(image, spec)
    if image.dtype.kind != "f":
        raise DtypeError(f"images are uint8 pixels or preprocessed floats, not {image.dtype}")
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
    """The (height, width) that a photo of height x width is resized to, and the (top, left) corner of the crop from that."""
    side = spec.preprocess.resize
    if side == "stretch":
        return (spec.height, spec.width), (0, 0)
    size = _shorter_to(height, width, side)
    return size, _crop_corner(*size, spec)


def crop_box(height: int, width: int, spec: Input) -> tuple[float, float, float, float]:
    """The part of an image of height x width that reaches the network: (top, left, height, width) in its own pixels."""
    (resized_height, resized_width), (top, left) = resized(height, width, spec)
    down, across = height / resized_height, width / resized_width  # the image's pixels per resized pixel
    return top * down, left * across, spec.height * down, spec.width * across


def frame(height: int, width: int, spec: Input) -> Frame:
    """`crop_box` in whole pixels of the photo: at least 1 x 1, and inside the photo."""
    top, left, rows, columns = (round(v) for v in crop_box(height, width, spec))
    top, left = min(top, height - 1), min(left, width - 1)
    return Frame(top, left, min(max(rows, 1), height - top), min(max(columns, 1), width - left))


def view(image: Image | Prepared, spec: Input) -> Pixels:
    """The part of an image that reaches the network, at the image's own resolution: RGB [h,w,3]. See `as_photo`."""
    pixels = as_photo(image)
    return np.ascontiguousarray(pixels[frame(pixels.shape[0], pixels.shape[1], spec).slices])


def as_photo(image: Image | Prepared) -> Pixels:
    """An image in any form of `prepare`, but not preprocessed floats, as RGB [h,w,3] uint8.

    Raises:
        InputError: It is not one of these, or can't be read.
    """
    if isinstance(image, Prepared):
        raise DtypeError("an overlay needs the images themselves, not what was prepared from them")
    return _as_rgb(read_given(image))


def _from_pixels(image: NDArray[np.generic], spec: Input) -> NDArray[Any]:
    pixels = _as_rgb(image)
    height, width = pixels.shape[:2]
    how = spec.preprocess
    size, corner = resized(height, width, spec)
    part = (*corner, spec.height, spec.width)  # only the crop is resampled
    planes = resample.resize(
        np.moveaxis(pixels, -1, 0), *size, interpolation=how.interpolation, antialias=how.antialias, part=part
    )
    if size != (height, width):
        planes = np.clip(np.rint(planes), 0, 255)  # reference pipelines resize 8-bit images to 8-bit images
    if how.color == "BGR":
        planes = planes[::-1]
    elif how.color == "GRAY":
        planes = np.rint(np.tensordot(_LUMA, planes, 1))[None]
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
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or 0 in image.shape:
        raise ShapeError(f"an image has shape [h,w,3] (RGB) or [h,w] (grey), not {image.shape}")
    rgb: Pixels = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.uint8, copy=False)
    return rgb


def _shorter_to(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) with the shorter one equal to `side`. The longer one is truncated to whole pixels, as torchvision does."""
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def _crop_corner(height: int, width: int, spec: Input) -> tuple[int, int]:
    """The (top, left) corner of the centre crop, rounded as torchvision does."""
    return round((height - spec.height) / 2.0), round((width - spec.width) / 2.0)
