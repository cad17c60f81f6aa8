"""Which annotation belongs to which image: by the path relative to the images' root, else by the file name.

1. An annotation that names an image's path relative to the root belongs to that image.
2. Another annotation belongs to the image if its path ends with the image's path ("/home/me/set/a.jpg" for a.jpg), or the
   image's path ends with its path ("a.jpg", a bare name, for left/a.jpg), and if no other annotation and no other image
   under the root fits too.
3. If only the file name agrees and the folders contradict each other (left/a.jpg, right/a.jpg), nothing is guessed.

Paths are compared with "\\" replaced by "/" and in Unicode's composed form (NFC; macOS decomposes names). No file is opened.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from ...errors import TruthError
from ...images import is_archive
from ..dataset import find

_Parts = tuple[str, ...]


class Matcher:
    """Finds the annotation of an image.

    Args:
        names: The annotations' names for their images.
        root: The folder of the images.
        by_stem: The names lack the files' endings.
        annotations: File or folder of the annotations; pictures in such a folder inside the root (masks) are not images.
        apart: More folders whose pictures are not images.
        volumes: The images are volumes, `.npy` files.
    """

    def __init__(
        self,
        names: Iterable[str],
        root: Path,
        by_stem: bool,
        annotations: Path,
        apart: Iterable[Path] = (),
        volumes: bool = False,
    ) -> None:
        if not (root.is_dir() or is_archive(root)):
            raise TruthError(f"{root}: not a folder; give the folder of the images")
        self._root = Path(os.path.abspath(root))
        self._annotations = Path(os.path.abspath(annotations))
        self._apart = (self._annotations, *apart)
        self._by_stem, self._volumes = by_stem, volumes
        self._names: dict[_Parts, str] = {}
        self._namesakes: dict[str, list[_Parts]] = defaultdict(list)
        for name in names:
            key = _parts(name)
            if not key:
                raise TruthError(f"{annotations}: an annotation has the empty image name {name!r}; correct it")
            if key in self._names:
                both = f"{self._names[key]!r} and {name!r}"
                raise TruthError(f"{annotations}: {both} name the same image; merge the two or remove one")
            self._names[key] = name
            self._namesakes[key[-1]].append(key)

    def find(self, image: Path) -> str | None:
        """The annotation's name for this image; None if the image is not annotated.

        Raises:
            TruthError: The image lies outside the root, or several annotations or images fit.
        """
        own = self._relative(image)
        key = self._key(own)
        images = self._images.get(key[-1], [])
        if key in self._names:  # rule 1
            # Without endings, a.jpg and a.png have the same key. `own` may be missing in `images`, for example if hidden.
            twins = sorted({other for other in images if self._key(other) == key} | {own})
            if len(twins) > 1:
                raise self._ambiguous(self._names[key], twins)
            return self._names[key]
        # Rule 2, for annotations of this file name that are not another image's by rule 1.
        taken = {self._key(other) for other in images}
        free = [name for name in self._namesakes.get(key[-1], ()) if name not in taken]
        fitting = [name for name in free if _fits(name, key)]
        shown = "/".join(own)
        if len(fitting) > 1:
            both = " and ".join(repr(self._names[name]) for name in fitting[:2])
            raise TruthError(f"{shown}: the annotations {both} both fit; {self._advice}")
        if fitting:
            # Only images without an annotation of their own (rule 1) compete for this one.
            rivals = {other for other in images if self._key(other) not in self._names}
            twins = sorted({other for other in rivals if _fits(fitting[0], self._key(other))} | {own})
            if len(twins) > 1:
                raise self._ambiguous(self._names[fitting[0]], twins)
            return self._names[fitting[0]]
        # Rule 3 is an error only if no annotation names a path inside the root: the root is probably the wrong folder.
        if free and not self._rooted:
            raise TruthError(f"{shown}: the annotation {self._names[free[0]]!r} names another folder; {self._advice}")
        return None

    @property
    def _advice(self) -> str:
        return f"name images in {self._annotations} by their paths inside {self._root}"

    def _ambiguous(self, name: str, images: list[_Parts]) -> TruthError:
        both = " and ".join("/".join(image) for image in images[:2])
        return TruthError(f"the annotation {name!r} fits the images {both}; {self._advice}")

    def _relative(self, image: Path) -> _Parts:
        try:
            return _parts(Path(os.path.abspath(image)).relative_to(self._root).as_posix())
        except ValueError:
            raise TruthError(f"{image}: lies outside the folder of the images, {self._root}") from None

    def _key(self, image: _Parts) -> _Parts:
        return (*image[:-1], PurePosixPath(image[-1]).stem) if self._by_stem else image

    @cached_property
    def _images(self) -> dict[str, list[_Parts]]:
        """Last part of the key -> images under the root. All of them are listed, even if `find` is asked for a few."""
        images: dict[str, list[_Parts]] = defaultdict(list)
        for image in find(self._root, apart=self._apart, volumes=self._volumes):
            parts = _parts(image.relative_to(self._root).as_posix())
            images[self._key(parts)[-1]].append(parts)
        return images

    @cached_property
    def _rooted(self) -> bool:
        """Whether some annotation names an image's path relative to the root, so that the root is the right folder."""
        return any(self._key(image) in self._names for images in self._images.values() for image in images)


def _fits(name: _Parts, image: _Parts) -> bool:
    """Whether one of the paths ends with the other."""
    shared = min(len(name), len(image))
    return name[-shared:] == image[-shared:]


def _parts(path: str) -> _Parts:
    normal = unicodedata.normalize("NFC", path).replace("\\", "/")
    return tuple(part for part in normal.split("/") if part not in ("", "."))
