"""Reads image files: their bytes, then the pixels as RGB."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageFileError, ImageTooLargeError, OptionError
from ..foundation.mistaken import ORDER, is_bundle, is_url
from ..foundation.paths import path_of, short
from . import archive
from .module import opencv
from .scale import InputRange, checked, to_8_bits
from .write import Pixels

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels (300 MB as RGB), unless the caller asks otherwise."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif"})
"""The usual endings of the names of readable files. `read_image` looks at the contents alone."""

_BLOCK = 1 << 17  # bytes whose colours are turned round at a time; for more than 65,536 pixels OpenCV takes its threads


class InMemory(os.PathLike[str]):
    """An image file whose bytes are in memory; it stands for its path in `read_image`, `read_values` and `read_pixels`.

    Attributes:
        data: The bytes.
        name: What messages call it.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name

    def __fspath__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


def read_image(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, input_range: InputRange | None = None
) -> Pixels:
    """Read a PNG, JPEG, BMP, WebP, GIF, TIFF or AVIF file. If it holds several frames or pages, the first one is read.

    Transparent pixels keep the colour that the file has below the transparency, as PIL's `convert("RGB")` does in most
    training code, and a warning is logged. In GIF and TIFF, OpenCV loses that colour: a picture with transparent
    pixels is refused.

    Values of 16 bits are scaled: pixel = round(value * 255 / 65535). If all of them are below 32,768, a warning names their
    range. Signed values, 32-bit values and floats need an input range. Corruption in the middle of a JPEG is not noticed (see the
    package's docstring).

    Args:
        path: The file.
        max_pixels: An image whose header announces more pixels is refused.
        input_range: The values that become black (0) and white (255) in images deeper than 8 bits, (0, 4095) for a
            camera of 12 bits; values outside are clipped. Images of 8 bits stay as they are.

    Returns:
        RGB [h,w,3] uint8, turned upright as EXIF says.

    Raises:
        ImageFileError: The file is missing, incomplete, of another format, or holds values or a transparency that are not read.
        ImageTooLargeError: The image has more pixels than `max_pixels`.
        BackendNotInstalledError: OpenCV is missing, or older than 4.11.
        OptionError: `input_range` is not two finite numbers, the lower one first, or `max_pixels` is no number.
    """
    span = checked(input_range) if input_range is not None else None
    return _rgb(_values(path, max_pixels, deep=span is not None), span, path)


def read_values(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """As `read_image`, but values of more than 8 bits keep their type: RGB [h,w,3], or grey [h,w] of files without colours.

    Raises:
        ImageFileError, ImageTooLargeError, BackendNotInstalledError: As for `read_image`.
    """
    values = _values(path, max_pixels, deep=True)
    if values.dtype == np.uint8:
        return _rgb(values, None, path)
    return values if values.ndim == 2 else np.ascontiguousarray(values[:, :, 2::-1])  # BGR or BGRA -> RGB


def _values(path: str | os.PathLike[str], max_pixels: int, deep: bool) -> NDArray[Any]:
    """The pixels of a file as OpenCV gives them, upright; with `deep` also values that have no fixed black and white."""
    from .decoding import decoded  # late: a process that explains arrays decodes no file

    opencv()  # what is missing is said before the file is read
    if type(max_pixels) is not int or max_pixels < 1:
        raise OptionError(f"max_pixels is a whole number, 1 or more, not {short(max_pixels)}")
    data = path.data if isinstance(path, InMemory) else contents(path_of(path, "an image", ImageFileError))
    image, orientation = decoded(data, max_pixels, deep, path)
    return upright(image, orientation)


def contents(path: Path) -> bytes:
    """The bytes of an image file, which may lie in an archive.

    Raises:
        ImageFileError: There is no such file, or it can't be read.
        ImageTooLargeError: It is larger than `archive.FILE_LIMIT`.
    """
    try:
        if (inside := archive.split(path)) is not None:
            return archive.opened(inside[0]).read(inside[1])
        if (problem := is_url(path)) is not None:
            raise ImageFileError(problem)
        if is_bundle(path):
            raise ImageFileError(f"{path}: is a bundle, not an image; {ORDER}")
        if not path.is_file():
            raise ImageFileError(f"{path}: " + ("not a plain file" if path.exists() else "no such file"))
        if path.stat().st_size > archive.FILE_LIMIT:
            raise ImageTooLargeError(f"{path}: the file is larger than {archive.FILE_LIMIT >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise ImageFileError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError:  # a NUL in the name
        raise ImageFileError(f"{str(path)!r}: no such file") from None
    if not data:
        raise ImageFileError(f"{path}: is empty; copy or download it again")
    return data


def upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A picture [h,w,...] upright, by EXIF's orientation: 2 mirrored, 3 turned by 180 degrees, 4 upside down, 5 to 8 transposed."""
    if orientation > 4:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image[:, ::-1] if orientation in (2, 3, 6, 7) else image


def _rgb(image: NDArray[Any], span: InputRange | None, path: object) -> Pixels:
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.dtype != np.uint8:
        image = to_8_bits(image, span, str(path))
    if not (image.flags.c_contiguous and image.flags.writeable and image.shape[2] == 3):
        rgb: Pixels = np.ascontiguousarray(image[:, :, 2::-1])  # BGR or BGRA -> RGB
        return rgb
    cv2, rows = opencv(), max(_BLOCK // image[:1].size, 1)
    for first in range(0, len(image), rows):  # in place: no second picture is held
        part = image[first : first + rows]
        part[...] = cv2.cvtColor(part, cv2.COLOR_BGR2RGB)
    return image
