"""Rewrite the quantisers of other domains as standard operators.

QONNX (qonnx.custom_op.general; brevitas and FINN write it, older ones in onnx.brevitas and finn), by its published definitions:

    Quant, IntQuant   y = (round(clip(x / s + z, least, greatest)) - z) s        least and greatest from bits, signed, narrow
    BipolarQuant      y = s where x >= 0, else -s
    Trunc             v = round(x / s + z) / 2^k, k = bits in - bits out;        y = (round(v) - z) s
                      version 2: 2^k = scale out / s (rounded to a power of 2), v is clipped, y = (round(v) - z / 2^k) scale out

AMD Quark (com.amd.quark, earlier com.vai.quantize): ExtendedQuantizeLinear and ExtendedDequantizeLinear are the standard operators
for more types of codes. For codes in float16 and bfloat16 they are Casts of x / s.

Codes of 8 bits become QuantizeLinear and DequantizeLinear. A rounding that is no QuantizeLinear gets a mark (`STRAIGHT`): gradients
pass it straight through. The result needs opset 18.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..errors import GraphError
from ..graph.reading import STRAIGHT, called
from .rewriting import Rewriting, attribute_of, fits, inputs_of

Array = NDArray[Any]
_QONNX = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general", "finn")
_QUARK = ("com.amd.quark", "com.vai.quantize")


@dataclass(frozen=True)
class _Mode:
    """How numbers are rounded: by `above` those from 0 on, by `below` the others; `offset` is moved away from 0 first."""

    above: str
    below: str
    offset: float = 0.0


_MODES = {
    "ROUND": _Mode("Round", "Round"),
    "HALF_EVEN": _Mode("Round", "Round"),
    "CEIL": _Mode("Ceil", "Ceil"),
    "FLOOR": _Mode("Floor", "Floor"),
    "UP": _Mode("Ceil", "Floor"),
    "DOWN": _Mode("Floor", "Ceil"),
    "ROUND_TO_ZERO": _Mode("Floor", "Ceil"),
    "HALF_UP": _Mode("Floor", "Ceil", 0.5),
    "HALF_DOWN": _Mode("Ceil", "Floor", -0.5),
}
_NUMPY: dict[str, Callable[[Array], Array]] = {"Round": np.round, "Ceil": np.ceil, "Floor": np.floor}


def to_standard_quantisers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, in opset 18 or later, without QONNX's and Quark's quantisers.

    Raises:
        GraphError: A quantiser that can't be rewritten; names the node.
    """
    return _Quantisers(model).run()


def foreign_quantisers(model: onnx.ModelProto) -> tuple[str, ...]:
    """The quantisers of a model that `to_standard_quantisers` rewrites."""
    return tuple(sorted({node.op_type for node in model.graph.node if _rule(node) is not None}))


def _rule(node: NodeProto) -> Callable[[_Quantisers, NodeProto], None] | None:
    if node.domain in _QONNX:
        return _QONNX_RULES.get(node.op_type)
    return _QUARK_RULES.get(node.op_type) if node.domain in _QUARK else None


