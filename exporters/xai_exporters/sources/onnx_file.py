"""An ONNX file, whichever framework wrote it; external data is read only from the file's own folder or below."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.external_data_helper as external
from google.protobuf.message import DecodeError

from xai_deploy.format.guard.expansion import constants_limit

from ..errors import GraphError, SourceError
from ..graph.reading import STRAIGHT
from ..passes.expansion import expansion
from ..passes.old_opset import require_known
from ..passes.runtime_domain import put_aside
from ..passes.supported import require_known_operators, require_known_opset
from ..request import Request
from . import first_steps
from .onnx_metadata import read_metadata, stated_in
from .order import in_order, require_given
from .other_size import in_another_size
from .parts import require_stored
from .repaired import repair
from .source_file import SourceFile, TrainedNetwork, refuse_arch
from .sparse_weights import write_dense
from .standard_form import in_standard_form


def matches(file: SourceFile) -> bool:
    """A protobuf message that starts with ModelProto's ir_version (field 1) or, rarely, its producer (field 2)."""
    return file.head[:1] in (b"\x08", b"\x12") and _parse(file.path) is not None


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """Read the model with its external data.

    Raises:
        SourceError: External data is missing or lies outside the model's folder, or the model is invalid.
        GraphError: The opset is newer than the onnx package knows.
        RequestError: An option is given that is for files of weights only.
    """
    refuse_arch(file, request, "an ONNX file")
    model = _parse(file.path)
    assert model is not None  # `matches` has parsed it
    if not _is_text(model.graph):
        raise SourceError(f"{file.path}: damaged; a name in it is not text")
    folder = file.path.resolve().parent
    size, taken = file.path.stat().st_size, 0
    files = {}
    for tensor in external._get_all_tensors(model):
        if external.uses_external_data(tensor):
            data = _require_beside(tensor, folder, file.path)
            files[data] = data.stat().st_size
            taken += _length(tensor, files[data], file.path)
    size += sum(files.values())
    if taken > constants_limit(size):
        raise SourceError(
            f"{file.path}: its external data would be read as {taken} bytes, far more than its files; refused"
        )
    try:
        external.load_external_data_for_model(model, str(folder))
    except Exception as error:  # onnx raises several types for short or malformed data
        raise SourceError(f"{file.path}: its external data can't be read ({error})") from error
    write_dense(model, constants_limit(size), file.path)
    in_order(model.graph)
    repair(model)
    _name_apart(model)
    _drop_marks(model)
    require_known_opset(model)
    try:
        require_known(model)  # before the checker, whose messages name no node and give no advice
        require_known_operators(model)
        require_given(model.graph)
        onnx.checker.check_model(put_aside(model))
    except (onnx.checker.ValidationError, GraphError) as error:
        raise SourceError(f"{file.path}: not a valid ONNX model ({str(error).splitlines()[0]})") from None
    except ValueError:
        pass  # above protobuf's 2 GB: the writer says so with the reason
    if (problem := expansion(model, size)) is not None:
        raise SourceError(f"{file.path}: {problem}, far more than its file; refused")
    resized = in_another_size(model, request.input_shape)
    producer = f" from {model.producer_name}" if model.producer_name else ""
    try:
        network = in_standard_form(model, f"ONNX{producer}", request, stated_in(model))
        network = replace(network, notes=(*network.notes, *([resized] if resized else [])))
        return replace(_with_first_steps(read_metadata(model, network)), files=tuple(files))
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
    ) as error:  # onnx raises these for data that does not fit its shape
        raise SourceError(f"{file.path}: damaged ({' '.join(str(error).split())[:200]})") from None


def _with_first_steps(network: TrainedNetwork) -> TrainedNetwork:
    """The network with what its graph's first steps say of the preprocessing, if nothing else does."""
    weights = {tensor.name for tensor in network.proto.graph.initializer}
    images = [value for value in network.proto.graph.input if value.name not in weights]
    dims = [dim.dim_value for dim in images[0].type.tensor_type.shape.dim] if len(images) == 1 else []
    if network.preprocess is not None or len(dims) != 4:
        return network
    first = first_steps.read(network.proto)
    stated = first_steps.stated_by(first, dims[3] if dims[3] in (1, 3) and dims[1] not in (1, 3) else dims[1])
    if stated is None:
        return network
    notes = (*network.notes, *([first.said] if str(first) else []))
    return replace(network, preprocess=stated, notes=notes)


def _parse(path: Path) -> onnx.ModelProto | None:
    try:
        model = onnx.load_model(path, load_external_data=False, format="protobuf")
    except (DecodeError, OSError, ValueError):
        return None
    return model if model.ir_version and model.graph.node else None


def _drop_marks(model: onnx.ModelProto) -> None:
    """Remove a mark that only this package's passes may set: gradients would pass a marked node as if it did nothing."""
    for node in _nodes([*model.graph.node, *(node for function in model.functions for node in function.node)]):
        marks = [entry for entry in node.metadata_props if entry.key == STRAIGHT]
        for mark in marks:
            node.metadata_props.remove(mark)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of their branches and loops."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _nodes([inner for graph in (attribute.g, *attribute.graphs) for inner in graph.node])


def _name_apart(model: onnx.ModelProto) -> None:
    """Nodes of a name that an earlier one has get another. ONNX allows equal names; ONNX Runtime opens no such file."""
    nodes = [*_nodes(model.graph.node)]
    taken = {node.name for node in nodes}
    seen: set[str] = set()
    numbers: dict[
        str, Iterator[int]
    ] = {}  # a name's own: counting from 1 for each node takes the square of their number
    for node in nodes:
        if node.name and node.name in seen:
            first = node.name
            own = numbers.setdefault(first, itertools.count(1))
            node.name = next(name for i in own if (name := f"{first}_{i}") not in taken)
            taken.add(node.name)
        seen.add(node.name)


def _is_text(graph: onnx.GraphProto) -> bool:
    """Whether all names are text; protobuf returns bytes for a name that is not."""
    names = [value.name for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
    return all(isinstance(name, str) for name in names)


def _require_beside(tensor: onnx.TensorProto, folder: Path, model: Path) -> Path:
    """The file of external data: a plain file in the model's own folder or below; anything else is refused."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    if "\0" in location:
        raise SourceError(f"{model}: damaged; the name of the data file of tensor {tensor.name!r} holds a zero byte")
    path = folder / location
    # `resolve` also follows links among the folders on the way
    outside = os.path.isabs(location) or folder not in path.resolve().parents
    if not location or outside or path.is_symlink():
        raise SourceError(
            f"{model}: tensor {tensor.name!r} names data at {location!r}, outside the model's folder; refused"
        )
    if not path.is_file():
        raise SourceError(f"{model}: its data file {location!r} is missing; put it beside the model")
    require_stored(path, model)
    return path


def _length(tensor: onnx.TensorProto, size: int, model: Path) -> int:
    """The number of bytes that a tensor reads from a data file of `size` bytes; no more than its shape needs."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    given, offset = told.get("length", ""), told.get("offset", "")
    rest = max(size - (int(offset) if offset.isdecimal() else 0), 0)
    taken = min(int(given), size) if given.isdecimal() else rest
    try:
        entry = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        return taken  # no type of ONNX's: `check_model` says so
    if taken > (needed := math.prod(tensor.dims) * entry):
        raise SourceError(
            f"{model}: tensor {tensor.name!r} would read {taken} bytes of its data file, and its shape needs {needed}; refused"
        )
    return taken
