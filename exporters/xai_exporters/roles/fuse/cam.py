"""CAM as a graph (Zhou et al., CVPR 2016, equation 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...errors import GraphError
from ..material import Material
from ..pixelwise import find_linear
from .fused_method import fused
from .net import Net
from .rows import last_linear, matrix


@fused.register("cam")
@dataclass(frozen=True)
class Cam:
    """L = sum_k w_k^c A_k.

    Attributes:
        relu: Keep the positive part only; False gives the paper's signed map.
    """

    relu: bool = True

    input_sized: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False

    @property
    def signed(self) -> bool:
        """See `Fused`."""
        return not self.relu

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        require_linear(net)
        net.plain()
        maps = class_scores(net)
        return net.op.Relu(maps) if self.relu else maps

    def gives_all(self, material: Material) -> bool:
        """See `AllAtOnce`."""
        return material.logits.scores.kind == "classes"

    def every(self, net: Net) -> ir.Value:
        """See `AllAtOnce.every`."""
        require_linear(net)
        net.plain()
        maps = all_class_scores(net)
        return net.op.Relu(maps) if self.relu else maps


def require_linear(net: Net) -> None:
    """Refuse a network whose tail is not pooling and one linear layer.

    Raises:
        GraphError: It is not.
    """
    if find_linear(net.tail, net.shape) is None:
        raise GraphError(
            "CAM is defined only if global average pooling and one linear layer follow the target layer; split there "
            "(--split auto) or fuse reciprocam"
        )


def all_class_scores(net: Net) -> ir.Value:
    """sum_k w_k^c A_k of every class, [N*K,h,w], for a tail of pooling and at most one linear layer."""
    (channels, *places), op = net.shape, net.op
    weights = _weights(net)
    flat = op.Reshape(net.activation, [-1, channels, math.prod(places)])
    # [K,C] x [N,C,h*w]; if the pooled channels are the logits themselves, they are the maps
    maps: ir.Value = op.Reshape(flat if weights is None else _product(net, weights, flat), [-1, *places])
    return maps


def class_scores(net: Net) -> ir.Value:
    """sum_k w_k^c A_k, [N,h,w], for a tail of pooling and at most one linear layer."""
    weights = _weights(net)
    # if the pooled channels are the logits themselves, w is the unit vector of the class
    return weighted_sum(net, net.unit if weights is None else net.row(weights), net.activation)


def _weights(net: Net) -> ir.Value | None:
    """The weights of the linear layer after the pooling, [classes,K]; None if there is no such layer."""
    layer = find_linear(net.tail, net.shape)
    if layer is None or layer.weight is None:
        return None
    linear = last_linear(net.tail, net.classes)
    if linear is not None:
        return matrix(net, linear)
    own: ir.Value = net.op.Identity(layer.weight.T.astype(np.float32))
    return own


def weighted_sum(net: Net, weights: ir.Value, activation: ir.Value) -> ir.Value:
    """sum_k w_k A_k: weights [N,K], activation [N,K,h,w] -> [N,h,w]; of volumes [N,d,h,w]."""
    channels, *places = net.shape
    op = net.op
    flat = op.Reshape(activation, [-1, channels, math.prod(places)])
    # [N,1,K] x [N,K,h*w]
    maps: ir.Value = op.Reshape(_product(net, op.Unsqueeze(weights, [1]), flat), [-1, *places])
    return maps


def _product(net: Net, weights: ir.Value, flat: ir.Value) -> ir.Value:
    """W A as W (A - min A) + W min A, as the engine computes it: stretching a map that hardly varies multiplies its rounding."""
    op = net.op
    lowest = op.ReduceMin(flat, [2], keepdims=1)
    product: ir.Value = op.Add(op.MatMul(weights, op.Sub(flat, lowest)), op.MatMul(weights, lowest))
    return product
