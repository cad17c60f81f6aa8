"""The tail at each position by itself, for tails that average over the positions and then are linear."""

from __future__ import annotations

import onnx_ir as ir

from ..graph.measure import batch_of
from .material import Material
from .pixelwise import find_linear, pixelwise_tail
from .role import Kind, Role, kinds


def _build(material: Material) -> ir.Graph | None:
    cut, logits = material.layer, material.logits
    linear = find_linear(material.parts.tail, cut.shape)
    if linear is None or (linear.weight is None and cut.shape[0] != logits.classes):
        return None
    assert cut.target.dtype is not None
    batch = batch_of(material.parts.tail.inputs[0])
    return pixelwise_tail(linear, cut.shape, logits.classes, cut.target.dtype, batch)


kinds.register("pixelwise tail")(
    Kind(place=20, roles=lambda request: (Role("pixelwise-tail", _build, when="default"),))
)
