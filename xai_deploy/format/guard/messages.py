"""An ONNX file as small objects: nodes, attributes, and tensors without their contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import unpack_from
from typing import Any

from ...errors import UnsafeGraphError, UnsafePathError
from .wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Malformed,
    count_varints,
    fields,
    refuse_own_format,
    signed,
    text,
    varints,
)

MOST = 100_000  # nodes, tensors, and names of one node
FEW = 1024  # elements; typed fields (float_data, int64_data, ...) with more of them are counted but not read
STANDARD = ("", "ai.onnx")  # the domain of ONNX's own operators, by either of its names


@dataclass(slots=True)
class Tensor:
    """A tensor. Its data are bytes, from position `raw[0]` to `raw[1]` of the file, or `typed`: field number -> elements there."""

    name: str = ""
    dtype: int = 0
    dims: list[int] = field(default_factory=list)
    raw: tuple[int, int] | None = None
    typed: dict[int, int] = field(default_factory=dict)
    integers: list[int] = field(default_factory=list)  # of int32_data, int64_data and uint64_data, if at most `FEW`
    floats: list[float] = field(default_factory=list)  # of float_data and double_data, likewise


@dataclass(slots=True)
class Node:
    """A node; attributes by name."""

    op: str = ""
    name: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"node {short(self.name or (self.outputs[0] if self.outputs else ''))} ({short(self.op)})"


@dataclass(slots=True)
class ParsedPort:
    """An input or an output. A size is None if it is symbolic; `dims` is None if the graph does not say the sizes."""

    name: str = ""
    dtype: int = 0
    dims: list[int | None] | None = None


@dataclass(slots=True)
class ParsedGraph:
    """A graph, and the opset of the standard operators that it uses."""

    opset: int = 0
    nodes: list[Node] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    inputs: list[ParsedPort] = field(default_factory=list)
    outputs: list[ParsedPort] = field(default_factory=list)


def short(name: str) -> str:
    """A name from a stranger's file, for a message: quoted, of bounded length."""
    return repr(name if len(name) <= 60 else name[:57] + "...")


def listed(sizes: Sequence[int | str | None]) -> str:
    """Sizes for a message: `[N, 3, ?]`; None is a size that is not fixed. At most 9 sizes are shown."""
    return f"[{', '.join('?' if size is None else str(size) for size in sizes[:9])}]"


def parse(data: bytes) -> ParsedGraph:
    """The graph of an ONNX file.

    Raises:
        Malformed, IndexError: The bytes are no ONNX file.
        UnsafeGraphError: It holds functions, subgraphs, training or sparse tensors, which a bundle's graphs may not hold.
        UnsafePathError: A tensor's data lie in another file.
    """
    refuse_own_format(data)
    graph, opsets = None, []
    # ModelProto: 7 graph, 8 opset_import, 20 training_info, 25 functions
    for number, wire, start, end in fields(data, 0, len(data)):
        if number in (7, 8, 20, 25) and wire != LENGTH:
            raise Malformed
        if number == 7:
            if graph is not None:  # protobuf would merge the two
                raise Malformed
            graph = _graph(data, start, end)
        elif number == 8:
            opsets.append(_opset(data, start, end))
        elif number == 20:
            raise UnsafeGraphError("it holds a training graph")
        elif number == 25:
            raise UnsafeGraphError("it holds functions; a bundle's graphs hold only standard operators")
    if graph is None:
        raise Malformed
    if len(opsets) != 1 or opsets[0][0] not in STANDARD:
        imports = ", ".join(f"{short(domain or 'ai.onnx')} {version}" for domain, version in opsets[:3]) or "none"
        raise UnsafeGraphError(f"it may import only the standard operators, and only once; it imports {imports}")
    graph.opset = opsets[0][1]
    return graph


def _opset(data: bytes, start: int, end: int) -> tuple[str, int]:
    domain, version = "", 0
    for number, wire, first, last in fields(data, start, end):
        if number == 1:
            domain = _text(data, wire, first, last)
        elif number == 2:
            version = _number(wire, first)
    return domain, version


