"""What a network takes beside the images that are explained, as a user gives it -> a row for each image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import DtypeError, InputError, NonFiniteInputError, ShapeError
from .format.bundle import FurtherInputs, Input, Manifest, Port
from .foundation.paths import described
from .images.given import Image
from .images.npy import is_npy, read_numbers
from .preprocess import Images, Prepared, as_list, prepare

ImagesTogether: TypeAlias = Image | Sequence[Image | tuple[Image, ...]] | Prepared
"""Images, or for networks of several image inputs tuples of one image for each."""
Rows: TypeAlias = Mapping[str, NDArray[Any]]
Given: TypeAlias = Mapping[str, Any]
"""Name of an input -> its images, or its array: one for all images, or one for each."""


class Beside:
    """The further inputs of some images.

    Args:
        further: What the manifest says of them.
        columns: Name -> what is given for each image; one entry alone is for all.
    """

    def __init__(self, further: FurtherInputs, columns: Mapping[str, Sequence[Any]]) -> None:
        self._images = {image.name: image for image in further.images}
        self._columns = columns

    def rows(self, rows: range) -> Rows:
        """Name -> the rows of some images, as the network takes them, [n, ...].

        Raises:
            InputError: An image can't be read, or does not fit.
        """
        taken = {}
        for name, column in self._columns.items():
            own = [column[0]] * len(rows) if len(column) == 1 else [column[i] for i in rows]
            spec = self._images.get(name)
            try:
                taken[name] = np.stack(own if spec is None else _prepared(own, spec))
            except InputError as error:
                raise type(error)(f"{name!r}: {error}") from None
        return taken


def _prepared(images: Sequence[Any], spec: Input) -> list[NDArray[Any]]:
    if all(image is images[0] for image in images):  # one for all is prepared once
        return [prepare(images[0], spec)] * len(images)
    return [prepare(image, spec) for image in images]


def together(images: Any, given: Given | None, manifest: Manifest) -> tuple[Sequence[Any], Beside]:
    """Images with what belongs to them -> the list of those that are explained, and the rest.

    Args:
        images: As for `Explainer.explain`. For a network of several image inputs also tuples of one image for each, in the
            network's own order: one tuple, or a list of them.
        given: The further inputs by name.
        manifest: The bundle's manifest.

    Raises:
        InputError: An input is missing, unknown, given twice, or does not fit.
    """
    if not isinstance(given, Mapping | None):
        raise DtypeError(f"inputs map an input's name to its images or its array; got {described(given)}")
    further, given = manifest.further, dict(given or {})
    columns: dict[str, Sequence[Any]] = {}
    if isinstance(images, Prepared):
        own = {image.name for image in further.images}
        columns |= {
            name: [Prepared(row) for row in rows] if name in own else list(rows) for name, rows in images.beside.items()
        }
    else:
        images, columns = _unzipped(images, manifest)
    if twice := next((name for name in given if name in columns), None):
        raise ShapeError(f"the input {twice!r} is given twice")
    batch = as_list(images, manifest.input)
    ports = {port.name: port for port in further.ports}
    if unknown := next((name for name in given if name not in ports), None):
        raise ShapeError(f"the network has no further input {unknown!r}; it has {', '.join(ports) or 'none'}")
    specs = {image.name: image for image in further.images}
    for name, port in ports.items():
        if name not in given and name not in columns:
            kind = "images" if name in specs else f"{port.dtype} {list(port.shape)}"
            raise ShapeError(
                f"the network also takes {name!r} ({kind}); give inputs={{{name!r}: ...}} (on the command line --input {name}=FILE)"
            )
        if name in given:
            columns[name] = (
                as_list(given[name], specs[name]) if name in specs else list(_array(given[name], port, len(batch)))
            )
        if len(columns[name]) not in (1, len(batch)):
            raise ShapeError(
                f"{name!r}: {len(columns[name])} are given for {len(batch)} images; give one for all, or one for each"
            )
    return batch, Beside(further, columns)


def _unzipped(images: Any, manifest: Manifest) -> tuple[Images, dict[str, Sequence[Any]]]:
    """Tuples of images as columns: those of the image that is explained, and the others by name."""
    order = manifest.further.order
    if isinstance(images, tuple) and len(images) == len(order):
        images = [images]
    if not order or not isinstance(images, list) or not any(isinstance(one, tuple) for one in images):
        return images, {}
    if any(not isinstance(one, tuple) or len(one) != len(order) for one in images):
        raise ShapeError(f"images that are given together are tuples of {len(order)}: {', '.join(order)}")
    columns = {name: [one[i] for one in images] for i, name in enumerate(order)}
    return columns.pop(manifest.input.name), {**columns}


def _array(given: Any, port: Port, count: int) -> NDArray[Any]:
    """An array as rows [1, ...] or [count, ...] of the input's type.

    Raises:
        ShapeError: It has another shape.
        DtypeError: It does not hold numbers, or the input holds integers and these are none.
        NonFiniteInputError: It holds NaN or infinity.
    """
    if isinstance(given, (str, os.PathLike)):
        given = read_numbers(Path(given))
    try:
        array: NDArray[Any] = np.asarray(given)
    except Exception:  # nested lists of uneven lengths, or an object's own refusal
        array = np.empty(0, object)
    if array.dtype.kind not in "buif":
        raise DtypeError(f"{port.name!r}: takes an array of numbers, not {type(given).__name__} of {array.dtype}")
    shape, wanted = array.shape, tuple(port.shape)
    if shape == wanted:
        array = array[None]
    elif shape[1:] != wanted or shape[:1] not in ((1,), (count,)):
        raise ShapeError(
            f"{port.name!r}: takes {list(wanted)} for all images or {[count, *wanted]}, a row for each, not {list(shape)}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(port.dtype)
    if cast.dtype.kind != "f" and not np.array_equal(cast, array):
        raise DtypeError(f"{port.name!r}: takes {port.dtype}, which can't hold these numbers")
    if not np.isfinite(cast).all():
        raise NonFiniteInputError(f"{port.name!r}: holds NaN or infinity")
    return cast


def named(text: str, names: Iterable[str]) -> tuple[str, str] | None:
    """The name and the value of a `NAME=VALUE`; None if it names none of these. A name may hold =, as a file's may."""
    name = next((name for name in sorted(names, key=len, reverse=True) if text.startswith(f"{name}=")), None)
    return None if name is None else (name, text[len(name) + 1 :])


