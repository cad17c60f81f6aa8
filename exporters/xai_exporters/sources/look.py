"""A first look at a network before any long step: its inputs and outputs, its operators, its number formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from ..errors import GraphError, RequestError, SeveralOutputsError
from ..passes.network_inputs import free_inputs
from ..passes.supported import require_known_operators, require_known_opset
from ..request import Request
from . import TrainedNetwork

_OTHER_FLOATS = (onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)
_OF_ANOTHER_TYPE = ("CastLike", "DequantizeLinear", "QuantizeLinear", "Shape", "Size")
"""Operators whose result may have another type than their first input, beside Cast and those that give truth values or places."""

_FORMS = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_SHARES = ("Softmax", "LogSoftmax", "Sigmoid")


def look(network: TrainedNetwork, request: Request) -> None:
    """Refuse early a network with a fault that no pass will change.

    Args:
        network: The network as it was read.
        request: The export; its `output` is checked.

    Raises:
        RequestError: There are several outputs and none is named, or none has the name.
        GraphError: No input, no output, none with one score per class, an input or an output that is no tensor of
            numbers, an operator that ONNX does not have, an opset newer than the onnx package knows, or weights that no runtime
            computes with.
    """
    graph = network.proto.graph
    inputs = [value.name for value in free_inputs(graph)]
    if not inputs:
        raise GraphError("the network has 0 inputs (none); xai-export explains networks of images")
    outputs = [value.name for value in graph.output if value.name not in network.taps.values()]
    if not outputs:
        raise GraphError("the network has no output; export it with its scores as one")
    if request.output is None and len(outputs) > 1 and not _suppresses(graph):
        _refuse_several([value for value in graph.output if value.name in outputs])
    if request.output is not None and request.output not in outputs:
        raise RequestError(f"the network has no output or inner tensor {request.output!r}; it has {', '.join(outputs)}")
    for name in inputs:
        _check_types(graph, name, request.output or outputs[0])
    require_known_opset(network.proto)
    require_known_operators(network.proto)
    _check_weights(network.proto)


def beside_map(network: TrainedNetwork, request: Request) -> Request:
    """The request with the output that is explained, if the only other one is the network's own map."""
    outputs = [value.name for value in network.proto.graph.output if value.name not in network.taps.values()]
    if request.output is not None or len(outputs) != 2 or request.map not in outputs:
        return request
    return replace(request, output=next(name for name in outputs if name != request.map))


def beside_classes(network: TrainedNetwork, request: Request) -> tuple[TrainedNetwork, Request]:
    """The request with the scores as the output that is explained, if all other outputs are the ArgMax of these scores.

    Deployments often give the number of the best class, too. The network's notes say which output is explained.
    """
    graph = network.proto.graph
    outputs = {value.name: value for value in graph.output if value.name not in network.taps.values()}
    makers = {name: node for node in graph.node for name in node.output}
    chosen = {name: maker for name in outputs if (maker := makers.get(_sources(makers, name, _FORMS)[-1])) is not None}
    classes = [name for name, maker in chosen.items() if maker.op_type == "ArgMax"]
    scores = [name for name in outputs if name not in classes]
    if request.output is not None or not classes or len(scores) != 1 or _suppresses(graph):
        return network, request
    own = set(_sources(makers, scores[0], (*_FORMS, *_SHARES)))
    of_these = all(own & {*_sources(makers, chosen[name].input[0], (*_FORMS, *_SHARES))} for name in classes)
    if not of_these or len(outputs[scores[0]].type.tensor_type.shape.dim) == 3:  # rows of a detector
        return network, request
    note = f"{scores[0]!r} is explained; {' and '.join(map(repr, classes))} tells the best class."
    return replace(network, notes=(*network.notes, note)), replace(request, output=scores[0])


def _sources(makers: Mapping[str, onnx.NodeProto], name: str, through: Sequence[str]) -> list[str]:
    """A tensor, and those of which it is made by some operators of one input, the nearest first."""
    found = [name]
    while (node := makers.get(found[-1])) is not None and node.op_type in through:
        found.append(node.input[0])
    return found


def _suppresses(graph: onnx.GraphProto) -> bool:
    """Whether a graph suppresses boxes, also in a branch: its list of boxes is recognised once the graph is clean."""
    bodies = (attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    return any(node.op_type == "NonMaxSuppression" for node in graph.node) or any(map(_suppresses, bodies))


def _refuse_several(outputs: Sequence[onnx.ValueInfoProto]) -> None:
    """Refuse to choose an output for the user; the message names those that may hold scores: per class, or per class and position.

    Outputs [N,rows,entries] may be those of a detector, which is recognised once the graph is clean.

    Raises:
        SeveralOutputsError: There are such outputs.
        GraphError: There are none, so no choice helps.
    """
    sizes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in outputs}
    if any(len(dims) == 3 for dims in sizes.values()):
        return
    # [N,classes], or [N,classes,1,1] and the like, or [N,classes,H,W]; a size that the file leaves open counts as 1
    fitting = [name for name, dims in sizes.items() if sum(size > 1 for size in dims[1:]) <= 1 or len(dims) == 4]
    if fitting:
        raise SeveralOutputsError(fitting, [len(dims) for dims in sizes.values()])
    said = {name: ", ".join(["N", *(str(size or "?") for size in dims[1:])]) for name, dims in sizes.items()}
    shapes = ", ".join(f"{name} [{dims}]" for name, dims in said.items())
    raise GraphError(
        f"none of the network's outputs is one score per class, [N, classes] ({shapes}); export the classifier alone, or a "
        "detector with decoded boxes, up to its boxes and scores"
    )


def _check_types(graph: onnx.GraphProto, image: str, scores: str) -> None:
    """Refuse sequences, maps and texts. Passes need shapes, and a runtime's message would name operators that we added."""
    for kind, content, name, values in (
        ("input", "an image", image, graph.input),
        ("output", "scores", scores, graph.output),
    ):
        value = next(v for v in values if v.name == name)
        form = value.type.WhichOneof("value") or "tensor_type"
        if form != "tensor_type":
            raise GraphError(
                f"the {kind} {name!r} is no tensor but a {form.removesuffix('_type')}; export {content} as one tensor"
            )
        if value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            raise GraphError(f"the {kind} {name!r} holds texts; xai-export explains networks from an image to scores")


def _check_weights(model: onnx.ModelProto) -> None:
    """Refuse convolutions in double or bfloat16, which no runtime here computes. Small constants of these types do no harm."""
    kinds = {t.name: t.data_type for t in model.graph.initializer if len(t.dims) > 2}
    for name, kind in kinds.items():
        _refuse_other(kind, f"the weight {name!r}")
    # PyTorch's exporter merges BatchNorm into a convolution of bfloat16 with weights of float32: its input alone tells
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    for node in model.graph.node:
        kind = kinds.get(node.input[0], 0) if node.input else 0
        if node.op_type == "Conv":
            _refuse_other(kind, f"the convolution {node.name!r}")
        cast = next((a.i for a in node.attribute if node.op_type == "Cast" and a.name == "to"), kind)
        if node.op_type not in _OF_ANOTHER_TYPE:
            kinds.update(dict.fromkeys(node.output, cast))


def _refuse_other(kind: int, where: str) -> None:
    if kind in _OTHER_FLOATS:
        raise GraphError(
            f"the network computes in {onnx.TensorProto.DataType.Name(kind)} ({where}), in which runtimes have no "
            "convolutions; export it in float32 or float16"
        )
