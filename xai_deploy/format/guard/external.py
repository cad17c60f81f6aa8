"""Finds tensors whose data lie in other files, anywhere in an ONNX file: also in subgraphs and functions."""

from __future__ import annotations

from ...errors import UnsafePathError
from .wire import LENGTH, VARINT, Malformed, fields, refuse_own_format

# message -> {number of a field that leads to tensors: the message in that field}, as in onnx.proto
_CHILDREN: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor


def find_external_data(data: bytes) -> None:
    """Refuse a file that refers to other files.

    Raises:
        UnsafePathError: A tensor's data lie in another file.
        Malformed, IndexError: The bytes are not an ONNX file.
    """
    refuse_own_format(data)
    graphs = 0
    pending = [("Model", 0, len(data))]  # a stack, not recursion: an attacker chooses the depth
    while pending:
        kind, start, end = pending.pop()
        graphs += kind == "Graph"
        children = _CHILDREN[kind]
        for number, wire, first, last in fields(data, start, end):
            # data_location 0 (DEFAULT) is harmless. For a varint, `first` is the value.
            if kind == "Tensor" and (
                number == _EXTERNAL_DATA or (number == _DATA_LOCATION and wire == VARINT and first)
            ):
                raise UnsafePathError("a tensor's data lie in another file; a graph has to hold its own data")
            if wire == LENGTH and number in children:
                pending.append((children[number], first, last))
    if not graphs:
        raise Malformed
