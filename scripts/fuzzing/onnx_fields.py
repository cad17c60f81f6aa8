"""Changes of an ONNX graph's fields, of whatever kind they are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from .mutations import mutate_bytes

_INTEGERS = (0, 1, 2, 3, 5, 7, 16, 100, 1000, 65535, 10**6, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -1, -2, -100, -(2**63))
_FLOATS = (0.0, 1.0, -1.0, 1e-38, 1e38, float("inf"), float("nan"))
_OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
_WORDS = ("", "x", "activation", "logits", "image", "ai.onnx", "com.microsoft", "ai.onnx.ml", "N", "body")
_CONSTANTS = 50  # numbers of a tensor: weights are data, their values matter little


def mutate_file(data: bytes, others: Sequence[bytes], rng: random.Random, share: float) -> bytes:
    """An ONNX file with fields changed, for that share of the inputs; else, and if it can't be parsed, with bytes changed."""
    if rng.random() < share:
        try:
            changed: bytes = mutate_onnx(onnx.ModelProto.FromString(data), rng).SerializeToString()
            return changed
        except (DecodeError, EncodeError, ValueError):
            pass
    return mutate_bytes(data, others, rng)


def mutate_onnx(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """A copy of the graph with one to three of its fields changed: values, names, operators, lists."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        message, descriptor = _pick(changed, rng)
        if descriptor is None:
            continue
        if descriptor.is_repeated:
            _change_list(message, descriptor, changed, rng)
        elif descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            message.ClearField(descriptor.name)
        else:
            _set(message, descriptor, changed, rng)
    return changed


def _pick(model: Any, rng: random.Random) -> tuple[Any, Any]:
    """A field of the graph: down from the top, a step at a time, so that a node weighs as much as all tensors."""
    message: Any = model.graph if rng.random() < 0.9 else model
    while True:
        fields = [descriptor for descriptor, _ in message.ListFields()]
        if rng.random() < 0.1:
            fields = list(message.DESCRIPTOR.fields)
        if not fields:
            return message, None
        descriptor = rng.choice(fields)
        if descriptor.type != FieldDescriptor.TYPE_MESSAGE or rng.random() < 0.15:
            return message, descriptor
        value = getattr(message, descriptor.name)
        if descriptor.is_repeated:
            if not value:
                return message, descriptor
            message = rng.choice(value)
        else:
            message = value


def _change_list(message: Any, descriptor: Any, model: onnx.ModelProto, rng: random.Random) -> None:
    values = getattr(message, descriptor.name)
    change = rng.randrange(5)
    if change == 0 and len(values):
        del values[rng.randrange(len(values))]
    elif change == 1 and len(values):
        one = rng.choice(values)
        copies = rng.choice((1, 1, 2, 50))
        values.extend([one] * copies)
    elif change == 2 and len(values) > 1:
        kept = list(values)
        copied = [_copy(value) for value in kept]
        rng.shuffle(copied)
        del values[:]
        values.extend(copied)
    elif descriptor.type == FieldDescriptor.TYPE_MESSAGE:
        values.add()
    elif len(values):
        values[rng.randrange(min(len(values), _CONSTANTS))] = _value(descriptor, model, rng)
    else:
        values.append(_value(descriptor, model, rng))


def _copy(value: Any) -> Any:
    if not isinstance(value, Message):
        return value
    copied = type(value)()
    copied.CopyFrom(value)
    return copied


def _set(message: Any, descriptor: Any, model: onnx.ModelProto, rng: random.Random) -> None:
    value = _value(descriptor, model, rng)
    if descriptor.name == "raw_data" and len(message.raw_data):
        raw = bytearray(message.raw_data)
        change = rng.randrange(3)
        if change == 0:
            raw = raw[: rng.randrange(len(raw))]
        elif change == 1 and len(raw) >= 8:
            place = rng.randrange(len(raw) // 8) * 8
            raw[place : place + 8] = rng.choice(_INTEGERS).to_bytes(8, "little", signed=True)
        else:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        value = bytes(raw)
    setattr(message, descriptor.name, value)


def _value(descriptor: Any, model: onnx.ModelProto, rng: random.Random) -> Any:
    kind = descriptor.type
    if kind == FieldDescriptor.TYPE_STRING:
        if descriptor.name == "op_type":
            return rng.choice(_OPERATORS)
        names = [name for node in model.graph.node for name in (*node.input, *node.output)]
        return rng.choice((*_WORDS, *rng.sample(names, min(10, len(names)))))
    if kind == FieldDescriptor.TYPE_BYTES:
        return rng.choice((b"", b"same", b"SAME_UPPER", rng.randbytes(rng.choice((1, 4, 8, 64)))))
    if kind in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice(_FLOATS)
    if kind == FieldDescriptor.TYPE_ENUM:
        return rng.choice([value.number for value in descriptor.enum_type.values])
    number = rng.choice((*_INTEGERS, rng.randint(0, 30), rng.randint(0, 30)))
    if kind in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64):
        return number & 0x7FFFFFFF
    return number
