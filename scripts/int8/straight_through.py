"""A quantised ONNX file in torch, for autograd: an implementation that shares no code with the exporters.

It computes in float32, so that values on the border between two codes round as in the file. Codes are floats that hold integers.
Rounding passes gradients straight through, saturation stops them (Bengio et al. 2013, arXiv:1308.3432), as torch's own fake
quantisation does. QOperator's operators are dequantised, computed and quantised, as their definitions say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F

_LIMITS = {
    np.dtype(kind): (np.iinfo(kind).min, np.iinfo(kind).max) for kind in (np.uint8, np.int8, np.uint16, np.int16)
}


class Unknown(Exception):
    """An operator that this file does not compute."""


def _axis(t: Tensor, like: Tensor, axis: int) -> Tensor:
    return (
        t.reshape(()) if t.numel() == 1 else t.reshape([-1 if i == axis % like.dim() else 1 for i in range(like.dim())])
    )


def quantise(x: Tensor, s: Tensor, z: Tensor, limits: tuple[int, int], axis: int = 1) -> Tensor:
    """round(x / s) + z, saturated; the gradient of a clip of x / s + z."""
    v = x / _axis(s, x, axis)
    v = v + (torch.round(v) - v).detach() + _axis(z, x, axis)
    return torch.where((v < limits[0]) | (v > limits[1]), v.detach().clamp(*limits), v)


def dequantise(q: Tensor, s: Tensor, z: Tensor, axis: int = 1) -> Tensor:
    return (q - _axis(z, q, axis)) * _axis(s, q, axis)


class Network:
    """A file as a function of the image, which keeps every tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = model.graph.node
        self.limits: dict[str, tuple[int, int]] = {}
        self.constants = {t.name: self._read(t.name, numpy_helper.to_array(t)) for t in model.graph.initializer}
        image = next(i for i in model.graph.input if i.name not in self.constants)
        self.image, self.takes_int8 = image.name, image.type.tensor_type.elem_type == onnx.TensorProto.INT8
        self.output = model.graph.output[0].name
        ends = [node for node in self.nodes if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
        # what a Softmax at the end reads is explained, not its probabilities
        self.scores = ends[-1].input[0] if ends[-1].op_type == "Softmax" else self.output

    def _read(self, name: str, array: Any) -> Tensor:
        if array.dtype in _LIMITS:
            self.limits[name] = _LIMITS[array.dtype]
        whole = array.dtype in (np.dtype(np.int64), np.dtype(np.bool_))
        return torch.from_numpy(np.array(array if whole else array.astype(np.float32)))

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """All tensors by name; gradients of any of them are kept."""
        self.values: dict[str, Tensor] = {**self.constants, self.image: image}
        for node in _in_order(self.nodes, set(self.values)):
            a = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
            rule = _RULES.get(node.op_type)
            if rule is None or a.get("channels_last"):
                raise Unknown(node.op_type)
            given = [self.values[name] if name else None for name in node.input]
            results = rule(self, node, a, *given)
            for name, value in zip(
                node.output, results if isinstance(results, (tuple, list)) else [results], strict=False
            ):
                self.values[name] = value
                if value.requires_grad:
                    value.retain_grad()
        return self.values

    def coded(self, node: Any, position: int) -> tuple[int, int]:
        """The limits of the codes whose zero point is this input."""
        name = node.input[position] if len(node.input) > position else ""
        return self.limits.get(name, (0, 255))


def _in_order(nodes: Any, known: set[str]) -> list[onnx.NodeProto]:
    """Nodes after those that they read; some tools write them in another order."""
    left, ordered = list(nodes), []
    while left:
        ready = [node for node in left if all(name in known for name in node.input if name)]
        if not ready:
            raise Unknown("order of nodes")
        ordered += ready
        known |= {name for node in ready for name in node.output}
        left = [node for node in left if node not in ready]
    return ordered


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """The gradient of torch's hardtanh, which relu6 is, and of its hardsigmoid: 0 at a bound. torch's clamp has 1 there.

    If codes are symmetric, 0 is a code, and many values are exactly 0.
    """
    y = x.clamp(low, high)
    at_bound = torch.zeros_like(x, dtype=torch.bool)
    for bound in (low, high):
        at_bound = at_bound if bound is None else at_bound | (x == bound)
    return torch.where(at_bound, y.detach(), y)


def _zero(z: Tensor | None) -> Tensor:
    return torch.zeros((), dtype=torch.float32) if z is None else z


def _conv(x: Tensor, w: Tensor, b: Tensor | None, a: dict[str, Any]) -> Tensor:
    pads = a.get("pads", [0] * 4)
    if a.get("auto_pad") == b"SAME_UPPER":  # at stride 1
        assert list(a.get("strides", [1, 1])) == [1, 1]
        over = [(k - 1) * d for k, d in zip(w.shape[2:], a.get("dilations", [1, 1]), strict=True)]
        pads = [o // 2 for o in over] + [o - o // 2 for o in over]
    x = F.pad(x, (pads[1], pads[3], pads[0], pads[2]))
    return F.conv2d(x, w, b, a.get("strides", 1), 0, a.get("dilations", 1), a.get("group", 1))


def _pool(x: Tensor, a: dict[str, Any], how: str) -> Tensor:
    pads, k = a.get("pads", [0] * 4), a["kernel_shape"]
    assert how == "max" or not any(pads)
    x = F.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=-torch.inf)
    return (F.max_pool2d if how == "max" else F.avg_pool2d)(x, k, a.get("strides", [1, 1]))


def _resize(x: Tensor, scales: Tensor | None, sizes: Tensor | None, a: dict[str, Any]) -> Tensor:
    """Bilinear, with half pixels."""
    assert (a["mode"], a.get("coordinate_transformation_mode", b"half_pixel")) in (
        (b"linear", b"half_pixel"), (b"linear", b"pytorch_half_pixel"),
    )  # fmt: skip
    size = sizes.tolist()[2:] if sizes is not None and sizes.numel() else None
    factors = None if size or scales is None else scales.tolist()[2:]
    return F.interpolate(x, size, factors, "bilinear", align_corners=False)


def _gemm(x: Tensor, w: Tensor, b: Tensor | None, a: dict[str, Any]) -> Tensor:
    y = (x.T if a.get("transA") else x) @ (w.T if a.get("transB") else w) * a.get("alpha", 1.0)
    return y if b is None else y + b * a.get("beta", 1.0)  # type: ignore[no-any-return]


def _mean(x: Tensor, a: dict[str, Any], axes: Tensor | None = None) -> Tensor:
    where = a.get("axes") or (None if axes is None else axes.tolist()) or range(x.dim())
    return x.mean(tuple(where), keepdim=bool(a.get("keepdims", 1)))


def _norm(x: Tensor, s: Tensor, b: Tensor | None, a: dict[str, Any]) -> Tensor:
    return F.layer_norm(
        x, x.shape[a.get("axis", -1) :] if a.get("axis", -1) < 0 else x.shape[a["axis"] :], s, b, a.get("epsilon", 1e-5)
    )


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    which = [slice(None)] * x.dim()
    for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        which[i if axes is None else axes.tolist()[i]] = slice(start, end, 1 if steps is None else steps.tolist()[i])
    return x[tuple(which)]


def _gather(x: Tensor, i: Tensor, axis: int) -> Tensor:
    return x.index_select(axis, i.reshape(-1)).reshape((*x.shape[:axis], *i.shape, *x.shape[axis + 1 :]))


def _split(x: Tensor, sizes: Tensor | None, axis: int, count: int) -> Any:
    return x.split(x.shape[axis] // count if sizes is None else sizes.tolist(), axis)  # type: ignore[no-untyped-call]


def _dynamic(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DynamicQuantizeLinear, in float32 as it is defined; scale and zero point count as constants."""
    with torch.no_grad():
        low, high = x.min().clamp(max=0).float(), x.max().clamp(min=0).float()
        s = (high - low) / 255
        z = torch.round((0 - low) / s).clamp(0, 255)
    return quantise(x, s.float(), z.float(), (0, 255)), s.float(), z.float()


def _qlinear(function: Callable[..., Tensor], count: int = 1) -> Callable[..., Tensor]:
    """y = Q(function(DQ(x), ...)); inputs x, its scale, its zero point, ..., scale and zero point of y."""

    def rule(net: Network, node: Any, a: dict[str, Any], *g: Any) -> Tensor:
        floats = [dequantise(g[i], g[i + 1], _zero(g[i + 2])) for i in range(0, 3 * count, 3)]
        s, z = g[3 * count], g[3 * count + 1] if len(g) > 3 * count + 1 else None
        return quantise(function(a, *floats), s, _zero(z), net.coded(node, 3 * count + 1))

    return rule


def _qconv(
    net: Network,
    node: Any,
    a: dict[str, Any],
    x: Tensor,
    xs: Tensor,
    xz: Any,
    w: Tensor,
    ws: Tensor,
    wz: Any,
    s: Tensor,
    z: Any,
    b: Any = None,
) -> Tensor:
    bias = None if b is None else b * xs * ws
    return quantise(
        _conv(dequantise(x, xs, _zero(xz)), dequantise(w, ws, _zero(wz), 0), bias, a), s, _zero(z), net.coded(node, 7)
    )


def _qgemm(
    net: Network,
    node: Any,
    a: dict[str, Any],
    x: Tensor,
    xs: Tensor,
    xz: Any,
    w: Tensor,
    ws: Tensor,
    wz: Any,
    b: Any = None,
    s: Any = None,
    z: Any = None,
) -> Tensor:
    bias = None if b is None else b * xs * ws * a.get("alpha", 1.0)
    y = _gemm(dequantise(x, xs, _zero(xz)), dequantise(w, ws, _zero(wz), 0 if a.get("transB") else 1), bias, a)
    return y if s is None else quantise(y, s, _zero(z), net.coded(node, 8))


def _qmatmul(
    net: Network,
    node: Any,
    a: dict[str, Any],
    x: Tensor,
    xs: Tensor,
    xz: Any,
    w: Tensor,
    ws: Tensor,
    wz: Any,
    s: Tensor,
    z: Any,
) -> Tensor:
    return quantise(dequantise(x, xs, _zero(xz)) @ dequantise(w, ws, _zero(wz), -1), s, _zero(z), net.coded(node, 7))


def _qconcat(net: Network, node: Any, a: dict[str, Any], s: Tensor, z: Tensor, *g: Tensor) -> Tensor:
    floats = [dequantise(g[i], g[i + 1], _zero(g[i + 2])) for i in range(0, len(g), 3)]
    return quantise(torch.cat(floats, a["axis"]), s, _zero(z), net.coded(node, 1))


def _n_bits(
    net: Network, node: Any, a: dict[str, Any], x: Tensor, w: Tensor, s: Tensor, z: Any = None, *_: Any
) -> Tensor:
    """(codes - zero) scale for each block, one code after the other from the lowest bits of each byte."""
    bits, block, n, k = (a.get(name, 4) for name in ("bits", "block_size", "N", "K"))

    def codes(t: Tensor) -> Tensor:
        v = t.reshape(n, -1).long()
        return torch.stack([(v >> shift) & (2**bits - 1) for shift in range(0, 8, bits)], -1).reshape(n, -1)

    blocks = -(-k // block)
    zero = (
        torch.full((n, blocks), 2.0 ** (bits - 1))
        if z is None
        else codes(z)[:, :blocks]
        if node.input[3] in net.limits
        else z.reshape(n, blocks)
    )
    weight = ((codes(w).reshape(n, blocks, block) - zero[:, :, None]) * s.reshape(n, blocks, 1)).reshape(n, -1)[:, :k]
    return x @ weight.T.float()


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda net, node, a, *g: function(*g)


_RULES: dict[str, Callable[..., Any]] = {
    "QuantizeLinear": lambda net, node, a, x, s, z=None: quantise(x, s, _zero(z), net.coded(node, 2), a.get("axis", 1)),
    "DequantizeLinear": lambda net, node, a, q, s, z=None: dequantise(q, s, _zero(z), a.get("axis", 1)),
    "DynamicQuantizeLinear": _plain(_dynamic),
    "ConvInteger": lambda net, node, a, x, w, xz=None, wz=None: _conv(
        x - _zero(xz), w - _axis(_zero(wz), w, 0), None, a
    ),
    "MatMulInteger": lambda net, node, a, x, w, xz=None, wz=None: (x - _zero(xz)) @ (w - _axis(_zero(wz), w, -1)),
    "DynamicQuantizeMatMul": lambda net, node, a, x, w, s, z=None, b=None: (
        dequantise(*_dynamic(x)) @ dequantise(w, s, _zero(z), -1) + _zero(b)
    ),
    "MatMulIntegerToFloat": lambda net, node, a, x, w, xs, ws, xz=None, wz=None, b=None: (
        (x - _zero(xz)) @ (w - _axis(_zero(wz), w, -1)) * xs * ws + _zero(b)
    ),
    "MatMulNBits": _n_bits,
    "QLinearConv": _qconv,
    "QGemm": _qgemm,
    "QLinearMatMul": _qmatmul,
    "QLinearConcat": _qconcat,
    "QLinearAdd": _qlinear(lambda a, x, y: x + y, 2),
    "QLinearMul": _qlinear(lambda a, x, y: x * y, 2),
    "QLinearSigmoid": _qlinear(lambda a, x: torch.sigmoid(x)),
    "QLinearLeakyRelu": _qlinear(lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01))),
    "QLinearSoftmax": _qlinear(lambda a, x: torch.softmax(x, a.get("axis", -1))),
    "QLinearGlobalAveragePool": _qlinear(lambda a, x: x.mean((2, 3), keepdim=True)),
    "QLinearAveragePool": _qlinear(lambda a, x: _pool(x, a, "average")),
    "Conv": lambda net, node, a, x, w, b=None: _conv(x, w, b, a),
    "FusedConv": lambda net, node, a, x, w, b=None: torch.relu(_conv(x, w, b, a)),
    "Gemm": lambda net, node, a, x, w, b=None: _gemm(x, w, b, a),
    "MatMul": _plain(torch.matmul),
    "Add": _plain(torch.add),
    "Sub": _plain(torch.sub),
    "Mul": _plain(torch.mul),
    "Div": _plain(torch.div),
    "Pow": _plain(torch.pow),
    "Sqrt": _plain(torch.sqrt),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Tanh": _plain(torch.tanh),
    "Resize": lambda net, node, a, x, roi=None, scales=None, sizes=None: _resize(x, scales, sizes, a),
    "ConvTranspose": lambda net, node, a, x, w, b=None: F.conv_transpose2d(
        x, w, b, a.get("strides", 1), a.get("pads", [0])[0], a.get("output_padding", 0), a.get("group", 1)
    ),
    "Relu": _plain(torch.relu),
    "Sigmoid": _plain(torch.sigmoid),
    "Identity": _plain(lambda x: x),
    "Round": _plain(lambda x: x + (x.round() - x).detach()),
    "HardSigmoid": lambda net, node, a, x: _clip(
        x * a.get("alpha", 0.2) + a.get("beta", 0.5), torch.tensor(0.0), torch.tensor(1.0)
    ),
    "HardSwish": _plain(F.hardswish),
    "LeakyRelu": lambda net, node, a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Gelu": _plain(F.gelu),
    "BiasGelu": _plain(lambda x, b: F.gelu(x + b)),
    "Clip": _plain(_clip),
    "Softmax": lambda net, node, a, x: torch.softmax(x, a.get("axis", -1)),
    "LayerNormalization": lambda net, node, a, x, s, b=None: _norm(x, s, b, a),
    "MaxPool": lambda net, node, a, x: _pool(x, a, "max"),
    "AveragePool": lambda net, node, a, x: _pool(x, a, "average"),
    "GlobalAveragePool": _plain(lambda x: x.mean((2, 3), keepdim=True)),
    "ReduceMean": lambda net, node, a, x, axes=None: _mean(x, a, axes),
    "Flatten": lambda net, node, a, x: x.flatten(a.get("axis", 1)) if a.get("axis", 1) < 2 else x.flatten(0, 1),
    "Reshape": _plain(
        lambda x, s: x.reshape(tuple(x.shape[i] if d == 0 else int(d) for i, d in enumerate(s.tolist())))
    ),
    "Transpose": lambda net, node, a, x: x.permute(a["perm"]),
    "Squeeze": _plain(lambda x, axes: x.squeeze(tuple(axes.tolist()))),
    "Unsqueeze": _plain(lambda x, axes: x[(None,) * axes.numel()] if axes.tolist() == [0] else x.unsqueeze(int(axes))),
    "Concat": lambda net, node, a, *xs: torch.cat(xs, a["axis"]),
    "Slice": _plain(_slice),
    "Split": lambda net, node, a, x, sizes=None: _split(x, sizes, a.get("axis", 0), len(node.output)),
    "Gather": lambda net, node, a, x, i: _gather(x, i, a.get("axis", 0)),
    "Expand": _plain(lambda x, s: x.expand(torch.broadcast_shapes(x.shape, s.tolist()))),  # type: ignore[no-untyped-call]
    "Shape": lambda net, node, a, x: torch.tensor(x.shape),
    "Constant": lambda net, node, a: net._read(node.output[0], numpy_helper.to_array(a["value"])),
    "ConstantOfShape": lambda net, node, a, s: torch.full(
        s.tolist(), numpy_helper.to_array(a["value"]).item() if "value" in a else 0.0
    ),
    "Equal": _plain(torch.eq),
    "Where": _plain(torch.where),
    "Cast": lambda net, node, a, x: x.to({7: torch.int64, 9: torch.bool}.get(a["to"], torch.float32)),
}
