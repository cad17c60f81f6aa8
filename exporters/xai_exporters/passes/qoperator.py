"""Rewrite operators on integers (QOperator form) as operators on floats between DequantizeLinear and QuantizeLinear (QDQ form).

    y_q = op_q(x_q, ...)   becomes   y_q = Q(op(DQ(x_q), ...))        DQ(q) = (q - zero) scale,  Q = its inverse, rounded

The operators are defined this way (ONNX's operator reference; ONNX Runtime's ContribOperators.md for com.microsoft). Results
differ by at most one step, if a value lies on the border between two steps. Cases:

1. QLinearConv, QLinearMatMul, QGemm, QLinearConcat, QLinearWhere and the operators of `_PLAIN`. With `channels_last`, a Transpose
   is put before and after.
2. Operators that move quantised values or select among them (MaxPool, Reshape, ...) run on floats, because gradients need floats.
3. ConvInteger and MatMulInteger whose input comes from a QuantizeLinear of fixed scale run on the codes as floats. Float32 holds
   integers below 2^24 exactly.
4. MatMulIntegerToFloat and DynamicQuantizeMatMul, which only ONNX Runtime has, become standard operators on integers.
5. QAttention becomes the product above and MultiHeadAttention, which `fused/microsoft_attention` decomposes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from ..graph.reading import opset_of
from .rewriting import OURS, Rewriting, attribute_of, inputs_of

_PLAIN: Mapping[str, tuple[str, int]] = {  # contrib operator: the standard one, and how many quantised inputs it has
    "QLinearAdd": ("Add", 2),
    "QLinearMul": ("Mul", 2),
    "QLinearSigmoid": ("Sigmoid", 1),
    "QLinearLeakyRelu": ("LeakyRelu", 1),
    "QLinearSoftmax": ("Softmax", 1),
    "QLinearAveragePool": ("AveragePool", 1),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", 1),
}
MOVES = {
    "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity", "DepthToSpace",
    "SpaceToDepth", "Expand", "Tile",
}  # fmt: skip
_OF_ATTENTION = ("num_heads", "unidirectional", "mask_filter_value", "scale")


@dataclass(frozen=True)
class _Scale:
    """How a tensor is quantised: names of scale and zero point ("" for none)."""

    scale: str
    zero: str


@dataclass(frozen=True)
class InQdq:
    """A model in QDQ form.

    Attributes:
        model: The model.
        beside: The original model, with the replacement of each operator added on the same inputs. None if one file can't hold
            both: scales for single channels need opset 13.
        pairs: The outputs to compare in `beside`: an operator's, and its replacement's.
    """

    model: onnx.ModelProto
    beside: onnx.ModelProto | None
    pairs: tuple[tuple[str, str], ...]


def to_qdq(model: onnx.ModelProto) -> InQdq | None:
    """The model in QDQ form, or None if nothing in it is in QOperator form."""
    return _Rewriter(model).run()


class _Rewriter(Rewriting):
    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__(model)
        self.held: dict[str, _Scale] = {}  # how each tensor of codes is quantised
        self.changed = False

    def run(self) -> InQdq | None:
        beside = onnx.ModelProto()
        beside.CopyFrom(self.model)
        pairs = []
        for node in list(self.graph.node):
            rule, start = (
                _RULES.get(node.op_type) if node.domain in (*OURS, "com.microsoft") else None,
                len(self.nodes),
            )
            if rule is None or not rule(self, node):
                self.nodes.append(node)
                continue
            own = node.output[0]
            again = self.name(f"{own}/again")
            for new in self.nodes[start:]:
                beside.graph.node.add().CopyFrom(new)
            last = beside.graph.node[-1]  # a rule ends with the node that gives the operator's own output
            last.output[0] = again
            pairs.append((own, again))
        if not self.changed:
            return None
        beside.graph.initializer.extend(t for t in self.graph.initializer[len(beside.graph.initializer) :])
        beside.graph.output.extend(
            onnx.ValueInfoProto(name=n) for pair in pairs for n in pair if n not in _outputs(beside)
        )
        beside.ir_version = max(beside.ir_version, 8)
        axes = any(a.name == "axis" for n in self.nodes if n.op_type == "DequantizeLinear" for a in n.attribute)
        self.finish()
        return InQdq(self.model, None if axes and opset_of(self.model) < 13 else beside, tuple(pairs))

    def dequantized(self, codes: str, scale: str, zero: str, axis: int = 0) -> str:
        """(codes - zero) scale; `axis` is the axis along which a scale with several entries lies."""
        many = self._entries(scale)
        attributes: dict[str, Any] = {"axis": axis} if many > 1 else {}
        point = self.value(zero) if zero else None
        if (
            many > 1 and point is not None and point.size == 1
        ):  # QLinearConv takes one zero point for the scales of all channels
            zero = self.constant(np.full(many, point.reshape(()), point.dtype), zero)
        return self.add(
            "DequantizeLinear", [codes, self._flat(scale), *([self._flat(zero)] if zero else [])], codes, **attributes
        )

    def quantized(self, floats: str, scale: str, zero: str, out: str) -> None:
        """round(floats / scale) + zero, saturated, as the tensor `out`."""
        self.add("QuantizeLinear", [floats, self._flat(scale), *([self._flat(zero)] if zero else [])], out, out)
        self.held[out] = _Scale(scale, zero)

    def _entries(self, scale: str) -> int:
        value = self.value(scale)
        return 1 if value is None else int(value.size)

    def _flat(self, name: str) -> str:
        """The tensor as a scalar if it has one entry, else as a vector; some exporters write [1] and [1,n]."""
        value = self.value(name)
        if value is None or value.ndim == (0 if value.size == 1 else 1):
            return name
        return self.constant(value.reshape(()) if value.size == 1 else value.reshape(-1), name)

    def product(self, one: str, other: str, factor: float = 1.0) -> str:
        """The scale of a product of codes: one * other * factor."""
        a, b = self.value(one), self.value(other)
        if a is not None and b is not None:
            return self.constant(
                (a.reshape(-1) * b.reshape(-1) * np.float32(factor)).astype(np.float32), f"{one}/product"
            )
        scale = self.add("Mul", [one, other], one)
        return scale if factor == 1.0 else self.add("Mul", [scale, self.constant(np.float32(factor), "factor")], one)

    def channels_first(self, floats: str, node: NodeProto, undo: bool = False, out: str = "") -> str:
        """Move the channels of images, [N,h,w,K] to [N,K,h,w] or with `undo` back, if the node has `channels_last`."""
        if not attribute_of(node, "channels_last", 0):
            return self.add("Identity", [floats], floats, out) if out else floats
        return self.add("Transpose", [floats], floats, out, perm=[0, 2, 3, 1] if undo else [0, 3, 1, 2])

    def conv(self, node: NodeProto) -> bool:
        """Case 1: y_q = Q(Conv(DQ(x), DQ(w)) + b s_x s_w)."""
        x, xs, xz, w, ws, wz, ys, yz = inputs_of(node, 8)[:8]
        inputs = [self.channels_first(self.dequantized(x, xs, xz), node), self.dequantized(w, ws, wz)]
        # the bias is int32, at the scale s_x s_w and zero point 0
        if len(node.input) > 8 and node.input[8]:
            inputs.append(self.dequantized(node.input[8], self.product(xs, ws), ""))
        y = self.add("Conv", inputs, node.output[0], **_attributes(node))
        self.quantized(self.channels_first(y, node, undo=True), ys, yz, node.output[0])
        return self._done()

    def matmul(self, node: NodeProto) -> bool:
        """Case 1: y_q = Q(DQ(a) DQ(b))."""
        a, as_, az, b, bs, bz, ys, yz = inputs_of(node, 8)[:8]
        y = self.add("MatMul", [self.dequantized(a, as_, az, -2), self.dequantized(b, bs, bz, -1)], node.output[0])
        self.quantized(y, ys, yz, node.output[0])
        return self._done()

    def gemm(self, node: NodeProto) -> bool:
        """Case 1: y_q = Q(alpha DQ(a) DQ(b) + c alpha s_a s_b); floats without Q if the output has no scale."""
        a, as_, az, b, bs, bz, *rest = inputs_of(node, 9)
        turned = attribute_of(node, "transB", 0)  # then the output's columns are the rows of b, axis 0
        inputs = [self.dequantized(a, as_, az), self.dequantized(b, bs, bz, 0 if turned else 1)]
        if rest[0]:
            scale = self.product(as_, bs, attribute_of(node, "alpha", 1.0))
            inputs.append(self.dequantized(rest[0], scale, "", -1))
        y = self.add("Gemm", inputs, node.output[0], "" if rest[1] else node.output[0], **_attributes(node))
        if rest[1]:
            self.quantized(y, rest[1], rest[2], node.output[0])
        return self._done()

    def plain(self, node: NodeProto) -> bool:
        """Case 1: y_q = Q(op(DQ(x), ...))."""
        op, count = _PLAIN[node.op_type]
        given = inputs_of(node, 3 * count)
        floats = [self.dequantized(x, s, z) for x, s, z in zip(given[0::3], given[1::3], given[2::3], strict=False)][
            :count
        ]
        floats[0] = self.channels_first(floats[0], node)
        attributes = {k: v for k, v in _attributes(node).items() if k != "opset"}
        y = self.channels_first(self.add(op, floats, node.output[0], **attributes), node, undo=True)
        scale, zero = inputs_of(node, 3 * count + 2)[3 * count :]
        self.quantized(y, scale, zero, node.output[0])
        return self._done()

    def concat(self, node: NodeProto) -> bool:
        """Case 1; the scale and zero point of the output come first among the inputs."""
        scale, zero, *given = inputs_of(node, 2)
        floats = [self.dequantized(x, s, z) for x, s, z in zip(given[0::3], given[1::3], given[2::3], strict=True)]
        self.quantized(self.add("Concat", floats, node.output[0], **_attributes(node)), scale, zero, node.output[0])
        return self._done()

    def where(self, node: NodeProto) -> bool:
        """Case 1: y_q = Q(Where(condition, DQ(x), DQ(y)))."""
        condition, x, xs, xz, y, ys, yz, scale, zero = inputs_of(node, 9)
        inputs = [condition, self.dequantized(x, xs, xz), self.dequantized(y, ys, yz)]
        self.quantized(self.add("Where", inputs, node.output[0]), scale, zero, node.output[0])
        return self._done()

    def moves(self, node: NodeProto) -> bool:
        """Case 2: y_q = Q(op(DQ(x))), with the scale of x."""
        held = self.held.get(node.input[0])
        if held is None or len(node.output) != 1 or self._entries(held.scale) > 1:
            return False
        floats = self.dequantized(node.input[0], held.scale, held.zero)
        result = self.add(node.op_type, [floats, *node.input[1:]], node.output[0], **_attributes(node))
        self.quantized(result, held.scale, held.zero, node.output[0])
        return True

    def nhwc_max_pool(self, node: NodeProto) -> bool:
        """Case 2, on [N,h,w,K]."""
        held = self.held.get(node.input[0])
        if held is None:
            return False
        floats = self.dequantized(node.input[0], held.scale, held.zero)
        turned = self.add("Transpose", [floats], node.output[0], perm=[0, 3, 1, 2])
        pooled = self.add("MaxPool", [turned], node.output[0], **_attributes(node))
        back = self.add("Transpose", [pooled], node.output[0], perm=[0, 2, 3, 1])
        self.quantized(back, held.scale, held.zero, node.output[0])
        return self._done()

    def quantize(self, node: NodeProto) -> bool:
        """Note the scale. ONNX Runtime's own variant of the operator means the same, so it becomes the standard one."""
        self.changed |= node.domain == "com.microsoft"
        node.domain = ""
        if node.op_type == "QuantizeLinear":
            self.held[node.output[0]] = _Scale(node.input[1], node.input[2] if len(node.input) > 2 else "")
        return False

    def integer(self, node: NodeProto) -> bool:
        """Case 3: sum (x - z_x)(w - z_w), exact in floats."""
        held = self.held.get(node.input[0])
        x, w, xz, wz = inputs_of(node, 4)
        readers = [reader for reader in self.graph.node if node.output[0] in reader.input]
        to_floats = all(r.op_type == "Cast" and attribute_of(r, "to", 0) == onnx.TensorProto.FLOAT for r in readers)
        if held is None or held.scale not in self.constants or self._entries(held.scale) > 1 or not to_floats:
            return False
        ones = self.constant(np.ones(self._entries(wz), np.float32), "ones")
        axis = 0 if node.op_type == "ConvInteger" else -1
        floats = [self.dequantized(x, self.constant(np.float32(1), "one"), xz), self.dequantized(w, ones, wz, axis)]
        op = "Conv" if node.op_type == "ConvInteger" else "MatMul"
        self.add(op, floats, node.output[0], node.output[0], **_attributes(node))
        return self._done()

    def to_float(self, node: NodeProto) -> bool:
        """Case 4: (A - z_a)(B - z_b) s_a s_b + bias."""
        if node.op_type == "MatMulIntegerToFloat":
            a, b, scale, bs, az, bz, bias = inputs_of(node, 7)
        else:
            floats, b, bs, bz, bias = inputs_of(node, 5)
            a, scale, az = (self.name(f"{node.output[0]}/{part}") for part in ("codes", "scale", "zero"))
            name = self.name(f"{node.output[0]}.quantize")
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [floats], [a, scale, az], name=name))
        self._integer_product((a, scale, az), (b, bs, bz), bias, node.output[0])
        return self._done()

    def attention(self, node: NodeProto) -> bool:
        """Case 5: MultiHeadAttention of the columns of DQ(x) DQ(w) + bias, which are queries, keys and values in this order."""
        x, w, bias, xs, ws, mask, xz, wz, past = inputs_of(node, 9)[:9]
        if past or any(node.output[1:]) or attribute_of(node, "do_rotary", 0):
            return False
        out = self.name(f"{node.output[0]}/projected")
        if x in self.held:
            product = self.add("MatMul", [self.dequantized(x, xs, xz), self.dequantized(w, ws, wz, -1)], out)
            self.add("Add", [product, bias], out, out)
        else:
            self._integer_product((x, xs, xz), (w, ws, wz), bias, out)
        parts = [self.name(f"{out}/{part}") for part in ("query", "key", "value")]
        self.nodes.append(helper.make_node("Split", [out], parts, name=self.name(f"{out}.split"), axis=-1))
        attributes = {k: v for k, v in _attributes(node).items() if k in _OF_ATTENTION}
        given = [*parts, "", mask] if mask else parts
        self.add("MultiHeadAttention", given, out, node.output[0], domain="com.microsoft", **attributes)
        return self._done()

    def _integer_product(self, left: tuple[str, str, str], right: tuple[str, str, str], bias: str, out: str) -> None:
        """(A - z_a)(B - z_b) s_a s_b + bias as the tensor `out`; each operand is its codes, scale and zero point."""
        (a, scale, az), (b, bs, bz) = left, right
        if bz and not az:  # MatMulInteger takes b's zero point only after a's
            az = self.constant(np.uint8(0), "zero")
        product = self.add("MatMulInteger", [a, b, az, bz] if bz else [a, b, az] if az else [a, b], out)
        product = self.add("Cast", [product], out, to=onnx.TensorProto.FLOAT)
        scales = self.add("Mul", [scale, bs], out)
        y = self.add("Mul", [product, scales], out, "" if bias else out)
        if bias:
            self.add("Add", [y, bias], out, out)

    def _done(self) -> bool:
        self.changed = True
        return True


def _outputs(model: onnx.ModelProto) -> set[str]:
    return {value.name for value in model.graph.output}


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "channels_last"}


_RULES: dict[str, Callable[[_Rewriter, NodeProto], bool]] = {
    "QLinearConv": _Rewriter.conv,
    "QLinearMatMul": _Rewriter.matmul,
    "QGemm": _Rewriter.gemm,
    "QLinearConcat": _Rewriter.concat,
    "QLinearWhere": _Rewriter.where,
    "NhwcMaxPool": _Rewriter.nhwc_max_pool,
    "QuantizeLinear": _Rewriter.quantize,
    "DequantizeLinear": _Rewriter.quantize,
    "ConvInteger": _Rewriter.integer,
    "MatMulInteger": _Rewriter.integer,
    "MatMulIntegerToFloat": _Rewriter.to_float,
    "DynamicQuantizeMatMul": _Rewriter.to_float,
    "QAttention": _Rewriter.attention,
    **dict.fromkeys(_PLAIN, _Rewriter.plain),
    **dict.fromkeys(MOVES, _Rewriter.moves),
}
