"""The walk over OpenVINO's nodes: each is given to the rule of its type."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ...errors import GraphError
from ...graph.emit import Emitter, Ops, unique
from ...graph.writing import IR_VERSION, TRANSLATED
from ...passes.opset import OPSET
from ...passes.supported import CHANCE
from . import chance, dilated
from .bodies import whole
from .constants import Constants, called, foldable, kind_of, known_sizes, port_name, readable
from .layer import RULES, Layer, rules

_SCOPES = "pkg.torch.onnx.name_scopes"  # where torch's exporter to ONNX keeps module paths

_WHOLE = ("If", "Loop", "TensorIterator")
_STATES = ("ReadValue", "Assign")
_RANDOM = ("RandomUniform", "Multinomial")
_SUPPRESSION = (
    "DetectionOutput",
    "MatrixNms",
    "MulticlassNms",
    "Proposal",
    "ExperimentalDetectron",
)
_DECODERS = ("CTCGreedyDecoder", "CTCGreedyDecoderSeqLen", "GatherTree")
_REGIONS = (
    "DeformablePSROIPooling",
    "GenerateProposals",
    "NMSRotated",
    "PSROIPooling",
    "ROIAlignRotated",
    "ROIPooling",
)
_TABLES = ("Embedding", "SparseFillEmptyRows", "StringTensor", "CTCLoss", "Bucketize", "SearchSorted", "SegmentMax")
_VIDEO = ("NV12toRGB", "NV12toBGR", "I420toRGB", "I420toBGR")


def translate(
    model: Any, limit: int, root: str = "", numbers: Mapping[str, NDArray[Any]] = MappingProxyType({})
) -> ir.Model:
    """An OpenVINO model as ONNX.

    Args:
        model: An `openvino.Model`.
        limit: The largest number of bytes that its constants may take.
        root: The beginning of all of TensorFlow's names, which no layer's path holds.
        numbers: What some inputs are, by the names of their nodes; they stay inputs, which nothing reads.

    Raises:
        GraphError: An operator has no rule, or none for this case; names the node.
    """
    return _Translation(limit, root).run(model, numbers)


class _Translation:
    """The state of one translation. Friendly names need not be unique in an IR, so nodes are known by `get_name()`."""

    def __init__(self, limit: int, root: str) -> None:
        self.root = root
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="network")
        self.emit = Emitter(self.graph, "inner")
        self.constants = Constants(limit)
        self.values: dict[tuple[str, int], ir.Value] = {}
        self.names: set[str] = set()
        self.fixed: set[str] = set()

    def inner(self, graph: ir.Graph) -> _Translation:
        """The same translation, writing to the body of a loop; it sees the values outside."""
        walk = copy(self)
        walk.graph, walk.emit, walk.values = graph, Emitter(graph, f"inner/{graph.name}"), dict(self.values)
        return walk

    def run(self, model: Any, numbers: Mapping[str, NDArray[Any]]) -> ir.Model:
        for port in model.inputs:
            self._parameter(port)
            if port.get_node().get_name() in numbers:
                del self.values[port.get_node().get_name(), 0]
                self.put(port, numbers[port.get_node().get_name()])
        outputs = [(port, unique(port_name(port), self.names)) for port in model.outputs]
        self.walk(model)
        for port, name in outputs:
            self._output(self.value(port.get_node().input_value(0)), name, port)
        return ir.Model(self.graph, ir_version=IR_VERSION, producer_name=TRANSLATED)

    def walk(self, model: Any) -> None:
        """Translate a graph's nodes."""
        dilated.merge(model, self.content)
        chance.settle(model, self.content)
        for node in model.get_ordered_ops():
            if self._is_fixed(node):
                self.fixed.add(node.get_name())
            elif node.get_type_name() not in ("Parameter", "Result"):
                self._node(node)

    def put(self, parameter: Any, value: ir.Value | NDArray[Any]) -> None:
        """Say what a body's parameter is."""
        if isinstance(value, ir.Value):
            self.values[parameter.get_node().get_name(), 0] = value
        else:
            self.constants.put(parameter, value)
            self.fixed.add(parameter.get_node().get_name())

    def content(self, output: Any) -> NDArray[Any] | None:
        """The content of an output, or None if it depends on the image."""
        return self.constants.array(output)

    def _parameter(self, port: Any) -> None:
        value = ir.Value(name=unique(port_name(port), self.names))
        _describe(value, port, "input")
        self.graph.inputs.append(value)
        self.values[port.get_node().get_name(), 0] = value

    def _is_fixed(self, node: Any) -> bool:
        """Whether the node depends on no input; it is then computed when it is asked for."""
        before = [node.input_value(i).get_node().get_name() for i in range(node.get_input_size())]
        if node.get_type_name() == "Constant" or known_sizes(node) is not None:
            return True
        return foldable(node) and bool(before) and self.fixed.issuperset(before)

    def _node(self, node: Any) -> None:
        kind = node.get_type_name()
        if kind in _STATES:
            raise GraphError(
                f"{called(node)}: has no equal in a bundle; a state between images can't be explained; "
                "export the network without it"
            )
        if kind in _RANDOM:
            raise GraphError(f"{called(node)}: {CHANCE}")
        if kind in _VIDEO:
            raise GraphError(
                f"{called(node)}: takes a video frame in {kind[:4]}, and images are read as RGB or BGR; give the model as it was "
                f"before set_color_format({kind[:4]}_...) of PrePostProcessor"
            )
        if kind in _WHOLE:
            self.values |= {(node.get_name(), i): value for i, value in enumerate(whole(self, node))}
            return
        function = rules.get(kind)
        if function is None:
            raise GraphError(f"{called(node)}: {_without_rule(node)}")
        before = len(self.graph)
        layer = Layer(node, self.constants, self.value)
        result = function(Ops(self.emit, layer.name, np.dtype(np.float32)), layer)
        values = [result] if isinstance(result, ir.Value) else list(result)
        new = {value for emitted in self.graph[before:] for value in emitted.outputs}
        scopes = _scopes(layer.name, self.root)
        for emitted in self.graph[before:] if scopes else ():
            emitted.metadata_props[_SCOPES] = scopes
        for port, value in enumerate(values):
            if value in new:
                self._name(value, layer.name if port == 0 else f"{layer.name}/{port}")
            self.values[node.get_name(), port] = value

    def _name(self, value: ir.Value, name: str) -> None:
        """Name a value, and its node. TFLite's converter joins the names of operators that it merges, the last one first."""
        value.name = unique(name.partition(";")[0], self.names)
        producer = value.producer()
        if producer is not None and producer.outputs[0] is value:
            producer.name = unique(name, self.names) if ";" in name else value.name

    def value(self, output: Any) -> ir.Value:
        """The ONNX value of an output."""
        key = output.get_node().get_name(), output.get_index()
        if key in self.values:
            return self.values[key]
        array = self.constants.array(output)
        if array is not None:
            self.values[key] = self.emit.constant(array, readable(output.get_node().get_friendly_name()))
        elif key[0] in self.fixed:  # OpenVINO can't compute it; the runtime does
            self._node(output.get_node())
        if key not in self.values:
            raise GraphError(f"{called(output.get_node())}: its output {output.get_index()} has no equal in ONNX")
        return self.values[key]

    def _output(self, value: ir.Value, name: str, port: Any) -> None:
        if value.producer() is None or value in self.graph.outputs:
            value = self.emit.node("Identity", [value], f"{name}/output")
        value.name = name
        _describe(value, port, "output")
        self.graph.outputs.append(value)


