"""Sample pictures of the page: read by the runtime's own reader, made small, and written again without their metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xai_deploy import resample
from xai_deploy.errors import XaiError
from xai_deploy.images import SUFFIXES, Pixels, encode_image, read_image

from ...errors import RequestError

LONGEST = 1024  # pixels of a sample's longer side
THUMBNAIL = 160
MOST = 24  # samples

_LOSSLESS = frozenset({".png", ".bmp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class Sample:
    """A picture that the page offers.

    Attributes:
        name: What the page calls it: the file's name without its ending.
        picture: The file's contents, RGB.
        thumbnail: The same, smaller, a JPEG.
        suffix: ".png" or ".jpg".
    """

    name: str
    picture: bytes
    thumbnail: bytes
    suffix: str


def read_samples(folder: Path | None) -> list[Sample]:
    """The pictures of a folder, in the order of their names; what has no ending of a picture is left out.

    Pictures are encoded again, so that the place and the time of a photograph (EXIF) stay where they are. A picture that is
    not resized and comes from a lossless format becomes a PNG with the same pixels, any other one a JPEG.

    Raises:
        RequestError: There is no such folder, no picture or too many in it, or one that can't be read.
    """
    if folder is None:
        return []
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except OSError as error:
        raise RequestError(f"--web-samples {folder}: can't be read as a folder ({error.strerror})") from None
    if not files:
        raise RequestError(f"--web-samples {folder}: holds no picture")
    if len(files) > MOST:
        raise RequestError(f"--web-samples {folder}: holds {len(files)} pictures; the page offers at most {MOST}")
    try:
        return [_sample(file, number) for number, file in enumerate(files, 1)]
    except XaiError as error:
        raise RequestError(f"--web-samples: {error}") from None


def _sample(file: Path, number: int) -> Sample:
    image = read_image(file)
    small = shrunk(image, LONGEST)
    suffix = ".png" if small is image and file.suffix.lower() in _LOSSLESS else ".jpg"
    name = file.stem if file.stem.isprintable() else f"picture {number}"  # a name may hold bytes that are no text
    return Sample(name, encode_image(small, suffix), encode_image(shrunk(image, THUMBNAIL), ".jpg"), suffix)


def shrunk(image: Pixels, longest: int) -> Pixels:
    """RGB [h,w,3] with no side longer than `longest` pixels; an image that is small enough is returned itself."""
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    planes = resample.resize(np.moveaxis(image, -1, 0), height, width, antialias=True)
    return np.ascontiguousarray(np.moveaxis(np.clip(np.rint(planes), 0, 255).astype(np.uint8), 0, -1))
