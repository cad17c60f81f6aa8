"""The result of a source, a trained network as ONNX, and the first look into the source's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

from xai_deploy.format.manifest import Activation
from xai_deploy.foundation.mistaken import is_url

from ..errors import RequestError, SourceError
from ..request import Request
from .archive import names_in
from .parts import require_stored
from .stated import Stated


@dataclass(frozen=True)
class Further:
    """What a network takes beside the images that are explained, by the names of the inputs.

    Attributes:
        rows: Arrays with a row for each image, [n, ...].
        whole: Arrays that are the same for all images, without rows.
    """

    rows: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    whole: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def at(self, i: int) -> Further:
        """What belongs to one image; its rows are [1, ...]."""
        return Further({name: rows[i : i + 1] for name, rows in self.rows.items()}, self.whole)

    def in_order(self, names: Sequence[str], images: NDArray[Any]) -> list[NDArray[Any]]:
        """The value of each input; the images belong to the one of which nothing else is said."""
        return [self.all.get(name, images) for name in names]

    @property
    def all(self) -> Mapping[str, NDArray[Any]]:
        """Both."""
        return {**self.rows, **self.whole}


NOTHING = Further()


class Reference(Protocol):
    """A framework's own forward pass."""

    def __call__(self, images: NDArray[Any], further: Further = NOTHING, /) -> Mapping[str, NDArray[Any]]:
        """Images [N,...], and what is beside them -> outputs by name."""
        ...


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network as ONNX.

    Attributes:
        proto: The graph.
        kind: The source's description, for people ("torch state dict, torchvision resnet50").
        preprocess: The preprocessing that the source states itself, or else the recipe whose geometry is usual for such files.
        taps: Layer -> the name of an extra graph output that carries it, for the layers that the source could tap.
        reference: The source framework's own forward pass.
        notes: Lines for people about how the network was recognised and built.
        framework: The name, for people, of the framework or file that `reference` runs.
        labels: The class names that the source holds; none if it holds none. Their number need not be right.
        labels_from: Where in the source they stand, for people.
        tolerance: The largest allowed relative difference from `reference`; None allows rounding only.
        same_runtime: Whether `reference` is run by the runtime that runs the export: then rounding alone makes no difference.
        files: The files of external data.
        unused: Why what the source states of its preprocessing can't be used; "" if it states none.
        activation: How scores become probabilities, if the source says it; it holds if the graph ends in scores.
    """

    proto: onnx.ModelProto
    kind: str
    preprocess: Stated | str | None = None
    taps: Mapping[str, str] = field(default_factory=dict)
    reference: Reference | None = None
    notes: tuple[str, ...] = ()
    framework: str = "torch"
    tolerance: float | None = None
    same_runtime: bool = False
    labels: tuple[str, ...] = ()
    labels_from: str = ""
    files: tuple[Path, ...] = ()
    unused: str = ""
    activation: Activation | None = None

    @property
    def untapped(self) -> onnx.ModelProto:
        """The source graph without its taps."""
        if not self.taps:
            return self.proto
        model = onnx.ModelProto()
        model.CopyFrom(self.proto)
        kept = [output for output in model.graph.output if output.name not in self.taps.values()]
        del model.graph.output[:]
        model.graph.output.extend(kept)
        return model


@dataclass(frozen=True)
class SourceFile:
    """A file, or a folder that holds a network.

    Attributes:
        path: Its path.
        head: Its first bytes; none for a folder.
        entries: The names in it if it is a zip archive (without the archive's root folder).
        members: The names in it if it is a folder.
    """

    path: Path
    head: bytes
    entries: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()

    @classmethod
    def open(cls, path: Path) -> SourceFile:
        """Look into a file or a folder.

        Raises:
            SourceError: It is missing, can't be read, or is an unsound archive.
        """
        if (problem := is_url(path)) is not None:
            raise SourceError(problem)
        try:
            if path.is_dir():
                return cls(path, b"", members=frozenset(entry.name for entry in path.iterdir()))
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise SourceError(f"{path}: is no plain file; name the network's file")
            with open(path, "rb") as file:
                head = file.read(64)
        except OSError as error:
            raise SourceError(f"{path}: can't be read ({error.strerror})") from None
        require_stored(path, path)
        entries: frozenset[str] = frozenset()
        if head.startswith(b"PK"):
            entries = names_in(path)
        return cls(path, head, entries)


def refuse_arch(file: SourceFile, request: Request, what: str) -> None:
    """Refuse the options that build a network if the file holds one: they would be ignored.

    Args:
        file: The file.
        request: The export; its `arch` and `arch_options` are for files that hold only weights.
        what: The file's description, such as "an ONNX file".

    Raises:
        RequestError: One of the options is given.
    """
    given = [name for name, value in (("--arch", request.arch), ("--arch-options", request.arch_options)) if value]
    if given:
        raise RequestError(
            f"{file.path}: {what} holds its own network, so {' and '.join(given)} can't be used; such options are for files that "
            "hold only weights"
        )
