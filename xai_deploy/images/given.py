"""Images as users have them: paths, PIL images, tensors and arrays -> one array. Neither PIL nor torch is imported.

A file, and a PIL image of that file, give the same pixels: upright, RGB, 16 bits scaled to 8, transparency ignored with a warning.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DtypeError, ImageFileError, ShapeError
from .npy import channels_last, is_npy, read_image_array
from .read import MAX_PIXELS, read_image, read_values, upright
from .scale import to_8_bits
from .transparency import warn_of_transparency


class HasArray(Protocol):
    """What numpy can turn into an array: tensors of torch, JAX and TensorFlow."""

    def __array__(self) -> NDArray[Any]:
        """The values."""
        ...


class HasPixels(Protocol):
    """What hands numpy its memory: PIL images."""

    @property
    def __array_interface__(self) -> Any:
        """See NumPy's array interface."""


Image: TypeAlias = NDArray[np.generic] | str | os.PathLike[str] | HasArray | HasPixels

_EXIF_ORIENTATION = 0x0112
_CHANNELS = (1, 3, 4)
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # PIL's modes of 16 bits
_CONVERTED = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV")


def is_single(given: object) -> bool:
    """Whether this is one image, of whose form the number of its axes says nothing: a path or a PIL image."""
    return isinstance(given, (str, os.PathLike)) or _is_a(given, "PIL.Image", "Image")


def as_array(given: object) -> NDArray[np.generic]:
    """An array or a tensor -> an array of the same values; uint8 tensors [3,h,w] become [h,w,3], also in a batch.

    Raises:
        DtypeError: It is neither, or holds values that numpy does not have.
        ShapeError: A uint8 tensor could be [3,h,w] as well as [h,w,3].
    """
    if isinstance(given, np.ndarray):
        return given
    if _is_a(given, "torch", "Tensor"):
        return _from_torch(given)
    try:
        array: NDArray[np.generic] = np.asarray(given)
    except Exception:  # nested lists of uneven lengths, or an object's own refusal
        array = np.empty(0, object)
    if array.dtype.kind not in "buif":
        raise DtypeError(f"images are arrays, paths, PIL images or tensors; this is a {type(given).__name__}")
    return array


def read_given(
    given: object, channels: int | None = None, keep: bool = False, max_pixels: int = MAX_PIXELS
) -> NDArray[np.generic]:
    """One image in any form -> its array: uint8 [h,w], [h,w,1] or [h,w,3], upright; or floats as they are.

    Args:
        given: A path, read as by `read_image`, or a `.npy` file with an array; a PIL image; an array or a tensor. The alpha channel
            of uint8 [h,w,4] is ignored, with a warning if a pixel is transparent.
        channels: How many channels the image has if they are no colours: then [h,w,channels], and no channel is left out.
        keep: Keep values of more than 8 bits as they are, instead of scaling them to 8 bits.
        max_pixels: As for `read_image`.

    Raises:
        InputError: It can't be read, or is none of these.
    """
    name = "an array"
    if isinstance(given, (str, os.PathLike)):
        if not is_npy(Path(given)):
            return read_values(given, max_pixels) if keep else read_image(given, max_pixels)
        name, given = str(given), read_image_array(Path(given), max_pixels)
        if channels is None:
            given = channels_last(given, _CHANNELS, name)
    elif is_single(given):
        return _from_pil(given, keep)
    array = as_array(given)
    if channels is not None:
        return channels_last(array, (channels,), name)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] == 4 and array.size:
        warn_of_transparency(array[..., 3], 255, "an image")
        array = array[..., :3]
    return array


def _is_a(given: object, module: str, name: str) -> bool:
    """Whether an object is of a class, or of one derived from it; the class's module is not imported for that."""
    return any((cls.__module__, cls.__name__) == (module, name) for cls in type(given).__mro__)


def _from_torch(tensor: Any) -> NDArray[np.generic]:
    try:
        values = tensor.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # numpy has no such type; float32 holds all its values
            values = values.float()
        array: NDArray[np.generic] = values.numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # sparse, quantised, without memory
        reason = str(error).partition("\n")[0]
        raise DtypeError(f"a tensor of {tensor.dtype} can't become an array ({reason})") from None
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        return array
    first, last = array.shape[-3] in _CHANNELS, array.shape[-1] in _CHANNELS
    if first and last:
        raise ShapeError(
            f"a tensor of shape {array.shape} could have its channels first or last; give an array [h,w,3] instead"
        )
    return np.moveaxis(array, -3, -1) if first else array


def _from_pil(image: Any, keep: bool) -> NDArray[np.generic]:
    name = str(getattr(image, "filename", "") or "an image")
    try:
        image.load()  # a TIFF is turned upright here; PIL then forgets its orientation
        turned = image.getexif().get(_EXIF_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageFileError(f"{name}: the image is truncated or damaged ({error})") from None
    if keep and image.mode in (*_DEEP, "I", "F"):
        pixels: NDArray[Any] = np.asarray(image)
    elif image.mode in _DEEP:
        pixels = to_8_bits(np.asarray(image).astype(np.uint16), None, name)
    elif image.mode == "CMYK":
        pixels = _from_cmyk(np.asarray(image))
    elif image.mode in _CONVERTED:
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            warn_of_transparency(np.asarray(image.convert("RGBA"))[..., 3], 255, name)
        if image.mode in ("La", "RGBa"):  # colours that were multiplied by the transparency
            image = image.convert("RGBA")
        pixels = np.asarray(image.convert("RGB"))
    else:
        raise DtypeError(
            f"{name}: a PIL image of mode {image.mode!r} does not tell what is black and what is white; convert it to RGB"
        )
    return np.ascontiguousarray(upright(pixels, turned if turned in range(1, 9) else 1))


def _from_cmyk(cmyk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[h,w,4] -> RGB [h,w,3] as OpenCV does: with c, m, y as ink, white' = 255 - k, r = white' - floor(c white' / 256)."""
    ink, white = cmyk[..., :3].astype(np.uint16), 255 - cmyk[..., 3:].astype(np.uint16)
    return np.asarray(white - (ink * white >> 8), np.uint8)
