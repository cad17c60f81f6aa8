"""Maps are compared with what patches of an image change: `followed.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from xai_exporters.cut import choose as choosing
from xai_exporters.cut import costs, followed
from xai_exporters.cut.choose import Choice, follow_choice
from xai_exporters.cut.featuremap import find_grid, is_feature_map
from xai_exporters.cut.followed import Followed, follow
from xai_exporters.cut.scores.logits import find_scores
from xai_exporters.errors import LayerError
from xai_exporters.graph.layouts import Grid
from xai_exporters.passes.clean import CleanGraph
from xai_exporters.request import Request

from .. import cut_nets as c
from .test_featuremap import exported, of_op, values

IMAGES = np.random.default_rng(0).standard_normal((2, *c.SHAPE)).astype(np.float32)


def last_tokens(kind: str) -> tuple[CleanGraph, ir.Value]:
    graph = exported(kind)
    return graph, of_op(graph, "LayerNormalization")[-1]


@pytest.mark.parametrize("kind", ["vit", "registers", "mixer", "windows", "unrolled", "gem", "gated", "shared query"])
def test_maps_that_lie_as_the_image_does(kind: str) -> None:
    graph = exported(kind)
    grids = [(v, grid_of(graph, v)) for v in values(graph) if v.dtype == ir.DataType.FLOAT]
    maps = [(v, grid) for v, grid in grids if grid is not None][::7]
    seen = [follow(graph, v, grid, IMAGES) for v, grid in maps]
    measured = [s for s in seen if s is not None]
    assert measured
    assert not [s for s in measured if s.misplaced]
    assert min(s.own for s in measured) < -0.4


def grid_of(graph: CleanGraph, value: ir.Value) -> Grid | None:
    try:
        return find_grid(graph, value, "layer")
    except LayerError:
        return None


@pytest.mark.parametrize("kind", ["vit", "registers"])
def test_shuffled_tokens_are_seen(kind: str) -> None:
    """The same tokens in a wrong order: mirrored, shifted by half the image, and shuffled."""
    graph, value = last_tokens(kind)
    grid = find_grid(graph, value, "layer")
    assert grid.shape[1:] == c.GRID
    cells = np.arange(24).reshape(c.GRID)
    for wrong in (cells[:, ::-1], np.roll(cells, (2, 3), (0, 1)), np.random.default_rng(1).permutation(24)):
        order = tuple(map(int, np.ravel(wrong)))
        seen = follow(graph, value, Grid("NTC", grid.shape, grid.prefix, order), IMAGES)
        assert seen is not None
        assert seen.misplaced, (seen, wrong)
    mirrored = follow(
        graph, value, Grid("NTC", grid.shape, grid.prefix, tuple(map(int, cells[:, ::-1].ravel()))), IMAGES
    )
    assert mirrored is not None
    row, column = mirrored.cell
    assert abs(mirrored.answers_at[0] - (row + 0.5) / 4) < 0.2
    assert abs(mirrored.answers_at[1] - (1 - (column + 0.5) / 6)) < 0.2


def test_a_map_that_lies_elsewhere_is_refused_and_auto_takes_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    graph, value = last_tokens("mixer")
    choice = Choice(value, find_scores(graph, None), (), None)
    seen: list[ir.Value] = []

    def elsewhere(clean: CleanGraph, target: ir.Value, grid: Grid, images: object, beside: object) -> Followed:
        seen.append(target)
        return Followed(-0.1 if len(seen) == 1 else -0.7, -0.8, (1, 2), (0.81, 0.65))

    monkeypatch.setattr(choosing, "follow", elsewhere)
    with pytest.raises(LayerError, match=r"'norm' is no feature map: .* \(row 1, column 2 answers most .* 0.81 of the"):
        follow_choice(graph, choice, Request(Path("x.onnx"), split="norm"), IMAGES)
    seen.clear()
    after = follow_choice(graph, choice, Request(Path("x.onnx")), IMAGES)
    assert [after.target] == seen[1:] != [value]
    assert "answers most to what changes at 0.81 of the height and 0.65 of the width" in caplog.text


def test_mixed_positions_are_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    graph, value = last_tokens("mixer")
    choice = Choice(value, find_scores(graph, None), (), None)
    monkeypatch.setattr(choosing, "follow", lambda *given: Followed(0.02, -0.3, (0, 0), (0.5, 0.5)))
    note = follow_choice(graph, choice, Request(Path("x.onnx")), IMAGES).note
    assert note is not None
    assert "answer to all parts of noise images alike" in note
    assert note in caplog.text


def test_what_the_list_of_layers_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cut as `follow` sees it alone; and no of tokens whose order is taken wrongly, few at a time."""
    graph, value = last_tokens("vit")
    cut = costs.Candidate(
        (), str(value.name), "LayerNormalization", find_grid(graph, value, "layer").shape, (), 0.5, 0.5
    )
    values_of = {str(v.name): v for v in values(graph)}
    several = [replace(cut, tensor=name) for name, v in values_of.items() if is_feature_map(graph, v)]
    assert len(several) > 10
    together = costs.measured(graph, several)
    monkeypatch.setattr(followed, "_TOGETHER", 1)
    assert costs.measured(graph, several) == together
    images, further = followed.noise_for(graph)
    for one in together[::9]:
        v = values_of[one.tensor]
        alone = follow(graph, v, find_grid(graph, v, "layer"), images, further)
        assert one.follows == (None if alone is None else alone.said)
    assert "yes" in {one.follows for one in together}
    grid = find_grid(graph, value, "layer")
    order = tuple(map(int, np.arange(24).reshape(c.GRID)[:, ::-1].ravel()))
    monkeypatch.setattr(costs, "is_feature_map", lambda *_: Grid("NTC", grid.shape, grid.prefix, order))
    assert [one.follows for one in costs.measured(graph, [cut])] == ["no"]
