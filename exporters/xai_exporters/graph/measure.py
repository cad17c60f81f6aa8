"""ONNX Runtime on the training side: it runs the source for reference, and measures the shape of every tensor.

Shapes are measured, not inferred: every tensor gets a Shape node, and the network runs once at batch 2 and once at batch 3. A
dimension that stays the same is a constant; one that grows is a multiple of the batch. No inference rule can be missing or wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.foundation import exact_onnxruntime, runtimes

from ..errors import GraphError

OnnxFile: TypeAlias = bytes | Path
"""An ONNX file that a runtime opens. By its path it takes once its size less of memory."""


@dataclass(frozen=True)
class Measured:
    """Shapes at batch 2 and batch 3, by tensor name. If the network takes `one` image, both hold the shapes at batch 1."""

    two: dict[str, tuple[int, ...]]
    three: dict[str, tuple[int, ...]]
    one: bool = False

    def dims(self, value: ir.Value) -> tuple[int | None, ...]:
        """A tensor's shape, with None for a dimension that grows with the batch; a constant has its own shape."""
        return tuple(a if a == b else None for a, b in zip(*self.both(value), strict=True))

    def both(self, value: ir.Value) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A tensor's shape at batch 2 and at batch 3."""
        name = str(value.name)
        if name in self.two:
            return self.two[name], self.three[name]
        if value.const_value is None:
            raise KeyError(f"{name!r} was not measured")
        own = tuple(map(int, value.const_value.shape.numpy()))
        return own, own

    def rename(self, old: str, new: str) -> None:
        """Keep a tensor's shapes under its new name."""
        for shapes in (self.two, self.three):
            shapes[new] = shapes.pop(old)

    def alias(self, name: str, like: ir.Value) -> None:
        """Give a new tensor the shape of another one."""
        for shapes in (self.two, self.three):
            known = shapes.get(str(like.name))
            if known is None:
                assert like.const_value is not None
                known = tuple(map(int, like.const_value.shape.numpy()))
            shapes[name] = known

    def per_image(self, name: str | None) -> tuple[int, ...] | None:
        """The shape of one image's part if the first dimension is the batch and no other one grows; else None."""
        if name is None or name not in self.two:
            return None
        two, three = self.two[name], self.three[name]
        if self.one:
            return two[1:] if two[:1] == (1,) else None
        if two[:1] == (2,) and three[:1] == (3,) and two[1:] == three[1:]:
            return two[1:]
        return None