def _graph(data: bytes, start: int, end: int) -> ParsedGraph:
    graph = ParsedGraph()
    # GraphProto: 1 node, 5 initializer, 11 input, 12 output, 15 sparse_initializer
    lists: dict[int, tuple[list[Any], Callable[[bytes, int, int], Any]]] = {
        1: (graph.nodes, _node),
        5: (graph.tensors, tensor),
        11: (graph.inputs, _port),
        12: (graph.outputs, _port),
    }
    for number, wire, first, last in fields(data, start, end):
        if number in (*lists, 15) and wire != LENGTH:
            raise Malformed
        if number == 15:
            raise UnsafeGraphError("it holds a sparse tensor")
        if number in lists:
            entries, read = lists[number]
            entries.append(read(data, first, last))
            if len(entries) > MOST:
                raise UnsafeGraphError(f"it has more than {MOST} nodes or tensors")
    return graph


def _node(data: bytes, start: int, end: int) -> Node:
    node = Node()
    # NodeProto: 1 input, 2 output, 3 name, 4 op_type, 5 attribute, 7 domain, 8 overload (of a function)
    for number, wire, first, last in fields(data, start, end):
        if number == 1:
            node.inputs.append(_text(data, wire, first, last))
        elif number == 2:
            node.outputs.append(_text(data, wire, first, last))
        elif number == 3:
            node.name = _text(data, wire, first, last)
        elif number == 4:
            node.op = _text(data, wire, first, last)
        elif number == 7:
            node.domain = _text(data, wire, first, last)
        elif number == 5:
            if wire != LENGTH:
                raise Malformed
            name, value = _attribute(data, first, last)
            if name in node.attributes:
                raise UnsafeGraphError(f"{node} has the attribute {short(name)} twice")
            node.attributes[name] = value
        elif number == 8 and last > first:
            raise UnsafeGraphError(f"{node} calls a function")
        if max(len(node.inputs), len(node.outputs), len(node.attributes)) > MOST:
            raise UnsafeGraphError(f"{node} has more than {MOST} inputs")
    return node


# AttributeProto: number of an allowed field -> attribute type (float, int, string, tensor, floats, ints, strings)
_KINDS = {2: 1, 3: 2, 4: 3, 5: 4, 7: 6, 8: 7, 9: 8}
_FORBIDDEN = {
    6: "a graph",
    10: "tensors",
    11: "graphs",
    14: "a type",
    15: "types",
    22: "a sparse tensor",
    23: "sparse tensors",
}
# attribute type -> its value if the field is absent: an empty list has no field, and proto3 does not write zeros
_EMPTY: dict[int, Any] = {1: 0.0, 2: 0, 3: b"", 6: [], 7: [], 8: []}


def _attribute(data: bytes, start: int, end: int) -> tuple[str, Any]:
    name, kind = "", 0  # fields 1 and 20; 21 is ref_attr_name
    values: dict[int, Any] = {}
    for number, wire, first, last in fields(data, start, end):
        if number == 1:
            name = _text(data, wire, first, last)
        elif number == 20:
            kind = _number(wire, first)
        elif number in _FORBIDDEN:
            raise UnsafeGraphError(f"the attribute {short(name)} of a node holds {_FORBIDDEN[number]}")
        elif number == 21:
            raise UnsafeGraphError(f"the attribute {short(name)} of a node refers to a function's")
        elif number in _KINDS:
            _collect(values, number, data, wire, first, last)
    if kind == 0 and len(values) == 1:  # files of ONNX's first versions do not state the type
        kind = _KINDS[next(iter(values))]
    if kind not in _KINDS.values() or any(_KINDS[number] != kind for number in values):
        raise UnsafeGraphError(f"the attribute {short(name)} of a node is not of the type that it says")
    if not values and kind not in _EMPTY:
        raise Malformed
    return name, next(iter(values.values()), _EMPTY.get(kind))


def _collect(values: dict[int, Any], number: int, data: bytes, wire: int, first: int, last: int) -> None:
    """Add one field of an attribute to the fields read before. A list comes packed (LENGTH) or one element at a time."""
    if number == 2 and wire == FIXED32:
        values[2] = unpack_from("<f", data, first)[0]
    elif number == 3 and wire == VARINT:
        values[3] = signed(first)
    elif number == 4 and wire == LENGTH:
        values[4] = data[first:last]
    elif number == 5 and wire == LENGTH and 5 not in values:
        values[5] = tensor(data, first, last)
    elif number == 7 and wire in (FIXED32, LENGTH) and (last - first) % 4 == 0:
        values.setdefault(7, []).extend(unpack_from(f"<{(last - first) // 4}f", data, first))
    elif number == 8:
        values.setdefault(8, []).extend(varints(data, wire, first, last))
    elif number == 9 and wire == LENGTH:
        values.setdefault(9, []).append(data[first:last])
    else:
        raise Malformed