def of_commands(texts: Sequence[str], paths: Sequence[Path], manifest: Manifest) -> dict[str, Any]:
    """What a command line gives by `--input NAME=VALUE`: a file, a folder with a file of each image's name, or a number.

    Args:
        texts: The values of the option.
        paths: The images.
        manifest: The bundle's manifest.

    Raises:
        InputError: A text names no input, or a folder lacks an image's file.
    """
    images = {image.name for image in manifest.further.images}
    ports = {port.name: port for port in manifest.further.ports}
    given: dict[str, Any] = {}
    for text in texts:
        found = named(text, ports)
        if found is None:
            raise ShapeError(
                f"--input {text}: is not NAME=FILE for an input that the network takes beside the images "
                f"({', '.join(ports) or 'it takes none'})"
            )
        name, value = found
        if not value:
            raise ShapeError(f"--input {text}: names no file")
        if name in given:
            raise ShapeError(f"--input {text}: {name!r} is given twice")
        if Path(value).is_dir():
            files = _of_each(Path(value), paths, name)
            given[name] = files if name in images else np.stack([read_numbers(file) for file in files])
        elif name in images:
            given[name] = value
        else:
            given[name] = read_numbers(Path(value)) if is_npy(Path(value)) else _number(value, name)
        if name not in images and _is_for_each(given[name], ports[name]) and len(given[name]) not in (1, len(paths)):
            raise ShapeError(f"--input {text}: holds {len(given[name])} rows for {len(paths)} images")
    return given


class ByPath:
    """What a command line gives by `--input`, for images by their paths.

    Args:
        texts: As for `of_commands`.
        paths: All images.
        manifest: The bundle's manifest.

    Raises:
        InputError: See `of_commands`.
    """

    def __init__(self, texts: Sequence[str], paths: Sequence[Path], manifest: Manifest) -> None:
        self._given, self._manifest = of_commands(texts, paths, manifest), manifest
        self._places = {path: place for place, path in enumerate(paths)} if self._given else {}

    def of(self, paths: Sequence[Path]) -> Given:
        """What belongs to some of the images, as `Explainer.explain` takes it."""
        if not self._given:
            return {}
        return of_some(self._given, [self._places[path] for path in paths], self._manifest)

    def digest(self, path: Path) -> str:
        """The SHA-256 digest of what is given with an image: names, numbers and the bytes of files; empty if nothing is given."""
        return digest(self.of([path]))


def digest(given: Given) -> str:
    """The SHA-256 digest of what is given with one image: names, numbers and the bytes of files; empty if nothing is given."""
    if not given:
        return ""
    whole = hashlib.sha256()
    for name, value in sorted(given.items()):
        own = value[0] if isinstance(value, list) else value
        whole.update(repr(name).encode())
        if isinstance(own, (str, os.PathLike)):
            with Path(own).open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        else:
            array = np.asarray(own, np.float64).ravel()  # a row of a table, and an array for all, are the same here
            whole.update(array.tobytes())
    return whole.hexdigest()


def of_some(given: Given, index: Sequence[int], manifest: Manifest) -> Given:
    """What `of_commands` gave, for some of the images."""
    ports = {port.name: port for port in manifest.further.ports}

    def own(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [value[i] for i in index]
        for_each = isinstance(value, np.ndarray) and _is_for_each(value, ports[name]) and len(value) > 1
        return value[list(index)] if for_each else value

    return {name: own(name, value) for name, value in given.items()}


def _is_for_each(array: NDArray[Any], port: Port) -> bool:
    """Whether an array has a row for each image."""
    return array.ndim == len(port.shape) + 1


def _of_each(folder: Path, paths: Sequence[Path], name: str) -> list[Path]:
    """The file of each image in a folder, by its name without the ending."""
    there: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        there.setdefault(file.stem, []).append(file)
    files = []
    for path in paths:
        match there.get(path.stem, []):
            case [file]:
                files.append(file)
            case []:
                raise ShapeError(f"--input {name}={folder}: holds no file {path.stem}.* for {path}")
            case several:
                raise ShapeError(
                    f"--input {name}={folder}: holds several files for {path}: {several[0].name}, {several[1].name}"
                )
    return files


def _number(text: str, name: str) -> NDArray[np.float64]:
    try:
        return np.array(float(text))
    except ValueError:
        raise DtypeError(f"--input {name}={text}: is neither a .npy file nor a number") from None


def noise(manifest: Manifest, count: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Numbers for what a network takes beside images, where costs alone matter: [count, ...] each, from 0 to 1."""
    rng = np.random.default_rng(seed)
    shapes = {port.name: (port, (count, *(size or 1 for size in port.shape))) for port in manifest.further.ports}
    return {name: rng.random(shape, dtype=np.float32).astype(port.dtype) for name, (port, shape) in shapes.items()}