def _without_rule(node: Any) -> str:
    """Why an operator has no rule, and what to do."""
    kind = node.get_type_name()
    original = "or give the ONNX file that the IR was made of"
    if kind == "DetectionOutput":
        return (
            "chooses boxes inside the graph in a form that xai-export does not read (boxes for each class, priors in pixels, "
            "scores of a second stage, or classes counted without the background); convert the network up to its decoded boxes and "
            f"scores (--decoder boxes-scores), {original}"
        )
    if kind.startswith(_SUPPRESSION) or kind in _REGIONS:
        return (
            "chooses or reads boxes inside the graph, which xai-export does not read from an OpenVINO IR; "
            f"convert the network up to its decoded boxes and scores (--decoder boxes-scores), {original}"
        )
    if kind in _DECODERS:
        return "chooses letters inside the graph, after the scores; convert the network up to what it reads"
    if kind.startswith(_TABLES):
        return "is for texts, tables or training; give the network without it, up to its scores of an image"
    if node.get_type_info().version_id == "extension":
        return f"is an extension's operator, which only its author's library computes; convert the network without it, {original}"
    return (
        f"xai-export has no rule for operators of this type ({node.get_type_info().version_id}); convert the network without "
        f"it, or add one in {RULES}"
    )


def _describe(value: ir.Value, port: Any, what: str) -> None:
    """Type and shape of an input or output; a size that is not known is symbolic.

    Raises:
        GraphError: Not even the number of dimensions is known.
    """
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        raise GraphError(
            f"the number of dimensions of the {what} {value.name!r} is not known; give the image's size with "
            "--input-shape C,H,W, or the model a fixed shape: "
            "model.reshape([1, 3, 224, 224])"
        )
    value.type = ir.TensorType(ir.DataType.from_numpy(kind_of(port.get_element_type(), port.get_node())))
    value.shape = ir.Shape([d.get_length() if d.is_static else f"{value.name}_{i}" for i, d in enumerate(shape)])


def _scopes(name: str, root: str) -> str:
    """The modules that a node lies in, from its name.

    OpenVINO's frontend for torch writes "__module.layer4.1.relu/aten::relu_/Relu", TensorFlow "net/block_1/conv/BiasAdd" with the
    root "net/".
    """
    if root and name.startswith(root):
        *parts, call = name.partition(";")[0].removeprefix(root).split("/")
        return str(["", *("/".join(parts[: i + 1]) for i in range(len(parts))), call])
    module, _, call = name.partition("/")
    if not module.startswith("__module") or not call:
        return ""
    parts = module.split(".")[1:]
    return str(["", *(".".join(parts[: i + 1]) for i in range(len(parts))), call])
