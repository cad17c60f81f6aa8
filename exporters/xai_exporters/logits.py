"""Find the logits: what the network computes before a final Softmax or Sigmoid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from xai_deploy.bundle import Activation, Output

from .clean import CleanGraph
from .errors import GraphError, RequestError
from .graphs import descendants

# What may stand between the network's probability function and its output without changing which class is which.
_TRANSPARENT = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"}
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_PROBABILITIES = {"Softmax", "Sigmoid", "LogSoftmax", "HardSigmoid"}
_ACTIVATIONS: dict[str, Activation] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class Logits:
    """The explained output.

    Attributes:
        value: The logits, of shape [N,classes] or [N,classes,1,1] and the like.
        output: The network's output behind them.
        kind: What that output holds.
        activation: What stands between the logits and that output.
        classes: Number of classes.
    """

    value: ir.Value
    output: ir.Value
    kind: Literal["logits", "probabilities"]
    activation: Activation
    classes: int


def explained(outputs: Sequence[Output]) -> Output:
    """The output whose scores are explained."""
    return next(output for output in outputs if output.kind != "other")


def find_logits(clean: CleanGraph, name: str | None) -> Logits:
    """The logits behind the output `name` (None: the only output).

    Raises:
        RequestError: There are several outputs and none was named, or no such output.
        GraphError: The output is not one score per class.
    """
    outputs = {str(v.name): v for v in clean.graph.outputs}
    if name is None and len(outputs) > 1:
        raise RequestError(f"the network has several outputs; choose one with --output: {', '.join(outputs)}")
    if name is not None and name not in outputs:
        raise RequestError(f"the network has no output {name!r}; it has {', '.join(outputs)}")
    output = outputs[name] if name is not None else clean.graph.outputs[0]
    value, probability = output, None
    behind = output
    while (producer := behind.producer()) is not None and producer.inputs[0] is not None:
        behind = producer.inputs[0]
        if producer.op_type in _PROBABILITIES:
            value, probability = behind, producer.op_type
            break
        if producer.op_type not in _TRANSPARENT:
            break
    while value.dtype not in _FLOATS and (producer := value.producer()) is not None and producer.inputs[0] is not None:
        if producer.op_type not in _TRANSPARENT:
            break
        value = producer.inputs[0]  # behind a final QuantizeLinear or Cast: scores, not codes
    classes = _classes(clean, value)
    if classes is None:
        shape = clean.shapes.per_image(value.name)
        raise GraphError(
            f"the output {output.name!r} has shape [N, {', '.join(map(str, shape or ('?',)))}]; a classifier gives one score "
            "per class. Name another with --output, or export the classifier alone"
        )
    # logarithms of probabilities are logits, too: the softmax of them is the probabilities
    kind: Literal["logits", "probabilities"] = "logits" if probability in (None, "LogSoftmax") else "probabilities"
    return Logits(value, output, kind, _ACTIVATIONS.get(probability or "", "none"), classes)


def drop_foreign_outputs(clean: CleanGraph, logits: Logits) -> tuple[str, ...]:
    """Take off the graph the outputs that are not one result per image: constants, statistics over the batch.

    Returns:
        Their names.
    """
    data = descendants(clean.graph.inputs)
    dropped = [
        v
        for v in clean.graph.outputs
        if v is not logits.output and (v not in data or clean.shapes.per_image(v.name) is None)
    ]
    for value in dropped:
        clean.graph.outputs.remove(value)
    return tuple(str(v.name) for v in dropped)


def _classes(clean: CleanGraph, value: ir.Value) -> int | None:
    """Scores per image, where all dimensions but one are 1."""
    shape = clean.shapes.per_image(value.name)
    if shape == ():
        return 1 if value.dtype in _FLOATS else None  # a binary head, squeezed; integers are a class already
    if shape is None or sum(d != 1 for d in shape) > 1:
        return None
    return max(shape)
