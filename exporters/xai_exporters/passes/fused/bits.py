"""Numbers as bits: weights in 4-bit numbers of bitsandbytes (Dettmers et al. 2023, arXiv:2305.14314), each block of which has a
largest magnitude; and bits that are read as another type."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import FusedNode, UnknownShape, rule

_FP4 = np.array([0.0, 5.208333333e-03, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25])
_NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip
_NUMBERS = (np.concatenate([_FP4, -_FP4]), _NF4)  # by `quant_type`


@rule("com.microsoft.MatMulBnb4")
def product_of_4_bits(op: Ops, node: FusedNode) -> ir.Value:
    """y = x W^T, W [N,K] the numbers of its codes times the largest magnitude of their block; a byte's high half comes first."""
    packed, largest = node.constant(1), node.constant(2)
    if packed is None or largest is None:
        raise node.refuse("its weights are computed; give the file before it was quantised")
    n, k, block, kind = (int(node.attr(name, 0)) for name in ("N", "K", "block_size", "quant_type"))
    if kind not in (0, 1) or not node.attr("transB", 1) or block < 1 or packed.size * 2 < n * k:
        raise node.refuse(f"its quant_type is {kind}, its block_size {block}, and its weights have {packed.size} bytes")
    codes = np.stack([packed.reshape(-1) >> 4, packed.reshape(-1) & 15], axis=1).reshape(-1)[: n * k]
    scales = np.repeat(largest.reshape(-1).astype(np.float64), block)[: n * k]
    if scales.size < n * k:
        raise node.refuse(f"it has {largest.size} scales for {n * k} weights in blocks of {block}")
    weight = (_NUMBERS[kind][codes] * scales).reshape(n, k)
    return op.MatMul(node.x(), np.ascontiguousarray(weight.T))


@rule("BitCast")
def same_bits(op: Ops, node: FusedNode) -> ir.Value:
    """There and back gives x: a type, and the first one again. Bits of the image that are read as another type have no gradient."""
    x, array, to = node.x(), node.constant(0), ir.DataType(int(node.attr("to", 0)))
    if array is not None:
        return op.Identity(array.view(to.numpy()))
    if x.dtype is None:
        raise UnknownShape
    before, (result,) = x.producer(), node.node.outputs
    if before is not None and before.op_type == "Identity" and before.inputs[0] is not None:
        first = before.inputs[0]  # what the first of two has become
        if first.dtype == to:
            return op.Identity(first)
    readers = [use.node for use in result.uses()]
    back = all(r.op_type == "BitCast" and r.attributes["to"].value == int(x.dtype) for r in readers)
    if to == x.dtype or (back and not result.is_graph_output()):
        return op.Identity(x)
    raise node.refuse(
        f"it reads the bits of {x.dtype.name} as {to.name}, which has no gradient; export the network without it"
    )