class _Quantisers(Rewriting):
    def run(self) -> onnx.ModelProto:
        for node in list(self.graph.node):
            rule = _rule(node)
            if rule is None:
                self.nodes.append(node)
            else:
                rule(self, node)
        return self.finish()

    def quant(self, node: NodeProto) -> None:
        """See the module's docstring."""
        x, scale, zero, bits = inputs_of(node, 4)
        signed, narrow = (bool(attribute_of(node, name, 1)) for name in ("signed", "narrow"))
        width = self.value(bits)
        if width is None or width.size != 1 or not 0 < width.item() < 64:
            raise _refuse(node, "its bit width is not one constant number from 1 to 63")
        if width.item() == 1 and signed:
            low, high = -1.0, 1.0
        elif signed:
            low, high = -(2.0 ** (width.item() - 1)) + narrow, 2.0 ** (width.item() - 1) - 1
        else:
            low, high = 0.0, 2.0 ** width.item() - 1 - narrow
        bipolar = width.item() == 1 and signed
        mode, values = _mode(node), self.value(x)
        s, z = self.value(scale), self.value(zero)
        if values is not None and s is not None and z is not None:
            v = values / s + z
            codes = np.where(v >= 0, 1.0, -1.0) if bipolar else _rounded(np.clip(v, low, high), mode)
            self.weight(node, codes.astype(np.float32), s, z)
            return
        like = node.output[0]
        plain = s is not None and s.size == 1 and z is not None and not z.any() and mode.above == mode.below == "Round"
        kind = np.int8 if signed else np.uint8
        limits = np.iinfo(kind)
        if plain and not bipolar and limits.min <= low and high <= limits.max:
            assert s is not None
            pair = [self.constant(s.reshape(()), f"{like}/scale"), self.constant(kind(0), f"{like}/zero")]
            coded = self.add("QuantizeLinear", [x, *pair], like)
            if (low, high) != (limits.min, limits.max):
                # as QCDQ; with a Clip before QuantizeLinear, ONNX Runtime rounds a bias to multiples of s_x s_w
                coded = self.add("Clip", [coded, *(self.constant(kind(b), like) for b in (low, high))], like)
            self.add("DequantizeLinear", [coded, *pair], like, like)
            return
        v = x if s is not None and (s == 1).all() else self.add("Div", [x, scale], like)
        v = v if z is not None and not z.any() else self.add("Add", [v, zero], like)
        if bipolar:
            v = self.sign(v, like)
        else:
            v = self.add("Clip", [v, *(self.constant(np.float32(b), like) for b in (low, high))], like)
            v = self.rounded(v, mode, like)
        if limits.min <= low and high <= limits.max:
            v = self.coded(v, kind, like)
        self.scaled(v, zero, scale, like)

    def bipolar(self, node: NodeProto) -> None:
        """See the module's docstring."""
        x, scale = node.input[:2]
        values, s = self.value(x), self.value(scale)
        if values is not None and s is not None:
            self.weight(node, np.where(values >= 0, 1, -1).astype(np.float32), s, np.zeros((), np.float32))
            return
        like = node.output[0]
        v = self.sign(x if s is not None and (s == 1).all() else self.add("Div", [x, scale], like), like)
        self.scaled(self.coded(v, np.int8, like), "", scale, like)

    def trunc(self, node: NodeProto) -> None:
        """See the module's docstring; version 2 has the scale of its output as an input."""
        x, scale, zero, before, *after = node.input
        given = [self.value(name) for name in (scale, zero, before, *after)]
        if len(after) not in (1, 2) or any(value is None for value in given):
            raise _refuse(node, "its scales, zero point and bit widths are not constants")
        s, z, bits_in, *rest = (value for value in given if value is not None)
        like, mode = node.output[0], _mode(node, "FLOOR")
        v = self.add("Div", [x, scale], like)
        v = v if not z.any() else self.add("Add", [v, zero], like)
        v = self.rounded(v, _MODES["ROUND"], like)
        if len(after) == 1:
            power = 2.0 ** (bits_in - rest[0])
            v = self.rounded(self.add("Div", [v, self.constant(power.astype(np.float32), like)], like), mode, like)
            self.scaled(v, zero if z.any() else "", scale, like)
            return
        power = 2.0 ** np.round(np.log2(rest[0] / s))
        signed, narrow = bool(attribute_of(node, "signed", 1)), bool(attribute_of(node, "narrow", 0))
        width = float(rest[1].item())
        low = -(2.0 ** (width - 1)) + narrow if signed else 0.0
        high = 2.0 ** (width - 1) - 1 if signed else 2.0**width - 1 - narrow
        v = self.add("Div", [v, self.constant(power.astype(np.float32), like)], like)
        v = self.add("Clip", [v, *(self.constant(np.float32(b), like) for b in (low, high))], like)
        v = self.rounded(v, mode, like)
        self.scaled(v, self.constant((z / power).astype(np.float32), like) if z.any() else "", after[0], like)

    def extended(self, node: NodeProto) -> None:
        """Quark's QuantizeLinear and DequantizeLinear: the axis is 0 if none is given."""
        kind, name = node.op_type.replace("Extended", "").replace("Vitis", ""), node.output[0]
        x, scale, zero = inputs_of(node, 3)
        point, s = self.value(zero), self.value(scale)
        if point is None or s is None:
            raise _refuse(node, "its scale or zero point is not a constant")
        if point.dtype.name in ("float16", "bfloat16"):
            self.halved(node, kind, s, point)
            return
        if point.dtype.itemsize > 2 and (kind == "QuantizeLinear" or point.any()):
            raise _refuse(node, f"its codes are {point.dtype}, for which ONNX has no QuantizeLinear")
        axis = {"axis": attribute_of(node, "axis", 0)} if s.size > 1 else {}
        inputs = [x, scale, zero] if point.dtype.itemsize <= 2 else [x, scale]
        self.add(kind, inputs, name, name, **axis)

    def halved(self, node: NodeProto, kind: str, scale: Array, zero: Array) -> None:
        """Codes in half precision: Q is a Cast of x / s, DQ is a Cast, times s."""
        x, name = node.input[0], node.output[0]
        if zero.any() or scale.size > 1:
            raise _refuse(node, f"its codes are {zero.dtype}, and it has a zero point or several scales")
        half = helper.np_dtype_to_tensor_dtype(zero.dtype)
        one = scale.item() == 1
        factor = "" if one else self.constant(scale.astype(np.float32).reshape(()), f"{name}/scale")
        if kind == "QuantizeLinear":
            self.add("Cast", [x if one else self.add("Div", [x, factor], name)], name, name, to=half)
        elif one:
            self.add("Cast", [x], name, name, to=TensorProto.FLOAT)
        else:
            self.add("Mul", [self.add("Cast", [x], name, to=TensorProto.FLOAT), factor], name, name)

    def weight(self, node: NodeProto, codes: Array, scale: Array, zero: Array) -> None:
        """A constant (codes - zero) scale: in codes of 8 bits if they fit, else in floats."""
        name, axis = node.output[0], _axis(codes, scale)
        kind = next((k for k in (np.int8, np.uint8) if all(fits(a, k) for a in (codes, zero))), None)
        alike = zero.size == 1 or zero.shape == scale.shape
        if kind is None or axis is None or not alike:
            floats = ((codes - zero) * scale).astype(np.float32)
            self.constants[name] = numpy_helper.from_array(floats, name)
            self.graph.initializer.append(self.constants[name])
            return
        vector = () if scale.size == 1 else (-1,)
        points = np.broadcast_to(zero.reshape(-1), scale.size).reshape(vector).astype(kind)
        given = [codes.astype(kind), scale.reshape(vector).astype(np.float32), points]
        inputs = [self.constant(a, f"{name}/{what}") for a, what in zip(given, ("codes", "scale", "zero"), strict=True)]
        self.add("DequantizeLinear", inputs, name, name, **({"axis": axis} if scale.size > 1 else {}))

    def sign(self, v: str, like: str) -> str:
        """1 where v >= 0, else -1. (ONNX's Sign gives 0 for 0.)"""
        zero, one, minus = (self.constant(np.float32(number), like) for number in (0, 1, -1))
        return self.straight("Where", [self.straight("GreaterOrEqual", [v, zero], like), one, minus], like)

    def rounded(self, v: str, mode: _Mode, like: str) -> str:
        """v rounded to integers."""
        if mode.above == mode.below:
            return self.straight(mode.above, [v], like)
        parts = []
        for op, offset in ((mode.above, mode.offset), (mode.below, -mode.offset)):
            moved = v if offset == 0 else self.add("Add", [v, self.constant(np.float32(offset), like)], like)
            parts.append(self.straight(op, [moved], like))
        above = self.add("GreaterOrEqual", [v, self.constant(np.float32(0), like)], like)
        return self.add("Where", [above, *parts], like)

    def straight(self, op: str, inputs: list[str], like: str) -> str:
        """A rounding that gradients pass straight through, to its first input."""
        out = self.add(op, inputs, like)
        self.nodes[-1].metadata_props.add(key=STRAIGHT, value="yes")
        return out

    def coded(self, v: str, kind: Any, like: str) -> str:
        """Integers as codes of 8 bits and back."""
        pair = [self.constant(np.float32(1), f"{like}/one"), self.constant(kind(0), f"{like}/zero")]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [v, *pair], like), *pair], like)

    def scaled(self, v: str, zero: str, scale: str, out: str) -> None:
        """(v - zero) scale, as the tensor `out`."""
        z = self.value(zero) if zero else None
        if zero and (z is None or z.any()):
            v = self.add("Sub", [v, zero], out)
        self.add("Mul", [v, scale], out, out)


