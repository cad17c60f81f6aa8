"""The names of a TensorFlow graph's nodes, and a SavedModel whose functions give all their tensors.

The nodes of a SavedModel lie in functions, of which a graph sees only what they return. Therefore each function that the signature
`serving_default` calls gets every tensor of floats in it as a further result, each call passes them on, and the signature names
them. Nothing else is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .messages import CLASSES

FILE, VARIABLES = "saved_model.pb", "variables"
SIGNATURE = "serving_default"
_FLOAT = 1  # DataType.DT_FLOAT
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_PLAIN = ("Const", "Placeholder", "PlaceholderWithDefault", "VarHandleOp", "ReadVariableOp", "NoOp")  # hold no layer
_MOST = 20_000  # tensors: functions that call functions twice double them
_DEEPEST = 20  # calls in each other


def nodes(graph: bytes) -> list[str]:
    """The names of the nodes of a GraphDef that may be layers.

    Raises:
        ValueError: It is damaged.
    """
    return [str(node.name) for node in _parsed("Graph", graph).node if node.op not in _PLAIN][:_MOST]


def expose(saved_model: bytes) -> tuple[bytes, dict[str, str]]:
    """A SavedModel that gives more, and the names of the nodes whose tensors it gives, by the outputs' names.

    Raises:
        ValueError: It is damaged, or holds more tensors than any network.
    """
    model = _parsed("SavedModel", saved_model)
    names: dict[str, str] = {}
    for meta in model.meta_graphs:
        signature = next((entry.value for entry in meta.signature_def if entry.key == SIGNATURE), None)
        if signature is None:
            continue
        before = _before(meta.graph_def.node, [str(entry.value.name) for entry in signature.outputs])
        for reference, name in _Exposing(meta.graph_def).tensors(before, (), False, 0):
            output = signature.outputs.add(key=f"tensor_{len(names)}")
            names[output.key] = name
            output.value.name, output.value.dtype, output.value.tensor_shape.unknown_rank = reference, _FLOAT, 1
    return model.SerializeToString(), names


def _before(nodes: Sequence[Any], tensors: Sequence[str]) -> list[Any]:
    """The nodes on which some tensors depend: a graph holds those that save and restore it, too."""
    known, pending, kept = {str(node.name): node for node in nodes}, list(tensors), set()
    while pending:
        name = pending.pop().lstrip("^").partition(":")[0]
        if name in known and name not in kept:
            kept.add(name)
            pending += known[name].input
    return [node for node in nodes if node.name in kept]


class _Exposing:
    """The functions of one graph."""

    def __init__(self, graph: Any) -> None:
        self._functions = {str(function.signature.name): function for function in graph.library.function}
        self._given: dict[str, list[str]] = {}
        self._count = 0

    def tensors(
        self, nodes: Sequence[Any], results: Sequence[str], inside: bool, depth: int
    ) -> Iterator[tuple[str, str]]:
        """References to the tensors of floats among some nodes, with the names of their nodes; calls are changed.

        A reference is node:output:number in a function, and node:number outside.
        """
        used: dict[str, str] = {}  # the first output of each node as its readers name it
        for reference in (*results, *(reference for node in nodes for reference in node.input)):
            if reference.endswith(":0") and not reference.startswith("^"):
                used.setdefault(reference.partition(":")[0], reference)
        for node in nodes:
            attributes = {str(entry.key): entry.value for entry in node.attr}
            if node.op in _CALLS and {"f", "Tout"} <= attributes.keys():
                kinds = attributes["Tout"].list.type
                for name in self._function(str(attributes["f"].func.name), depth + 1):
                    yield f"{node.name}:output:{len(kinds)}" if inside else f"{node.name}:{len(kinds)}", name
                    kinds.append(_FLOAT)
            elif node.op not in _PLAIN and _is_float(attributes):
                reference = used.get(node.name, "") if inside else f"{node.name}:0"
                if reference:
                    yield reference, str(node.name)

    def _function(self, name: str, depth: int) -> list[str]:
        """The names of what a function gives from now on, in their order."""
        function = self._functions.get(name)
        if function is None or depth > _DEEPEST:
            return []
        if name not in self._given:
            self._given[name] = []  # a function that calls itself gives nothing more
            results = [str(entry.value) for entry in function.ret]
            for reference, layer in list(self.tensors(function.node_def, results, True, depth)):
                argument = function.signature.output_arg.add(name=f"tensor_{len(self._given[name])}", type=_FLOAT)
                function.ret.add(key=argument.name, value=reference)
                self._given[name].append(layer)
        self._count += len(self._given[name])
        if self._count > _MOST:
            raise ValueError(f"its functions hold more than {_MOST} tensors")
        return self._given[name]


def _is_float(attributes: Mapping[str, Any]) -> bool:
    """Whether a node computes with floats; a type that is not written is the operator's own, which for MaxPool is float."""
    kinds = [attributes[key].type for key in ("T", "dtype") if key in attributes]
    return not kinds or _FLOAT in kinds


def _parsed(kind: str, data: bytes) -> Any:
    try:
        return CLASSES[kind].FromString(data)
    except Exception as error:  # protobuf's types of errors depend on its implementation
        raise ValueError(f"protobuf can't parse it ({error})") from None
