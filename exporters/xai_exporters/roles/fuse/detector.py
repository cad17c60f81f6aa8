"""A detector in a fused graph: `target` is a class, whose best row is explained, or `row` says which row."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import onnx_ir as ir

from xai_deploy.format.bundle import DENSE, PREDICTED, ROW, SEED
from xai_deploy.format.rows import Rows

from ...cut.scores.rows import row_pieces
from ...errors import GraphError
from ...graph.measure import batch_of
from ...vjp.graph import Begin, Start, by_row
from ..material import Material
from .net import Net

_FLOAT = int(ir.DataType.FLOAT)


class DetectorNet(Net):
    """A `Net` whose scores are rows. The row is chosen between the network and the walk back, from the first copy's scores.

    Until then two tensors stand for what the choice gives: which row it is, and the weights of its scores.

    Args:
        material: The network.
        fixed_target: Always explain the best row; the graph has neither `target` nor `row`.
    """

    def __init__(self, material: Material, fixed_target: bool = False) -> None:
        super().__init__(material, fixed_target)
        assert material.logits.scores.rows is not None  # only detectors have rows
        self.rows: Rows = material.logits.scores.rows
        batch = batch_of(self.image)
        self.asked = self.target if fixed_target else self._input(ROW, (batch,), ir.DataType.INT64)
        self.where = self.region = ir.Value(name="where/chosen")
        self._seed = ir.Value(name="seed/chosen")
        self._dense: ir.Value | None = None
        self._others = 0.0

    @property
    def dense(self) -> ir.Value:
        """All rows, [N,entries,rows] float32."""
        assert self._dense is not None  # a method calls `plain`, `gradient` or `relevance` first
        return self._dense

    @property
    def compared(self) -> int:
        """See `Net.compared`: coordinates are no classes."""
        return self.rows.classes

    def explained(self, score: str) -> str:
        """See `Net.explained`.

        Raises:
            GraphError: The score is not the logit.
        """
        if score != "logit":
            raise GraphError(
                "a masked image has other boxes, which the runtime engine matches with the one explained (D-RISE), and a fused "
                "graph does not; use the engine, or fuse with score=logit, the score of the same row"
            )
        return super().explained(score)

    def start(self, others: float = 0.0, times_logits: bool = False) -> Start:
        """See `Net.start`."""
        self._others = others

        def at_scores(graph: ir.Graph, logits: ir.Value, _: int) -> Begin:
            return by_row(graph, logits, self.rows.classes)

        return at_scores

    def start_feeds(self, copies: int = 1) -> dict[str, ir.Value]:
        """See `Net.start_feeds`."""
        return {SEED: self._seed if copies == 1 else self.op.Tile(self._seed, [copies, 1])}

    def add(self, part: ir.Graph, feeds: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        """See `Net.add`."""
        results = super().add(part, feeds)
        if self._dense is None and DENSE in results:
            self._dense = results[DENSE]
            stand_ins, chosen = (self.region, self._seed), (self._picked, self._weights)
            for stand_in, value in zip(stand_ins, chosen, strict=True):
                stand_in.replace_all_uses_with(value)
            self.region, self._seed = chosen
        return results

    @cached_property
    def _pieces(self) -> list[ir.Value]:
        return [self.floats(piece) for piece in row_pieces(self.dense)]

    @cached_property
    def shares(self) -> ir.Value:
        """The probability of each class in each row, [N,C,rows] float32; that of the background is 0."""
        op, scores, spec, activation = self.op, self._pieces[0], self.rows, self.material.logits.activation
        shares: ir.Value = op.Sigmoid(scores) if activation == "sigmoid" else scores
        shares = op.Softmax(scores, axis=1) if activation in ("softmax", "none") else shares
        if spec.background is not None:
            shares = op.Mul(shares, (np.arange(spec.classes) != spec.background).astype(np.float32)[None, :, None])
        return shares

    @property
    def places(self) -> ir.Value:
        """The four coordinates of each row, [N,4,rows] float32."""
        return self._pieces[1]

    @cached_property
    def best(self) -> tuple[ir.Value, ir.Value]:
        """The probability of the best class of each row [N,rows] and that class, as `xai_deploy.detections` finds them."""
        op = self.op
        if self.rows.labelled:
            labels = op.Cast(op.Round(self._pieces[-1]), to=int(ir.DataType.INT64))
            return op.Squeeze(self._pieces[0], [1]), op.Squeeze(labels, [1])
        return op.ReduceMax(self.shares, [1], keepdims=0), op.ArgMax(self.shares, axis=1, keepdims=0)

    @cached_property
    def _row(self) -> ir.Value:
        """The row explained, int64 [N,1]; a number that is no row if no row is of the class."""
        op, (best, classes) = self.op, self.best
        column = op.Unsqueeze(self.target, [1])
        fits = op.Or(op.Equal(classes, column), op.Equal(column, PREDICTED))
        of_class = op.Where(fits, best, -1.0)
        found = op.Greater(op.ReduceMax(of_class, [1], keepdims=1), -0.5)
        row = op.Where(found, op.ArgMax(of_class, axis=1, keepdims=1), BY_NONE)
        asked = op.Unsqueeze(self.asked, [1])
        chosen: ir.Value = op.Where(op.Equal(asked, PREDICTED), row, asked)
        return chosen

    @cached_property
    def _picked(self) -> ir.Value:
        """1 at the row explained, [N,1,rows] float32; zeros if there is none."""
        count = self.material.logits.scores.shape[1]
        picked: ir.Value = self.op.Where(self.op.Equal(np.arange(count)[None], self._row), 1.0, 0.0)
        return self.op.Unsqueeze(picked, [1])

    @cached_property
    def chosen(self) -> ir.Value:
        """See `Net.chosen`: the entry of the row's score."""
        op = self.op
        column = op.Unsqueeze(self.target, [1])
        last = self.material.logits.scores.shape[1] - 1
        own = op.GatherElements(self.best[1], op.Max(op.Min(self._row, last), 0), axis=1)
        chosen: ir.Value = op.Where(op.Equal(column, PREDICTED), own, column)
        if not self.rows.labelled:
            return chosen
        return op.Where(op.Equal(chosen, own), 0, BY_NONE)

    @cached_property
    def _weights(self) -> ir.Value:
        """The weights of the row's scores when a walk begins, [N,C] float32: 1, and `others` at the other classes."""
        op, classes = self.op, np.arange(self.rows.classes)[None]
        own = op.Equal(classes, self.chosen)
        weights: ir.Value = op.Where(own, 1.0, self._others)
        if not self._others:
            return weights
        return op.Mul(weights, op.ReduceSum(op.Cast(own, to=_FLOAT), [1], keepdims=1))


BY_NONE = -2
"""A number that is neither a class nor a row."""
