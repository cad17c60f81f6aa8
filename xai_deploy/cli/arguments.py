"""Reading the command line's arguments: images, methods with their options, targets; and names for the results."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import InputError, OptionError
from ..format.bundle import Input, Manifest
from ..foundation.options import options_of, read_spec, title_of
from ..foundation.printable import printable
from ..foundation.schema import type_hints
from ..images import InputRange, image_files, is_archive
from ..methods import create, methods
from ..methods.across import EACH
from ..methods.sets import expanded, with_combine
from ..preprocess import read_pixels

log = logging.getLogger(__name__)

# Control characters, ends of lines, and those that turn the direction of writing.
_UNPRINTED = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class MethodRequest:
    """A method with its options as the user wrote them.

    Attributes:
        name: The method's name.
        options: Option -> value, both as text, sorted by option.
    """

    name: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """See `options.title_of`."""
        return title_of(self.name, self.options)


def parse_methods(texts: Sequence[str]) -> list[MethodRequest]:
    """["cam,reciprocam:score=softmax"] -> the methods, each once.

    Raises:
        OptionError: An option is not written as NAME=VALUE.
    """
    requests = []
    for text in (part.strip() for entry in texts for part in entry.split(",")):
        try:
            name, options = read_spec(text)
        except OptionError as error:
            raise OptionError(f"{text!r}: {error}") from None
        request = MethodRequest(name, dict(sorted(options.items())))
        if request not in requests:
            requests.append(request)
    return requests


def expand_sets(
    requests: Sequence[MethodRequest], manifests: Sequence[Manifest], of_parts: bool = False, said: bool = True
) -> list[MethodRequest]:
    """What `parse_methods` gave, with "all" and "fast" replaced by their methods; see `methods.sets.expanded`.

    If parts of detections' boxes are explained, a set leaves out the methods that explain classes alone.
    """
    pairs = expanded([(request.name, request.options) for request in requests], manifests, said)
    if of_parts:
        named = {request.name for request in requests}
        left = [name for name, options in pairs if name not in named and not create(name, options).of_sides]
        if left:
            log.warning("left out are %s (a side of a box has no such map)", ", ".join(left))
        pairs = [pair for pair in pairs if pair[0] not in left]
    return [MethodRequest(name, {key: str(value) for key, value in options.items()}) for name, options in pairs]


def at_layers(
    requests: Sequence[MethodRequest], combine: str | None, manifests: Sequence[Manifest]
) -> list[MethodRequest]:
    """The methods, those that need a layer with what --combine says unless they say it themselves; see `sets.with_combine`.

    If the layers show several images, each is drawn on its own; what is put together are those of each image.
    """
    if combine is None and len({layer.input for layer in manifests[0].layers}) > 1:
        combine = EACH
    if combine is None:
        return list(requests)
    pairs = with_combine([(request.name, request.options) for request in requests], combine, manifests[0])
    return expand_sets([MethodRequest(name, dict(sorted(options.items()))) for name, options in pairs], manifests)  # type: ignore[arg-type]


def with_segments(requests: Sequence[MethodRequest], written: str | None) -> list[MethodRequest]:
    """The methods, those of segments with the segments that --segments names unless they name their own.

    The set "all" passes them on to its methods; see `methods.sets.expanded`.

    Raises:
        OptionError: None of the methods is one of segments.
    """
    if written is None:
        return list(requests)
    own = [name for name in methods if "segments" in options_of(create(name, {}))]
    takes = {*own, "all"}
    if not any(request.name in takes for request in requests):
        raise OptionError(f"--segments is for methods of segments ({', '.join(own)}), and none is asked for")
    return [
        MethodRequest(one.name, dict(sorted({"segments": written, **one.options}.items())))
        if one.name in takes
        else one
        for one in requests
    ]


def method_table() -> list[str]:
    """The lines of --list-methods: name, what its map is made of, cost and graphs, a method a line; then what the columns mean."""
    made = {name: create(name, {}) for name in methods}
    rows = [("method", "what the map is made of", "passes", "graphs")]
    rows += [(name, one.shows, one.passes, ", ".join(one.roles) or "-") for name, one in made.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    advice = {role: text for one in made.values() for role, text in one.roles.items()}
    return [
        *lines,
        "",
        "passes: inferences per image with the defaults; a tail: the network after the layer; going back costs the same",
        "graphs in the bundle, besides head and tail:",
        *(f"  {role}: {text}" for role, text in advice.items()),
        "in a bundle of several layers: METHOD:layer=LAYER for one of them, METHOD:combine=max|mean|sum for all together",
    ]


def describe_options(name: str, cls: Any) -> list[str]:
    """The lines that --list-methods and --list-metrics print for a method or metric: its name, then its options."""
    hints = type_hints(cls)
    lines = [name]
    for option in dataclasses.fields(cls):
        # "typing.Optional[typing.Literal['zeros']]" -> "zeros|none", "typing.Literal['sum', 'max-abs']" -> "sum|max-abs"
        hint = re.sub(r"typing\.|<class |>", "", str(hints[option.name]))
        hint = re.sub(r"Optional\[(.*)\]", r"\1|none", hint)
        kind = re.sub(r"(?:Literal|Union)\[|[\]\"' ]", "", hint).replace(",", "|").replace("bool", "true|false")
        lines.append(f"  {name}:{option.name}={kind.lower()}  (default {str(option.default).lower()})")
    return lines


def find_images(arguments: Iterable[str], apart: Sequence[Path] = (), recursive: bool = True) -> list[Path]:
    """The files named, and the image files in the folders and archives named, in order, each once.

    Args:
        arguments: The files and folders.
        apart: Folders for results. Their pictures are left out.
        recursive: Take the folders' sub folders, too.

    Raises:
        ImageFileError: A folder can't be read or holds no image.
        InputError: A folder of images is also a folder for results, or a method is named in place of an image.
    """
    files: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if argument in methods and not path.exists():
            raise InputError(
                f"{argument}: is a method, not an image; several are given as --method A,B, without spaces"
            )
        if is_archive(path):
            files += image_files(path)
            continue
        if not path.is_dir():
            files.append(path)
            continue
        if any(out.exists() and out.samefile(path) for out in apart):
            raise InputError(f"{path}: the results would be written among the images; choose another folder with -o")
        files += image_files(path, recursive, apart)
    return list(dict.fromkeys(files))


def unique_names(paths: Iterable[Path]) -> dict[Path, str]:
    """A name for the results of each image: its stem, with a number if an earlier image has the same stem.

    Control characters, which garble a terminal that lists the folder, become "_".
    """
    stems = {}
    for path in paths:
        stem = _UNPRINTED.sub("_", path.stem[:100])  # before bytes are counted: an archive's names are of any length
        while len(os.fsencode(stem)) > 100:  # bytes; a file name may have 255, and the method and target follow
            stem = stem[:-1]
        stems[path] = stem
    return dict(zip(stems, numbered(stems.values()), strict=True))


def numbered(names: Iterable[str]) -> list[str]:
    """The names, with a number where an earlier one is equal, upper and lower case apart: some file systems ignore it."""
    taken: dict[str, str] = {}
    following: dict[str, int] = {}  # counting from 2 for each takes the square of their number
    for stem in names:
        name, number = stem, following.get(stem.casefold(), 2)
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        following[stem.casefold()] = number
        taken[name.casefold()] = name
    return list(taken.values())


@dataclass(frozen=True)
class Bad:
    """An image that can't be read, and why."""

    path: Path
    reason: InputError

    def report(self, skip: bool) -> None:
        """Log that the image is skipped.

        Raises:
            InputError: Images are not to be skipped.
        """
        if not skip:
            raise self.reason
        log.error("%s (skipped)", printable(str(self.reason)))


def read_chunks(
    paths: Iterable[Path],
    count: int,
    max_pixels: int,
    spec: Input,
    input_range: InputRange | None = None,
    pixels: int = 50_000_000,
) -> Iterator[list[tuple[Path, NDArray[Any]] | Bad]]:
    """Images, as `read_pixels` reads them, in chunks of at most `count` images and at most `pixels` pixels, more only if one
    image alone has more.

    One chunk is in memory at a time. An image that can't be read is in the chunk as a `Bad`, which `count` does not limit."""
    chunk: list[tuple[Path, NDArray[Any]] | Bad] = []
    held = 0
    for path in paths:
        try:
            image = read_pixels(path, spec, max_pixels, input_range)
        except InputError as error:
            chunk.append(Bad(path, error))
            continue
        size = image.shape[0] * image.shape[1] if spec.depth is None else image.size
        if chunk and (len(chunk) >= count or held + size > pixels):
            yield chunk
            chunk, held = [], 0
        chunk.append((path, image))
        held += size
    if chunk:
        yield chunk
