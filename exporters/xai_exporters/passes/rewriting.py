"""What passes that replace nodes of an ONNX file have in common: names, constants, and the list of nodes that grows."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from ..graph.emit import unique

OURS = ("", "ai.onnx")
"""The names of the standard operators' domain."""


class Rewriting:
    """A copy of a model whose nodes are replaced one by one.

    Attributes:
        model: The copy.
        graph: Its graph.
        constants: Initializers and Constant nodes by name.
        nodes: The nodes so far; `finish` puts them in place of the graph's.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self.constants = {t.name: t for t in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute and (array := _stated(node.attribute[0])) is not None:
                self.constants[node.output[0]] = array
            elif (
                node.op_type == "Identity" and node.input[0] in self.constants
            ):  # torch writes it for weights that are shared
                self.constants[node.output[0]] = self.constants[node.input[0]]
        self.taken = {n for node in self.graph.node for n in (*node.input, *node.output)} | set(self.constants)
        self.nodes: list[NodeProto] = []

    def name(self, like: str) -> str:
        """A name that no tensor has, like the one given."""
        return unique(like, self.taken)

    def add(self, op: str, inputs: list[str], like: str, out: str = "", **attributes: Any) -> str:
        """Append a node; returns its output."""
        out = out or self.name(f"{like}/{op}")
        node = helper.make_node(op, inputs, [out], name=self.name(f"{like}.{op.lower()}"), **attributes)
        self.nodes.append(node)
        return out

    def constant(self, array: Any, like: str) -> str:
        """Register an initializer; returns its name."""
        name = self.name(like)
        self.constants[name] = numpy_helper.from_array(np.asarray(array), name)
        self.graph.initializer.append(self.constants[name])
        return name

    def value(self, name: str) -> np.ndarray[Any, Any] | None:
        """The array of a constant; None for a tensor that is computed."""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def finish(self) -> onnx.ModelProto:
        """The model with the new nodes."""
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        del self.graph.value_info[:]
        self.model.ir_version = max(self.model.ir_version, 8)  # before IR 4 every initializer has to be an input, too
        return self.model


_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def _stated(attribute: onnx.AttributeProto) -> onnx.TensorProto | None:
    """A Constant's tensor; None for text and sparse tensors."""
    if attribute.name == "value":
        return attribute.t
    kind = _NUMBERS.get(attribute.name)
    return None if kind is None else numpy_helper.from_array(np.array(helper.get_attribute_value(attribute), kind))


def inputs_of(node: NodeProto, count: int) -> list[str]:
    """The inputs' names, filled up to `count`; "" stands for an input that is left out."""
    return [*node.input, *[""] * (count - len(node.input))]


def attribute_of(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or the operator's default."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def fits(array: np.ndarray[Any, Any], kind: Any) -> bool:
    """Whether all entries are whole numbers of an integer type."""
    limits, values = np.iinfo(kind), array.astype(np.float64)
    return bool((values == np.round(values)).all() and (values >= limits.min).all() and (values <= limits.max).all())
