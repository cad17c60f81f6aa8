"""Masks of objects: a folder of PNG files with the images' names and sizes, in the same subfolders as the images.

Any pixel with a channel above 0 is the object; transparency is ignored. A palette PNG, such as Pascal VOC's, is read through
its palette: black is the background, and VOC's cream border (255) counts as the object. With `value`, which needs a grey
PNG of 8 bits, the pixels of that value are the object.

Masks of volumes are `.npy` files [D,h,w]: what is not 0 is the object, and the numbers are classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import OptionError, TruthError
from ...images import MAX_PIXELS, is_archive, read_image
from ...images.archive import archives, opened, split
from ...images.npy import SUFFIX, read_image_array
from ...images.read import contents
from .matching import Matcher
from .reading import check_size, files_in

_PNG = ".png"
_GREY, _GREY_ALPHA = 0, 4  # colour types of a PNG header


class Masks:
    """The masks of all images that have one.

    Attributes:
        path: Their folder.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[tuple[str, Path]],
        root: Path,
        value: int | None,
        apart: Iterable[Path] = (),
        volumes: bool = False,
    ) -> None:
        self.path = path
        self._value, self._volumes = value, volumes
        self._files = dict(files)
        if len(self._files) < len(files):
            lower, upper = self.ending, self.ending.upper()
            raise TruthError(f"{path}: a mask exists twice, as {lower} and as {upper}; remove one")
        self._matcher = Matcher(self._files, root, True, path, apart, volumes)

    @property
    def source(self) -> str:
        """What they are: "PNG masks", or ".npy masks" of volumes."""
        return ".npy masks" if self._volumes else "PNG masks"

    @property
    def ending(self) -> str:
        """The ending of their files."""
        return SUFFIX if self._volumes else _PNG

    @property
    def files(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(self._files.values())

    def __len__(self) -> int:
        """Number of masks."""
        return len(self._files)

    def has(self, image: Path) -> bool:
        """Whether an image has a mask; neither file is opened."""
        return self._matcher.find(image) is not None

    def of(self, image: Path, *size: int) -> NDArray[np.bool_] | None:
        """The object's pixels [height,width] of one image; None if it has no mask.

        Args:
            image: The image's path, inside the images' root.
            size: Its height and width in pixels, upright, as `read_image` gives it; of a volume the slices before them.

        Raises:
            TruthError: The mask fits several images, or its size or kind of PNG does not fit.
            ImageFileError: The mask is damaged.
        """
        pixels = self._pixels(image, size, self._value)
        if pixels is None:
            return None
        return np.asarray(pixels.any(axis=-1) if self._value is None else pixels[..., 0] == self._value)

    def classes(self, image: Path, *size: int) -> NDArray[Any] | None:
        """The mask's grey values or numbers, which are classes, [height,width]; as `of`."""
        pixels = self._pixels(image, size, 0)
        return None if pixels is None else pixels[..., 0]

    def _pixels(self, image: Path, size: tuple[int, ...], value: int | None) -> NDArray[Any] | None:
        """The pixels [height,width,3] of an image's mask; with a value, of a grey PNG of 8 bits. Of a volume [D,height,width,1]."""
        name = self._matcher.find(image)
        if name is None:
            return None
        file = self._files[name]
        if self._volumes:
            array = read_image_array(file, MAX_PIXELS)
            if array.shape != size:
                own = f"{image} has {list(size)}"
                raise TruthError(
                    f"{file}: a mask of shape {list(array.shape)}, but {own}; give one number for each voxel"
                )
            if array.dtype.kind == "f" and not (value is None and np.isin(array, (0, 1)).all()):
                raise TruthError(f"{file}: holds {array.dtype}; a mask is whole numbers or booleans")
            return array[..., None]
        bits, colour = _header(file)
        if bits == 16:
            raise TruthError(f"{file}: has 16 bits per value, and the lower 8 would be lost; save it with 8")
        if value is not None and (colour not in (_GREY, _GREY_ALPHA) or bits != 8):
            what = "classes need" if self._value is None else f"the mask value {value} needs"
            raise TruthError(f"{file}: {what} a grey PNG of 8 bits; save it as one")
        pixels = read_image(file)
        height, width = pixels.shape[:2]
        check_size((height, width), (size[0], size[1]), str(file), image)
        return pixels


def read_masks(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    value: int | None = None,
    apart: Iterable[Path] = (),
    volumes: bool = False,
) -> Masks:
    """Find the masks in a folder; each is read when it is asked for.

    Args:
        path: The folder of PNG files, of volumes of `.npy` files; or an archive with masks, which may be the images' own.
        root: The folder of the images, whose names the masks have.
        value: The grey value of the object, 0 to 255; None: everything that is not black is the object.
        apart: Folders inside the root, besides `path`, whose pictures are not images of the data set.
        volumes: The images are volumes.

    Raises:
        TruthError: There is no such folder, or it holds no file of that kind.
        OptionError: The value is not an integer from 0 to 255.
    """
    path = Path(path)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255):
        raise OptionError(f"a mask's value is a whole number from 0 to 255, not {value!r}")
    if not (path.is_dir() or is_archive(path)):
        raise TruthError(f"{path}: not a folder; give the folder of the masks")
    ending = SUFFIX if volumes else _PNG
    files = _found(path, ending)
    if not files and archives(path):
        raise TruthError(
            f"{path}: holds no masks: KEY.mask.png beside KEY.jpg in a tar file, a column 'mask' in Parquet"
        )
    if not files and volumes:
        raise TruthError(f"{path}: holds no .npy files; masks of volumes are arrays [D,h,w] with the volumes' names")
    if not files:
        raise TruthError(f"{path}: holds no PNG files; masks are PNG files with the images' names")
    return Masks(path, files, Path(root), value, apart, volumes)


def _found(path: Path, ending: str) -> list[tuple[str, Path]]:
    """The masks of a folder or an archive, or of the archives in a folder without masks: names without endings, and files."""
    there = () if is_archive(path) else (file for file in files_in(path) if file.suffix.lower() == ending)
    files = [(file.relative_to(path).with_suffix("").as_posix(), file) for file in there]
    return files or [
        ((one / name).relative_to(path).as_posix(), one / mask)
        for one in archives(path)
        for name, mask in opened(one).masks.items()
    ]


def _header(file: Path) -> tuple[int, int]:
    """Bits per value and colour type of a PNG file."""
    try:
        if split(file) is not None:
            head = contents(file)[:26]
        else:
            with file.open("rb") as stream:
                head = stream.read(
                    26
                )  # signature 8, IHDR length and name 8, width 4, height 4, bit depth 1, colour type 1
    except OSError as error:
        raise TruthError(f"{file}: can't be read ({error.strerror})") from None
    if len(head) < 26 or not head.startswith(b"\x89PNG\r\n\x1a\n"):
        raise TruthError(f"{file}: not a PNG file, despite its name; save the mask as PNG")
    return head[24], head[25]
