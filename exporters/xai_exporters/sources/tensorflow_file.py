"""TensorFlow: a SavedModel's folder, or a frozen graph (.pb). OpenVINO reads them, in a process of its own."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import SourceError
from ..request import Request
from .openvino_ir import network
from .openvino_ir.given import Given
from .parts import require_stored
from .source_file import SourceFile, TrainedNetwork, refuse_arch

_SAVED_MODEL = "saved_model.pb"
_NODE = re.compile(rb"\n[\x80-\xff]*[\x00-\x7f]\n[\x80-\xff]*[\x00-\x7f][A-Za-z0-9.][A-Za-z0-9_.\\/>-]*\x12?")
"""GraphDef's first node: field 1, in it field 1, its name; then its operator, which may lie beyond the first bytes."""


def matches(file: SourceFile) -> bool:
    """A folder with a saved_model.pb, this file itself, or a GraphDef."""
    if file.members:
        return _SAVED_MODEL in file.members
    if file.path.name == _SAVED_MODEL:
        return file.head.startswith(b"\x08\x01\x12")  # schema version 1, then the first graph
    return _NODE.match(file.head) is not None and _is_graph(file.head)


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """Translate the graph to ONNX. Of a SavedModel, it is that of the signature `serving_default`.

    Raises:
        SourceError: OpenVINO is not installed or can't read it, or an operator has no rule.
        RequestError: An option is given that is for files of weights only.
    """
    refuse_arch(file, request, "a TensorFlow model")
    path = file.path.absolute()
    if not file.members and path.name != _SAVED_MODEL:
        return network.load(
            Given(file.path, path, "TensorFlow graph", path.stat().st_size, "graph", "tf", ".pb"), request
        )
    folder = path if file.members else path.parent
    beside = _variables(file.path, folder)
    size = sum(part.stat().st_size for part in beside)
    return network.load(
        Given(file.path, folder, "TensorFlow SavedModel", size, "SavedModel", "tf", beside=beside), request
    )


def _variables(shown: Path, folder: Path) -> tuple[Path, ...]:
    """The files of a SavedModel; links among them are not followed out of the folder.

    Raises:
        SourceError: One lies outside or is no plain file, or the weights' index is there without all of its parts.
    """
    parts = sorted((folder / "variables").glob("variables.*"))
    files = (folder / _SAVED_MODEL, *parts)
    root = folder.resolve()
    for part in files:
        try:
            inside, plain = root in part.resolve().parents, part.is_file()
        except (OSError, RuntimeError):  # a link to itself, by Python's version
            inside = plain = False
        if not inside:
            raise SourceError(f"{shown}: {part.name} lies outside the folder; refused")
        if not plain:  # a pipe would be waited for
            raise SourceError(f"{shown}: {part.name} is no plain file; refused")
        require_stored(part, shown)
    count = {int(m[1]) for part in parts if (m := re.fullmatch(r"variables\.data-\d{5}-of-(\d{5})", part.name))}
    shards = [part for part in parts if ".data-" in part.name]
    index = folder / "variables" / "variables.index"
    if index in parts and (not shards or count != {len(shards)}):
        raise SourceError(f"{shown}: weights are missing in its folder variables; copy the whole SavedModel")
    if shards and index not in parts:
        raise SourceError(f"{shown}: variables.index is missing in its folder variables; copy the whole SavedModel")
    return files


def _is_graph(head: bytes) -> bool:
    """Whether the first node's inner length is smaller than its own, as in a GraphDef and not in a text."""
    outer, at = _varint(head, 1)
    inner, end = _varint(head, at + 1)
    after = head[end + inner : end + inner + 1]
    return inner + 2 < outer and after in (b"\x12", b"")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 63:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            break
    return value, at
