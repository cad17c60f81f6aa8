"""Class maps of a detector as a graph: the head's own probability of a class in the cells of its levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...errors import GraphError
from ...graph.measure import batch_of
from ..material import Material
from .detector import DetectorNet
from .fused_method import AtNoLayer, fused
from .interpolation import resized
from .net import Net


@fused.register("class-map")
@dataclass(frozen=True)
class ClassMap(AtNoLayer):
    """M(y,x) = max_l up(max_a p_c[l,a])(y,x), at the finest level's cells."""

    input_sized: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        maps, (h, w) = self._maps(net)
        assert isinstance(net, DetectorNet)  # `_maps` refuses others
        if net.versus is not None:
            raise GraphError(
                "with --versus: a contrast of class maps is the difference of two of its maps; leave --versus out"
            )
        op, classes = net.op, net.rows.classes
        chosen = op.Cast(op.Equal(np.arange(classes)[None], net.chosen), to=int(ir.DataType.FLOAT))  # [N,C]
        flat = op.MatMul(op.Unsqueeze(chosen, [1]), op.Reshape(maps, [-1, classes, h * w]))
        return _stated(net, op.Reshape(flat, [-1, h, w]), (h, w))

    def gives_all(self, material: Material) -> bool:
        """See `AllAtOnce`."""
        return True

    def every(self, net: Net) -> ir.Value:
        """See `AllAtOnce.every`."""
        maps, size = self._maps(net)
        return _stated(net, net.op.Reshape(maps, [-1, *size]), size)

    def _maps(self, net: Net) -> tuple[ir.Value, tuple[int, int]]:
        """The maps of all classes [N,C,h,w], and (h,w).

        Raises:
            GraphError: The network is no detector, or its rows are no cells.
        """
        if not isinstance(net, DetectorNet) or not net.rows.grids:
            why = "is no detector"
            if isinstance(net, DetectorNet):
                why = "has rows that are no cells"
            elif net.where is not None:
                why = "is none: a segmenter's scores are already the maps of all classes"
            raise GraphError(
                f"it shows the scores of the cells of a detector's levels, and this network {why}; fuse another method"
            )
        net.plain()
        op, size, start = net.op, max((grid.height, grid.width) for grid in net.rows.grids), 0
        levels = []
        for grid in net.rows.grids:
            own = op.Slice(net.shares, [start], [start + grid.count], [2])
            # [N,C,outer,h,w,inner]
            best = op.ReduceMax(op.Reshape(own, [0, 0, *grid.shape]), [2, 5], keepdims=0)
            here = grid.height, grid.width
            levels.append(best if here == size else resized(op, best, here, size, before=2))
            start += grid.count
        return levels[0] if len(levels) == 1 else op.Max(*levels), size


def _stated(net: Net, maps: ir.Value, size: tuple[int, int]) -> ir.Value:
    """A map that states its shape, which is not the activation's."""
    maps.shape = ir.Shape([batch_of(net.image), *size])
    return maps