def tensor(data: bytes, start: int, end: int) -> Tensor:
    """A tensor (TensorProto) without its contents."""
    # 1 dims, 2 data_type, 3 segment, 4 float_data, 5 int32_data, 6 string_data, 7 int64_data, 8 name, 9 raw_data,
    # 10 double_data, 11 uint64_data, 13 external_data, 14 data_location
    made = Tensor()
    for number, wire, first, last in fields(data, start, end):
        if number == 1:
            made.dims.extend(varints(data, wire, first, last))
        elif number == 2:
            made.dtype = _number(wire, first)
        elif number == 8:
            made.name = _text(data, wire, first, last)
        elif number == 9 and wire == LENGTH:
            made.raw = first, last
        elif number in (4, 10):
            _fixed(made, number, data, wire, first, last)
        elif number in (5, 7, 11):
            made.typed[number] = made.typed.get(number, 0) + count_varints(data, wire, first, last)
            if made.typed[number] <= FEW:
                made.integers.extend(varints(data, wire, first, last))
        elif number == 13 or (number == 14 and (wire != VARINT or first)):
            raise UnsafePathError("a tensor's data lie in another file; a bundle's graphs hold their own data")
        elif number in (3, 6, 9):
            raise UnsafeGraphError(f"the tensor {short(made.name)} holds strings or segments")
    return made


def _fixed(made: Tensor, number: int, data: bytes, wire: int, first: int, last: int) -> None:
    size = 4 if number == 4 else 8
    if wire not in (FIXED32 if size == 4 else FIXED64, LENGTH) or (last - first) % size:
        raise Malformed
    count = (last - first) // size
    made.typed[number] = made.typed.get(number, 0) + count
    if made.typed[number] <= FEW:
        made.floats.extend(unpack_from(f"<{count}{'f' if size == 4 else 'd'}", data, first))


def _port(data: bytes, start: int, end: int) -> ParsedPort:
    """An input or output (ValueInfoProto); it has to be a tensor."""
    port, types = ParsedPort(), 0
    for number, wire, first, last in fields(data, start, end):
        if number == 1:
            port.name = _text(data, wire, first, last)
        elif number == 2:
            if wire != LENGTH or types:
                raise Malformed
            types += 1
            _type(port, data, first, last)
    return port


def _type(port: ParsedPort, data: bytes, start: int, end: int) -> None:
    # TypeProto: 1 tensor_type (1 elem_type, 2 shape), 6 denotation; all other fields are sequences, maps and the like
    for number, wire, first, last in fields(data, start, end):
        if number == 1 and wire == LENGTH and not port.dtype:
            for inner, kind, begin, stop in fields(data, first, last):
                if inner == 1:
                    port.dtype = _number(kind, begin)
                elif inner == 2:
                    if kind != LENGTH or port.dims is not None:
                        raise Malformed
                    port.dims = [_dim(data, a, b) for n, w, a, b in fields(data, begin, stop) if _is(n, w)]
        elif number != 6:
            raise UnsafeGraphError(f"{short(port.name)} is no tensor")


def _is(number: int, wire: int) -> bool:
    """Whether a field of a shape (TensorShapeProto) is a dimension."""
    if number == 1 and wire != LENGTH:
        raise Malformed
    return number == 1


def _dim(data: bytes, start: int, end: int) -> int | None:
    size: int | None = None
    for number, wire, first, _last in fields(data, start, end):
        if number == 1:
            size = signed(_number(wire, first))
        elif number == 2:  # the size's name instead of its value; if a file has both, protobuf keeps the last one
            size = None
    return size


def _text(data: bytes, wire: int, first: int, last: int) -> str:
    if wire != LENGTH:
        raise Malformed
    return text(data, first, last)


def _number(wire: int, value: int) -> int:
    if wire != VARINT:
        raise Malformed
    return value
