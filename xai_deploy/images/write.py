"""Writing image files."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from ..errors import DtypeError, ImageFileError
from ..foundation.paths import described, path_of
from .module import opencv

Pixels = NDArray[np.uint8]


def write_image(path: str | os.PathLike[str], image: Pixels) -> None:
    """Write RGB [h,w,3] uint8 to a file whose ending gives the format.

    Raises:
        ImageFileError: The file can't be written.
        DtypeError: The image is something else.
        BackendNotInstalledError: OpenCV is missing.
    """
    file = path_of(path, "the image's file", ImageFileError)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else described(image)
        raise DtypeError(f"{file}: an image to write is an array, RGB [h,w,3] uint8; got {what}")
    try:
        file.write_bytes(encode_image(image, file.suffix))
    except OSError as error:
        raise ImageFileError(f"{path}: can't be written ({error.strerror})") from None


def encode_image(image: Pixels, suffix: str = ".png", quality: int | None = None, spent: bool = False) -> bytes:
    """RGB [h,w,3] uint8 as the bytes of an image file.

    Args:
        image: RGB [h,w,3] uint8.
        suffix: The ending of the file's name; it gives the format.
        quality: Of JPEG and WebP, 1 to 100; None is OpenCV's own choice: 95, and WebP without loss.
        spent: Nobody needs the array any more: its colours are exchanged in place, which saves a copy.

    Raises:
        ImageFileError: The format does not exist, or the image is too large for it.
        BackendNotInstalledError: OpenCV is missing.
    """
    cv2 = opencv()
    try:
        keys = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".webp": cv2.IMWRITE_WEBP_QUALITY}
        how = [keys[suffix], quality] if quality is not None and suffix in keys else []
        encoded, data = cv2.imencode(suffix, _as_bgr(image, spent), how)
    except cv2.error:
        encoded = False
    if not encoded:
        raise ImageFileError(f"an image of {image.shape[1]} x {image.shape[0]} pixels can't be encoded as {suffix!r}")
    contents: bytes = data.tobytes()
    return contents


def _as_bgr(image: Pixels, spent: bool) -> Pixels:
    """The order of colours that OpenCV takes."""
    if not (spent and image.flags.writeable and image.flags.c_contiguous):
        return np.ascontiguousarray(image[:, :, ::-1])
    red = image[:, :, 0].copy()
    image[:, :, 0] = image[:, :, 2]
    image[:, :, 2] = red
    return image
