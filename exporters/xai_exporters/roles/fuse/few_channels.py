"""Score-CAM's weights from a few channels, in a graph: a Gaussian process says what the network would score under the other masks.

The engine's `methods.interpolated_weights` chooses channels as it learns, and fits the process. A graph chooses all before the
network is asked, those that tell most of the others (a pivoted Cholesky factorisation of the covariance, each variance times the
channel's norm), and has a fixed length: Matern's kernel of order 5/2 of d = |M - M'| / sqrt(m), m the mean of |M - M'|^2 over all
pairs, with noise 1e-3 (Rasmussen and Williams 2006, section 2.2). With rows R = L^-1 K of the factorisation and T = L^-1, the
process' mean at all channels is y^T T^T R. Scores that are never negative are modelled by their square root.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from ...graph.emit import Ops

_NOISE = 1e-3


class Few:
    """The channels that are scored, and what their scores tell of all.

    Args:
        op: Where nodes are written.
        flat: The activation [N,K,P].
        varies: Which channels are not constant, [N,K,1].
        counts: K, and how many are scored.

    Attributes:
        chosen: Each scored channel as a unit vector, [N,scored,K].
    """

    def __init__(self, op: Ops, flat: ir.Value, varies: ir.Value, counts: tuple[int, int]) -> None:
        self._op, (self._count, self._scored) = op, counts
        norms = op.Sqrt(op.ReduceSum(op.Mul(flat, flat), [2], keepdims=1))  # [N,K,1]
        # above -1, which marks those that are not free
        worth = op.Transpose(op.Where(varies, norms, 0.0), perm=[0, 2, 1])  # [N,1,K]
        kernel = self._kernel(flat)
        numbers = np.arange(self._count, dtype=np.int64).reshape(1, 1, -1)
        steps = np.eye(self._scored, dtype=np.float32)
        variance: Any = np.ones((1, 1, self._count), np.float32)
        free: Any = np.ones((1, 1, self._count), np.float32)
        self._rows: ir.Value  # R, [N,scored,K]
        self._inverse: ir.Value  # T, [N,scored,scored]
        self.chosen: ir.Value
        for step in range(self._scored):
            gain = op.Mul(variance, worth)
            if step:
                gain = op.Where(op.Greater(free, 0.0), gain, -1.0)
            unit = op.Cast(op.Equal(numbers, op.ArgMax(gain, axis=2, keepdims=1)), to=int(ir.DataType.FLOAT))  # [N,1,K]
            column = op.MatMul(unit, kernel)
            own: Any = steps[step].reshape(1, 1, -1)
            if step:
                known = op.MatMul(unit, op.Transpose(self._rows, perm=[0, 2, 1]))  # a row of L, [N,1,step]
                column = op.Sub(column, op.MatMul(known, self._rows))
                own = op.Sub(own, op.MatMul(known, self._inverse))
            root = op.Sqrt(op.Add(op.Max(op.ReduceSum(op.Mul(column, unit), [2], keepdims=1), 0.0), _NOISE))
            row, own = op.Div(column, root), op.Div(own, root)
            variance = op.Max(op.Sub(variance, op.Mul(row, row)), 0.0)
            free = op.Sub(free, unit)
            self._rows = op.Concat(self._rows, row, axis=1) if step else row
            self._inverse = op.Concat(self._inverse, own, axis=1) if step else own
            self.chosen = op.Concat(self.chosen, unit, axis=1) if step else unit

    def all_scores(self, scores: ir.Value, roots: bool) -> ir.Value:
        """The scores of all channels [N,K,1], from those of the chosen ones [N,scored,1].

        Args:
            scores: Of the chosen channels.
            roots: They are never negative.
        """
        op = self._op
        values = op.Sqrt(op.Max(scores, 0.0)) if roots else scores
        mean = op.ReduceMean(values, [1], keepdims=1)  # [N,1,1]
        whitened = op.MatMul(self._inverse, op.Sub(values, mean))  # T y, [N,scored,1]
        told = op.Add(op.MatMul(op.Transpose(self._rows, perm=[0, 2, 1]), whitened), mean)  # [N,K,1]
        if roots:
            told = op.Max(told, 0.0)
            told = op.Mul(told, told)
        placed = op.Transpose(self.chosen, perm=[0, 2, 1])  # [N,K,scored]
        asked = op.ReduceSum(placed, [2], keepdims=1)
        result: ir.Value = op.Where(op.Greater(asked, 0.0), op.MatMul(placed, scores), told)
        return result

    def _kernel(self, flat: ir.Value) -> ir.Value:
        """Matern's kernel of all masks, [N,K,K]."""
        op, count = self._op, self._count
        low = op.ReduceMin(flat, [2], keepdims=1)
        spread = op.Sub(op.ReduceMax(flat, [2], keepdims=1), low)
        masks = op.Div(op.Sub(flat, low), op.Where(op.Greater(spread, 0.0), spread, 1.0))  # [N,K,P]
        squares = op.ReduceSum(op.Mul(masks, masks), [2], keepdims=1)  # [N,K,1]
        products = op.MatMul(masks, op.Transpose(masks, perm=[0, 2, 1]))
        apart = op.Sub(op.Add(squares, op.Transpose(squares, perm=[0, 2, 1])), op.Mul(products, 2.0))
        apart = op.Max(apart, 0.0)  # on the diagonal some rounding, too: the kernel is 1 - 1e-6 there
        pairs = op.Div(op.ReduceSum(apart, [1, 2], keepdims=1), float(count * (count - 1)))
        r = op.Mul(op.Sqrt(op.Div(apart, op.Max(pairs, 1e-30))), math.sqrt(5))
        kernel: ir.Value = op.Mul(op.Add(op.Add(op.Mul(op.Mul(r, r), 1 / 3), r), 1.0), op.Exp(op.Neg(r)))
        return kernel
