"""Refuses ONNX files that would make a runtime read other files: tensors whose data lie outside the graph.

A walk over the protobuf wire format, without the package `onnx`: contents are skipped by their length, never copied.
"""

from __future__ import annotations

from .errors import IntegrityError, UnsafePathError

# message -> its fields that lead to tensors: field number -> message (onnx.proto)
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
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) do not occur in ONNX
_ORT_MAGIC = b"ORTM"  # ONNX Runtime's own format, which it recognises by these bytes at position 4


class _Malformed(Exception):
    """The bytes are no protobuf message."""


def check_graph(data: bytes, where: str) -> None:
    """Refuse a graph that refers to other files.

    Args:
        data: The bytes of an ONNX file.
        where: Its path, for messages.

    Raises:
        UnsafePathError: A tensor's data lie in another file.
        IntegrityError: Not an ONNX graph.
    """
    try:
        external = _has_external_data(data)
    except (_Malformed, IndexError):
        raise IntegrityError(f"{where}: is not an ONNX graph; export the network again") from None
    if external:
        raise UnsafePathError(f"{where}: a tensor's data lie in another file; a bundle's graphs hold their own data")


def _has_external_data(data: bytes) -> bool:
    if data[4:8] == _ORT_MAGIC:
        raise _Malformed
    graphs = 0
    pending = [("Model", 0, len(data))]  # a stack, not recursion: an attacker chooses the depth
    while pending:
        kind, position, end = pending.pop()
        graphs += kind == "Graph"
        children = _CHILDREN[kind]
        tensor = kind == "Tensor"
        while position < end:
            tag, position = _varint(data, position)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise _Malformed
            if wire == _VARINT:
                value, position = _varint(data, position)
                if tensor and number == _DATA_LOCATION and value:
                    return True
            elif wire == _LENGTH:
                length, position = _varint(data, position)
                if tensor and number == _EXTERNAL_DATA:
                    return True
                if number in children:
                    pending.append((children[number], position, position + length))
                position += length
            elif wire in (_FIXED32, _FIXED64):
                position += 4 if wire == _FIXED32 else 8
            else:
                raise _Malformed
        if position != end:
            raise _Malformed
    if not graphs:
        raise _Malformed
    return False


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at a position, and the position behind it."""
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while True:
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
        if shift > 63:
            raise _Malformed