def _rounded(v: Array, mode: _Mode) -> Array:
    """As `_Quantisers.rounded`, on an array."""
    above, below = (_NUMPY[op](v + offset) for op, offset in ((mode.above, mode.offset), (mode.below, -mode.offset)))
    return np.where(v >= 0, above, below)


def _mode(node: NodeProto, default: str = "ROUND") -> _Mode:
    name = attribute_of(node, "rounding_mode", default.encode()).decode().upper()
    if name not in _MODES:
        raise _refuse(node, f"its rounding mode {name!r} has no definition in QONNX")
    return _MODES[name]


def _axis(codes: Array, scale: Array) -> int | None:
    """The axis along which a scale lies; 0 for a single number, None if DequantizeLinear can't take it."""
    if scale.size == 1:
        return 0
    long = [i for i, d in enumerate(scale.shape) if d != 1]
    axis = codes.ndim - scale.ndim + long[0]
    return axis if len(long) == 1 and axis >= 0 and codes.shape[axis] == scale.size else None


def _refuse(node: NodeProto, reason: str) -> GraphError:
    return GraphError(
        f"{called(node.name, node.output)} is {node.domain}.{node.op_type}, and {reason}; export the network in QDQ form"
    )


_QONNX_RULES: dict[str, Callable[[_Quantisers, NodeProto], None]] = {
    "Quant": _Quantisers.quant,
    "IntQuant": _Quantisers.quant,
    "BipolarQuant": _Quantisers.bipolar,
    "Trunc": _Quantisers.trunc,
}
_QUARK_RULES: dict[str, Callable[[_Quantisers, NodeProto], None]] = dict.fromkeys(
    ("ExtendedQuantizeLinear", "ExtendedDequantizeLinear", "VitisQuantizeLinear", "VitisDequantizeLinear"),
    _Quantisers.extended,
)
