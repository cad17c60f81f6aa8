"""A detector in a fused graph: `target` is a class, whose best row is explained, or `row` says which row; a contrast has two."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import onnx_ir as ir

from xai_deploy.format.bundle import BY_SEED, DENSE, PREDICTED, ROW, SEED, VERSUS_ROW
from xai_deploy.format.rows import Rows

from ...cut.scores.rows import row_pieces
from ...errors import GraphError
from ...graph.measure import batch_of
from ...vjp.graph import Begin, Start, by_row
from ..material import Material
from .net import Net
from .regions import unless_empty


class DetectorNet(Net):
    """A `Net` whose scores are rows. The row is chosen between the network and the walk back, from the first copy's scores.

    Until then two tensors stand for what the choice gives: which row it is, and the weights of its scores; of a contrast, of both.

    Args:
        material: The network.
        fixed_target: Always explain the best row; the graph has neither `target` nor `row`.
        versus: Further inputs, the class that is subtracted, and its row.
    """

    def __init__(self, material: Material, fixed_target: bool = False, versus: bool = False) -> None:
        super().__init__(material, fixed_target, versus=versus)
        assert material.logits.scores.rows is not None  # only detectors have rows
        self.rows: Rows = material.logits.scores.rows
        batch = batch_of(self.image)
        self.asked = [self.target if fixed_target else self._input(ROW, (batch,), ir.DataType.INT64)]
        if versus:
            self.asked.append(self._input(VERSUS_ROW, (batch,), ir.DataType.INT64))
        self.where = self.region = ir.Value(name="where/chosen")
        self._seed = ir.Value(name="seed/chosen")
        self._dense: ir.Value | None = None
        self._others, self._times_logits = 0.0, False

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
        self._others, self._times_logits = others, times_logits and self.regions > 1

        def at_scores(graph: ir.Graph, logits: ir.Value, _: int) -> Begin:
            return by_row(graph, logits, self.rows.classes)

        return at_scores

    def start_feeds(self, copies: int = 1) -> dict[str, ir.Value]:
        """See `Net.start_feeds`."""
        return {SEED: self._seed if copies == 1 else self.op.Tile(self._seed, [copies, 1, 1])}

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

    def _row_of(self, target: ir.Value, asked: ir.Value) -> ir.Value:
        """The row that is asked for, int64 [N,1]; a number that is no row if no row is of the class `target`."""
        op, (best, classes) = self.op, self.best
        column = op.Unsqueeze(target, [1])
        fits = op.Or(op.Equal(classes, column), op.Equal(column, PREDICTED))
        of_class = op.Where(fits, best, -1.0)
        found = op.Greater(op.ReduceMax(of_class, [1], keepdims=1), -0.5)
        row = op.Where(found, op.ArgMax(of_class, axis=1, keepdims=1), BY_SEED)
        asked = op.Unsqueeze(asked, [1])
        chosen: ir.Value = op.Where(op.Equal(asked, PREDICTED), row, asked)
        return chosen

    @cached_property
    def _rows(self) -> list[ir.Value]:
        """The row explained, and that of the class that is subtracted, int64 [N,1] each."""
        targets = [self.target] if self.versus is None else [self.target, self.versus]
        return [self._row_of(*one) for one in zip(targets, self.asked, strict=True)]

    @cached_property
    def _picked(self) -> ir.Value:
        """1 at each row that is scored, [N,R,rows] float32; zeros if there is none."""
        count = self.material.logits.scores.shape[1]
        picked = [self.op.Where(self.op.Equal(np.arange(count)[None], row), 1.0, 0.0) for row in self._rows]  # [N,rows]
        each = [self.op.Unsqueeze(one, [1]) for one in picked]
        return each[0] if len(each) == 1 else self.op.Concat(*each, axis=1)

    @property
    def subtracted(self) -> ir.Value:
        """See `Net.subtracted`: of images that have both rows."""
        assert self.versus is not None  # who asks has a contrast
        return unless_empty(self.op, self.versus, self._picked)

    def _class_of(self, asked: ir.Value, region: int) -> ir.Value:
        """See `Net._class_of`: the entry of the row's score."""
        op = self.op
        column = op.Unsqueeze(asked, [1])
        last = self.material.logits.scores.shape[1] - 1
        own = op.GatherElements(self.best[1], op.Max(op.Min(self._rows[region], last), 0), axis=1)
        chosen: ir.Value = op.Where(op.Equal(column, PREDICTED), own, column)
        if not self.rows.labelled:
            return chosen
        return op.Where(op.Equal(chosen, own), 0, BY_SEED)

    @cached_property
    def _weights(self) -> ir.Value:
        """The weights of the scores of each row when a walk begins, [N,R,C] float32: 1, and `others` at the row's other classes.

        A contrast has -1 in its second row, and no others; or the product of both with their logits.
        """
        op, classes = self.op, np.arange(self.rows.classes)[None]
        is_own = op.Equal(classes, self.chosen)
        own = op.Where(is_own, 1.0, 0.0)  # [N,C]
        one = op.ReduceSum(own, [1], keepdims=1)
        alone = op.Mul(op.Where(is_own, 1.0, self._others), one) if self._others else own
        if self.versus is None:
            return op.Unsqueeze(alone, [1])
        other = op.Mul(op.Where(op.Equal(classes, self.against), 1.0, 0.0), one)
        first = op.Where(op.Greater(op.ReduceSum(other, [1], keepdims=1), 0.0), own, alone)
        weights: ir.Value = op.Concat(op.Unsqueeze(first, [1]), op.Unsqueeze(op.Neg(other), [1]), axis=1)
        if not self._times_logits:
            return weights
        return op.Mul(weights, op.MatMul(self._picked, op.Transpose(self._pieces[0], perm=[0, 2, 1])))
