"""How a sum of signed signals, as where a residual branch comes in, can share relevance out without cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ..backward.rules import Result, Step
from ..graph.emit import Ops
from .layer import SUMS, Layer
from .layer_rules import share, through
from .named_rules import rules


@rules.register("ratio")
@dataclass(frozen=True)
class Ratio:
    """R_i = |x_i| R / sum over j of |x_j|, 0 if all are 0 (relevance splitting by ratio, Otsuki et al. 2024, arXiv:2407.09115).

    The zero rule's shares x_i / sum of x_j grow without bound if the signals cancel, and so do their errors in float32. These
    shares lie in [0,1] and add up to 1: relevance neither grows nor gets lost.
    """

    kinds: ClassVar[tuple[str, ...]] = ()

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        if step.node.op_type not in SUMS:
            raise step.refuse("the rule 'ratio' is for sums")

        def shares(layer: Layer, r: ir.Value) -> list[ir.Value] | None:
            return share(layer, [layer.term(layer.sizes(), None)], r, 0.0, nonnegative=True)

        return through(op, step, r, shares)
