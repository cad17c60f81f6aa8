"""The tail at each position by itself, for tails that average over the positions and then are linear."""

from __future__ import annotations

import onnx_ir as ir

from ..graph.measure import batch_of
from .material import Material
from .pixelwise import find_linear, pixelwise_tail
from .role import Kind, at_each_layer, kinds


def _build(material: Material, level: int) -> ir.Graph | None:
    cut, tail, logits = material.cuts[level], material.tails[level], material.logits
    linear = find_linear(tail, cut.shape)
    if linear is None or (linear.weight is None and cut.shape[0] != logits.classes):
        return None
    assert cut.target.dtype is not None
    batch = batch_of(tail.inputs[0])
    return pixelwise_tail(linear, cut.shape, logits.classes, cut.target.dtype, batch, cut.activation)


kinds.register("pixelwise tail")(
    Kind(place=20, roles=lambda request: at_each_layer(request, "pixelwise-tail", _build, when="default"))
)