def open_session(model: OnnxFile, what: str, optimise: bool = False, exact: bool = True) -> Any:
    """An ONNX Runtime session on the CPU.

    Args:
        model: The ONNX file.
        what: The file's description in the message of an error.
        optimise: Let the runtime fuse nodes. It is off when graphs are compared: fusing across a cut rounds differently in
            quantised networks, and this difference says nothing about the cut.
        exact: Without what changes numbers; False: as a program opens a file by default.

    Raises:
        GraphError: The runtime refuses the graph.
    """
    ort = runtimes.onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal only: a failure is raised, with our own message
    # the threads of an idle session sleep instead of spinning
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # planning which tensors share memory is quadratic in the nodes: 14 s for an LSTM of 128 steps, 1.4 s without, the same peak
    options.enable_mem_reuse = False
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        opened = exact_onnxruntime.open_exactly if exact else ort.InferenceSession
        return opened(openable(model), options, ["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exception types are not documented
        if newest := re.search(
            r"Opset (\d+) is under development.*support for domain \S+ is till opset (\d+)", str(error), re.S
        ):
            raise GraphError(
                f"{what} has opset {newest[1]}; ONNX Runtime {ort.__version__} knows opset {newest[2]} and older ones; export the "
                "network again with one of these, or update onnxruntime"
            ) from error
        raise GraphError(f"ONNX Runtime can't open {what}: {without_path(str(error), model)}") from error


IMAGE = "image/"
"""The prefix of an input whose own name is reserved in bundles."""

_RUNTIME_TYPES = {
    f"tensor({kind})": np.dtype(numpy)
    for kind, numpy in (("float", "f4"), ("float16", "f2"), ("double", "f8"), ("bool", "?"))
} | {
    f"tensor({kind})": np.dtype(kind)
    for kind in ("uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64")
}


def openable(model: OnnxFile) -> bytes | str:
    """The path of a file, or its bytes if the path is not text: on Linux a name may hold any bytes, and runtimes take text only."""
    if isinstance(model, bytes):
        return model
    try:
        str(model).encode()
    except UnicodeEncodeError:
        return model.read_bytes()
    return str(model)


def without_path(message: str, model: OnnxFile) -> str:
    """A runtime's message with the file's name in place of its path, which is that of a temporary folder."""
    if isinstance(model, bytes):
        return message
    return message.replace(f"Load model from {model!s} failed:", "").replace(str(model), model.name)


def run(session: Any, feeds: Mapping[str, NDArray[Any]], what: str) -> dict[str, NDArray[Any]]:
    """All outputs by name. A graph that takes one image at a time runs once for each image; the results are joined.

    Raises:
        GraphError: The runtime failed.
    """
    names = [output.name for output in session.get_outputs()]
    # the longest first dimension of the inputs that have one
    count = max((len(value) for value in feeds.values() if value.ndim), default=1)
    declared = [i.shape for i in session.get_inputs() if i.name in feeds]
    if count > 1 and declared and all(shape and shape[0] == 1 for shape in declared):
        singles = [run(session, {n: v[i : i + 1] for n, v in feeds.items()}, what) for i in range(count)]
        return {name: np.concatenate([single[name] for single in singles]) for name in names}
    try:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:
        raise GraphError(f"ONNX Runtime can't run {what}: {error}") from error


def run_taken(session: Any, feeds: Mapping[str, NDArray[Any]], what: str) -> dict[str, NDArray[Any]]:
    """As `run`, with those of `feeds` that the graph has inputs for."""
    names = {given.name for given in session.get_inputs()}
    return run(session, {name: value for name, value in feeds.items() if name in names}, what)


def run_single(
    session: Any, image: NDArray[Any], further: Mapping[str, NDArray[Any]] | None = None
) -> Mapping[str, NDArray[Any]]:
    """A source's outputs for one image [1,...]; the image is repeated if the source has a fixed batch of several.

    Args:
        session: The source.
        image: The image.
        further: What is beside it, by name, [1,...] each. The one other input is the image; one that nothing reads gets zeros.
    """
    feeds, inputs, given_by = {}, session.get_inputs(), further or {}
    names = {i.name: next((n for n in (i.name, IMAGE + i.name) if n in given_by), None) for i in inputs}
    further = {name: given_by[own] for name, own in names.items() if own is not None}
    image_name = next(
        (i.name for i in inputs if i.name not in further and tuple(i.shape[1:]) == image.shape[1:]),
        next(i.name for i in inputs if i.name not in further),
    )
    for given in inputs:
        if given.name in further or given.name == image_name:
            feeds[given.name] = further.get(given.name, image)
        else:
            shape = [d if isinstance(d, int) else 1 for d in given.shape]
            feeds[given.name] = np.zeros(shape, _RUNTIME_TYPES.get(given.type, np.dtype(np.float32)))
    batch = inputs[0].shape[0] if inputs[0].shape else 1
    if not isinstance(batch, int) or batch == 1:
        return run(session, feeds, "the source")
    repeated = {
        name: np.repeat(value, batch, axis=0) if value.shape[:1] == (1,) else value for name, value in feeds.items()
    }
    return {name: value[:1] for name, value in run(session, repeated, "the source").items()}


def measure(model: ir.Model) -> Measured:
    """The shape of every tensor of the model at batch 2 and 3, wherever its inputs' shapes say "N"; at batch 1 if none does.

    Raises:
        GraphError: The network does not run at these batches.
    """
    names = [str(v.name) for node in model.graph for v in node.outputs if v.name]
    names += [str(v.name) for v in model.graph.inputs]
    # ONNX Runtime takes the nodes without consumers from the last to the first, each after what it needs: in the opposite order
    # every tensor is measured as soon as it is computed, and then freed
    names.reverse()
    probes = [onnx.helper.make_node("Shape", [name], [f"xai/shape/{i}"]) for i, name in enumerate(names)]
    one = all(value.shape and value.shape[0] == 1 for value in model.graph.inputs)
    measured = _probe(model, probes, [p.output[0] for p in probes], (1,) if one else (2, 3))
    two, *rest = ({n: tuple(map(int, s)) for n, s in zip(names, run, strict=True)} for run in measured)
    return Measured(two, rest[0] if rest else dict(two), one)


def evaluate(model: ir.Model, names: Sequence[str], batch: int) -> dict[str, NDArray[Any]]:
    """The values of some tensors for a batch of zeros; nodes that these do not depend on are not run.

    Raises:
        GraphError: The network does not run at this batch.
    """
    [run] = _probe(model, [], names, (batch,), only_for=names) if names else [[]]
    return dict(zip(names, run, strict=True))


def _probe(
    model: ir.Model,
    nodes: Sequence[onnx.NodeProto],
    fetch: Sequence[str],
    batches: Sequence[int],
    only_for: Sequence[str] = (),
) -> list[list[NDArray[Any]]]:
    """Run a model, extended by `nodes`, on zeros: the tensors `fetch` for each batch. `only_for`: without the nodes that these
    tensors do not depend on."""
    session = open_session(_extended(model, nodes, fetch, only_for), "the network")
    results = []
    for batch in batches:
        zeros = {str(value.name): _zeros(value, batch) for value in model.graph.inputs}
        outputs = run(session, zeros, f"the network on {batch} image{'s' * (batch > 1)}")
        results.append([outputs[name] for name in fetch])
    return results


def _extended(model: ir.Model, nodes: Sequence[onnx.NodeProto], fetch: Sequence[str], only_for: Sequence[str]) -> bytes:
    """The model with further nodes and other outputs, serialised; the copy of its weights in between ends here."""
    proto = ir.to_proto(model)
    if only_for:
        _drop_others(proto.graph, only_for)
    del proto.graph.output[:]
    proto.graph.node.extend(nodes)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in fetch)  # untyped: any type can be fetched
    return bytes(proto.SerializeToString())


def _drop_others(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Keep the nodes that some tensors depend on."""
    needed, kept = set(names), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            needed.update(node.input)
    weights = [onnx.TensorProto.FromString(t.SerializeToString()) for t in graph.initializer if t.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)


def batch_of(value: ir.Value) -> int | str:
    """The first dimension of an input: "N", or 1 in a network that takes one image at a time."""
    assert value.shape is not None
    first = value.shape[0]
    return first if isinstance(first, int) else "N"


def _zeros(value: ir.Value, batch: int) -> NDArray[Any]:
    assert value.shape is not None
    shape = [d if isinstance(d, int) else batch for d in value.shape.dims]
    return np.zeros(shape, dtype=value.dtype.numpy() if value.dtype is not None else np.float32)
