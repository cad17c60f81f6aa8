"""A TFLite file as OpenVINO's reader needs it: what other runtimes read is written in another way.

Names: OpenVINO finds a tensor by its name, but names are optional, and several tensors may share one (files for microcontrollers
are stripped of them). A tensor without a name of its own gets one.

Axes of quantisation: some converters note for a bias the axis of its convolution's weights: quantized_dimension 3 of a tensor with
1 dimension. TensorFlow Lite Micro reads them, as no kernel looks at a bias's scales; today's LiteRT does not. An axis that a tensor
does not have becomes its last one.

FlatBuffers' offsets only point forward, so that a table that gets a field is written again at the file's end, with all that it
refers to, and the list of tensors points there.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable

from .flatbuffer import Table

_SUBGRAPHS, _TENSORS = 2, 0
_NAME, _QUANTIZATION, _SHAPE = 3, 4, 0  # of Tensor
_AXIS = 6  # of QuantizationParameters
_LISTS = {_SHAPE: "<i", 7: "<i"}  # of Tensor: field -> its elements; 7: shape_signature
_SCALARS = {1: "<b", 2: "<I", 5: "<B", 8: "<B"}  # type, buffer, is_variable, has_rank
_RARE = (6, 9)  # sparsity, variant_tensors
_QUANTIZATION_LISTS = {0: "<f", 1: "<f", 2: "<f", 3: "<q"}  # min, max, scale, zero_point
_DETAILS = 5  # of custom quantisation, which no reader knows

_Write = Callable[[bytearray], int]
"""Appends an object to a buffer, and returns its place."""


def readable(data: bytes) -> bytes:
    """The file's bytes, changed where OpenVINO's reader needs it; the same object if nothing has to be changed.

    Tensors with sparsity or custom quantisation are left as they are.

    Raises:
        ValueError: The file is damaged.
    """
    graphs = list(Table.root(data).tables(_SUBGRAPHS))
    new = bytearray()
    for graph in graphs:
        tensors = list(graph.entries(_TENSORS))
        _set_axes([table for _, table in tensors], data, new)
        count = Counter(table.text(_NAME) for _, table in tensors)
        taken, seen = set(count), Counter[str]()
        for i, (place, table) in enumerate(tensors):
            name = table.text(_NAME)
            seen[name] += 1
            if name and seen[name] == 1:
                continue
            if (fields := _fields(table)) is None:
                continue
            own = _free(f"{name or 'tensor'}_{i}", taken)
            new = new or bytearray(data)
            start = _table({**fields, _NAME: _text(own)})(new)
            struct.pack_into("<I", new, place, start - place)
    return bytes(new) if new else data


def _set_axes(tensors: list[Table], data: bytes, new: bytearray) -> None:
    """Write the last axis over one that its tensor does not have; `new` becomes a copy of the file then.

    Tensors may share their parameters. Those that a tensor with this axis reads are left as they are.
    """
    stated = []
    for table in tensors:
        quantised, rank = table.table(_QUANTIZATION), len(table.numbers(_SHAPE, "<i"))
        if quantised is not None and rank and (at := quantised.place(_AXIS)) is not None:
            stated.append((at, quantised.number(_AXIS, "<i"), rank))
    read = {at for at, axis, rank in stated if axis < rank}
    for at, axis, rank in stated:
        if axis >= rank and at not in read:
            if not new:
                new += data
            struct.pack_into("<i", new, at, rank - 1)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _fields(table: Table) -> dict[int, bytes | _Write] | None:
    """What a tensor's table holds, but its name; None if it holds what is not written again."""
    if any(table.place(field) is not None for field in _RARE):
        return None
    fields: dict[int, bytes | _Write] = _plain(table, _SCALARS)
    fields |= _listed(table, _LISTS)
    quantised = table.table(_QUANTIZATION)
    if quantised is not None:
        if quantised.place(_DETAILS) is not None:
            return None
        axis = _plain(quantised, {_AXIS: "<i"})
        fields[_QUANTIZATION] = _table({**axis, **_listed(quantised, _QUANTIZATION_LISTS)})
    return fields


def _plain(table: Table, forms: dict[int, str]) -> dict[int, bytes | _Write]:
    return {n: struct.pack(form, table.number(n, form)) for n, form in forms.items() if table.place(n) is not None}


def _listed(table: Table, forms: dict[int, str]) -> dict[int, bytes | _Write]:
    return {n: _list(table.numbers(n, form), form) for n, form in forms.items() if table.place(n) is not None}


def _list(values: list[float], form: str) -> _Write:
    """A vector: the number of elements, then they; they are aligned to their size."""

    def write(buffer: bytearray) -> int:
        buffer += bytes(-(len(buffer) + 4) % struct.calcsize(form))
        place = len(buffer)
        buffer += struct.pack(f"<I{len(values)}{form[1]}", len(values), *values)
        return place

    return write


def _text(text: str) -> _Write:
    def write(buffer: bytearray) -> int:
        buffer += bytes(-len(buffer) % 4)
        place, content = len(buffer), text.encode()
        buffer += struct.pack("<I", len(content)) + content + b"\0"
        return place

    return write


def _table(fields: dict[int, bytes | _Write]) -> _Write:
    """A table: its vtable, then itself, each field in 4 bytes, then what it refers to."""

    def write(buffer: bytearray) -> int:
        numbers = sorted(fields)
        buffer += bytes(-len(buffer) % 4)
        vtable, size = len(buffer), 4 + 2 * (numbers[-1] + 1 if numbers else 0)
        slots = {field: 4 + 4 * i for i, field in enumerate(numbers)}
        places = [slots.get(field, 0) for field in range((size - 4) // 2)]
        buffer += struct.pack(f"<{2 + len(places)}H", size, 4 + 4 * len(numbers), *places)
        buffer += bytes(-len(buffer) % 4)
        start = len(buffer)
        buffer += struct.pack("<i", start - vtable)
        for field in numbers:
            value = fields[field]
            buffer += value.ljust(4, b"\0") if isinstance(value, bytes) else bytes(4)
        for field in numbers:
            value = fields[field]
            if not isinstance(value, bytes):
                slot = start + slots[field]
                struct.pack_into("<I", buffer, slot, value(buffer) - slot)
        return start

    return write
