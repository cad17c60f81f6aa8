"""RISE against the authors' algorithm, written again: scikit-image for the masks, the networks in torch, float64."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.transform import resize

from xai_deploy import Explainer, method_names
from xai_deploy.errors import NonFiniteOutputError, NotApplicableError, OptionError
from xai_deploy.methods import create
from xai_deploy.methods.balanced_grids import balanced
from xai_deploy.methods.mask_regression import Drawn
from xai_deploy.methods.rise_masks import Enlarged

from ...evaluation.metrics import linear
from .. import oracles, tiny
from ..conftest import Bundles
from .test_methods import counting

Floats = NDArray[np.float64]
KINDS: tuple[tiny.Kind, ...] = ("pooled", "residual", "nhwc", "uint8")
FEW: dict[str, Any] = {"masks": 21, "cells": 3}


def authors_masks(seed: int, count: int, cells: int, p: float, height: int, width: int, border: str = "edge") -> Floats:
    """eclique/RISE, explanations.py, generate_masks (commit ac419cd), [N,H,W]; its random numbers are NumPy's global ones,
    here a generator's, mask by mask: the grid, the row, the column. It has border="reflect"."""
    rng = np.random.default_rng(seed)
    cell = [math.ceil(height / cells), math.ceil(width / cells)]
    masks = np.empty((count, height, width))
    for i in range(count):
        grid = (rng.random((cells, cells)) < p).astype(np.float32)
        x, y = rng.integers(0, cell[0]), rng.integers(0, cell[1])
        enlarged = resize(  # type: ignore[no-untyped-call]
            grid, ((cells + 1) * cell[0], (cells + 1) * cell[1]), order=1, mode=border, anti_aliasing=False
        )
        masks[i] = enlarged[x : x + height, y : y + width]
    return masks


def oracle(net: tiny.Tiny, x: NDArray[Any], masks: Floats, p: float, score: str) -> Floats:
    """sum of f(x * M) M / N / p, one mask at a time, for all classes: [classes,n,H,W]."""
    maps = []
    for image in x:
        total = np.zeros((tiny.CLASSES, tiny.HEIGHT, tiny.WIDTH))
        for mask in masks:
            masked = image * (mask[..., None] if net.kind == "nhwc" else mask[None])
            if net.kind == "uint8":
                masked = np.rint(masked)
            logits = net.logits(masked[None])[0]
            f = (torch.softmax(logits, 0) if score == "softmax" else logits).numpy()
            total += f[:, None, None] * mask
        maps.append(total / len(masks) / p)
    return np.stack(maps, axis=1)


def constant(folder: Path, height: int, width: int, **more: Any) -> Explainer:
    """A network whose only logit is 1, whatever it sees: RISE's map is the mean of the masks / p."""
    return linear.network(folder, np.zeros((1, 1, height, width)), [1], **more)


def masks_of(explainer: Explainer, **options: Any) -> Floats:
    """The sum of the masks / N, [H,W]."""
    spec = explainer.bundle.manifest.input
    found = explainer.explain(np.zeros((1, spec.height, spec.width), np.float32), "rise", 0, score="logit", **options)
    total: Floats = found.raw[0].astype(np.float64) * options.get("p", 0.5)
    return total


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_authors_algorithm(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    net, x = bundles(kind), tiny.inputs(kind, count)
    explainer = Explainer(net.path, backend, batch_size=8)
    for seed, (score, cells, p) in enumerate((("softmax", 3, 0.5), ("logit", 2, 0.3))):
        options = {"masks": 21, "cells": cells, "p": p, "score": score, "seed": seed}
        masks = authors_masks(seed, 21, cells, p, tiny.HEIGHT, tiny.WIDTH)
        wanted = oracle(net, oracles.network_input(kind, x), masks, p, score)
        found = explainer.explain_many(x, [("rise", options)], range(tiny.CLASSES))
        assert np.ptp(wanted, axis=(2, 3)).min() > 1e-3 * np.abs(wanted).max()
        # rounding a masked pixel to 8 bits may fall on the other side of a half
        tolerance = np.abs(wanted).max() * (2e-4 if kind == "uint8" else 5e-6)
        for explanation, raw in zip(found, wanted, strict=True):
            assert explanation.options == {**options, "estimate": "mean", "draw": "independent", "tolerance": None}
            assert explanation.raw.shape == (count, tiny.HEIGHT, tiny.WIDTH)
            np.testing.assert_allclose(explanation.raw, raw, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("height", "width"), [(16, 20), (13, 31), (7, 5), (1, 1)])
@pytest.mark.parametrize("cells", [1, 3, 8, 40])
def test_masks_are_scikit_images(tmp_path: Path, height: int, width: int, cells: int) -> None:
    """Everywhere those with the edge repeated. The authors' border is `reflect`, mirrored about the edge cell's centre: it is
    another within half a cell of the enlarged grid's border, of which a mask shows at most one side of each axis' two."""
    explainer = constant(tmp_path / "net", height, width)
    down, across = math.ceil(height / cells), math.ceil(width / cells)
    for seed in range(4):
        mask = masks_of(explainer, masks=1, cells=cells, p=0.4, seed=seed)
        [wanted] = authors_masks(seed, 1, cells, 0.4, height, width)
        np.testing.assert_allclose(mask, wanted, rtol=0, atol=1e-6)
        if cells == 1:  # one cell has no neighbour to be mirrored
            continue
        [authors] = authors_masks(seed, 1, cells, 0.4, height, width, "reflect")
        rng = np.random.default_rng(seed)
        rng.random((cells, cells))
        top, left = rng.integers(0, down), rng.integers(0, across)
        scale = (cells + 1) * down / cells, (cells + 1) * across / cells  # pixels of an enlarged cell
        rows = (np.arange(height) + top + 0.5) / scale[0]
        columns = (np.arange(width) + left + 0.5) / scale[1]
        inner = np.ix_(
            np.flatnonzero(abs(rows - cells / 2) <= cells / 2 - 0.5),
            np.flatnonzero(abs(columns - cells / 2) <= cells / 2 - 0.5),
        )
        np.testing.assert_allclose(mask[inner], authors[inner], rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_constant_network_has_a_flat_map(tmp_path: Path, p: float) -> None:
    """E[M] = p at every pixel, the border included: 1/(N p) sum M is 1, within five standard deviations of a mean of N."""
    explainer = constant(tmp_path / "net", 16, 20)
    mean = masks_of(explainer, masks=1500, cells=4, p=p)
    assert np.abs(mean - p).max() < 5 * math.sqrt(p * (1 - p) / 1500)
    assert np.ptp(mean) > 0


def test_pixels_that_matter_stand_out(tmp_path: Path) -> None:
    """f is the sum of one quarter's pixels: its map has its maximum there."""
    weight = np.zeros((2, 1, 16, 20))
    weight[0, 0, 8:, :10] = 1
    explainer = linear.network(tmp_path / "net", weight)
    x = np.ones((1, 16, 20), np.float32)
    heat = explainer.explain(x, "rise", 0, masks=800, cells=4, score="logit").heatmap[0]
    inside = heat[8:, :10]
    outside = heat[weight[0, 0] == 0]
    assert heat.max() == inside.max() == 1
    assert inside.mean() > outside.mean() + 0.4


@pytest.mark.parametrize("kind", ["pooled", "nhwc", "uint8"])
def test_batches_of_any_size_give_the_same(bundles: Bundles, backend: str, kind: tiny.Kind) -> None:
    """21 masks and 3 images in batches of 1, 7 and 16: the masks are drawn one by one."""
    maps = [
        Explainer(bundles(kind).path, backend, batch_size=size).explain(tiny.inputs(kind, 3), "rise", 1, **FEW).raw
        for size in (1, 7, 16, 64)
    ]
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], rtol=0, atol=2e-6 * np.abs(maps[0]).max())


def test_an_image_alone_gets_the_same_masks(bundles: Bundles) -> None:
    x = tiny.inputs("pooled", 3)
    explainer = Explainer(bundles("pooled").path, "onnxruntime", batch_size=2)
    together = explainer.explain(x, "rise", [0, 1, 2], **FEW).raw
    for i in range(3):
        alone = explainer.explain(x[i], "rise", i, **FEW).raw[0]
        np.testing.assert_allclose(together[i], alone, rtol=0, atol=2e-6 * np.abs(alone).max())


def test_inferences(bundles: Bundles) -> None:
    """N for each image, whatever the number of targets, in batches that are full but for the last; and one for the logits."""
    explainer = Explainer(bundles("pooled").path, "onnxruntime", batch_size=8)
    head = counting(explainer, "head")
    explainer.explain_many(tiny.inputs("pooled", 2), [("rise", FEW)], ["top3", 0])
    assert head.batches == [2, 8, 8, 8, 8, 5, 5]


@pytest.mark.parametrize("score", ["softmax", "logit"])
def test_targets_and_contrasts(bundles: Bundles, backend: str, score: str) -> None:
    """The map is linear in the score: a contrast's is a difference, a seed's by hand a weighted sum."""
    explainer = Explainer(bundles("pooled").path, backend)
    x = tiny.inputs("pooled", 3)
    spec = ("rise", {**FEW, "score": score})
    singles = np.stack([e.raw for e in explainer.explain_many(x, [spec], range(tiny.CLASSES))])  # [classes,n,H,W]
    tolerance = 5e-6 * np.abs(singles).max()
    weights = np.random.default_rng(0).standard_normal((3, tiny.CLASSES)).astype(np.float32)
    contrast, predicted, each, by_hand = explainer.explain_many(
        x, [spec], ["beagle vs tabby cat", None, [4, 1, 3], weights]
    )
    np.testing.assert_allclose(contrast.raw, singles[2] - singles[0], rtol=0, atol=tolerance)
    assert contrast.versus is not None
    assert contrast.versus.tolist() == [0, 0, 0]
    rows = np.arange(3)
    np.testing.assert_allclose(predicted.raw, singles[explainer.predict(x).argmax(1), rows], rtol=0, atol=tolerance)
    np.testing.assert_allclose(each.raw, singles[[4, 1, 3], rows], rtol=0, atol=tolerance)
    wanted = np.einsum("nc,cnhw->nhw", weights, singles)
    np.testing.assert_allclose(by_hand.raw, wanted, rtol=0, atol=5 * tolerance)


def test_seeds(explainer: Explainer) -> None:
    x = tiny.inputs("pooled", 1)
    first, again, other = (explainer.explain(x, "rise", 0, seed=seed, **FEW).raw for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.05 * np.abs(first).max()
    np.testing.assert_array_equal(explainer.explain(x, "rise", 0, **FEW).raw, first)


def test_defaults() -> None:
    """The paper's least number of masks, its 8 x 8 cells (7 x 7 in its text, 8 in its code) and its p."""
    method = create("rise", {})
    assert method == create("rise", {"masks": 4000, "cells": 8, "p": 0.5, "score": "probability", "seed": 0})
    assert method == create("rise", {"masks": "4000", "p": "0.5"})
    assert "rise" in method_names()
    assert dict(method.roles) == {}


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_one_class(tmp_path: Path, activation: Any) -> None:
    explainer = linear.network(tmp_path / "net", np.ones((1, 1, 6, 5)), activation=activation)
    x = np.ones((1, 6, 5), np.float32)
    always = "rise: score 'softmax' is always 1 for a network of one class; give score='logit'"
    with pytest.raises(NotApplicableError, match=always):
        explainer.explain(x, "rise", score="softmax", **FEW)
    if activation == "sigmoid":
        assert np.ptp(explainer.explain(x, "rise", **FEW).raw) > 0
    else:
        with pytest.raises(
            NotApplicableError, match="rise: the network has a single output that is not a probability; give"
        ):
            explainer.explain(x, "rise", **FEW)
    assert np.ptp(explainer.explain(x, "rise", score="logit", **FEW).raw) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": 0}, "rise: masks and cells are at least 1, seed at least 0"),
        ({"cells": 0}, "rise: masks and cells are at least 1, seed at least 0"),
        ({"seed": -1}, "rise: masks and cells are at least 1, seed at least 0"),
        ({"p": 0.0}, r"rise: p is between 0 and 1, not 0\.0"),
        ({"p": 1.0}, r"rise: p is between 0 and 1, not 1\.0"),
        ({"p": -0.5}, r"rise: p is between 0 and 1, not -0\.5"),
        ({"p": math.nan}, "rise: p is between 0 and 1, not nan|rise.p: expected"),
        ({"tolerance": 0.0}, r"rise: tolerance is above 0, not 0\.0"),
        ({"estimate": "median"}, r"rise\.estimate: expected one of 'mean', 'regression'"),
        ({"score": "sigmoid"}, r"rise\.score: expected one of 'probability', 'logit', 'softmax'"),
        ({"masks": 2.5}, r"rise\.masks: expected int"),
        ({"number": 3}, "rise: no option 'number'; it has masks, cells, p, score, seed, estimate, draw, tolerance"),
        ({"draw": "balanced", "p": 0.3}, r"rise: balanced masks show half of the cells: p is 0\.5 for them, not 0\.3"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create("rise", options)


def test_networks_that_give_nan(bundles: Bundles) -> None:
    with pytest.raises(NonFiniteOutputError, match="NaN or infinity"):
        Explainer(bundles("nan").path, "onnxruntime").explain(tiny.inputs("nan", 1), "rise", 0, **FEW)


def expected(net: tiny.Tiny, x: NDArray[Any], cells: int, p: float, score: str = "softmax") -> Floats:
    """The expectation of RISE's map of one image over all its masks, by enumeration: [classes,H,W]. scikit-image's masks."""
    step = [math.ceil(side / cells) for side in (tiny.HEIGHT, tiny.WIDTH)]
    total = np.zeros((tiny.CLASSES, tiny.HEIGHT, tiny.WIDTH))
    for number in range(2 ** (cells * cells)):
        grid = ((number >> np.arange(cells * cells)) & 1).reshape(cells, cells).astype(np.float32)
        share = p ** grid.sum() * (1 - p) ** (1 - grid).sum()
        enlarged = resize(  # type: ignore[no-untyped-call]
            grid, [(cells + 1) * one for one in step], order=1, mode="edge", anti_aliasing=False
        )
        offsets = [(a, b) for a in range(step[0]) for b in range(step[1])]
        masks = np.stack([enlarged[a : a + tiny.HEIGHT, b : b + tiny.WIDTH] for a, b in offsets])
        logits = net.logits((x[None] * masks[:, None]).astype(np.float32))
        f = (logits if score == "logit" else torch.softmax(logits, 1)).numpy()
        total += share * np.tensordot(f.T, masks, 1) / len(offsets) / p
    return total


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_regression_tends_to_the_same_map(bundles: Bundles, backend: str, p: float) -> None:
    """Beside the enumeration: nearer than the mean over three times as many masks, as near as its error says."""
    net, x = bundles("residual"), tiny.inputs("residual", 2)
    explainer = Explainer(net.path, backend)
    truth = [expected(net, image, 2, p)[1] for image in x]

    def error(found: Any, i: int) -> float:
        one, other = found.raw[i] - found.raw[i].mean(), truth[i] - truth[i].mean()
        return float(np.linalg.norm(one - other) / np.linalg.norm(other))

    options: dict[str, Any] = {"cells": 2, "p": p, "score": "softmax"}
    ours, theirs, said = [], [], []
    for seed in range(4):
        few = explainer.explain(x, "rise", 1, masks=200, estimate="regression", seed=seed, **options)
        many = explainer.explain(x, "rise", 1, masks=600, seed=seed, **options)
        assert (few.diagnostics["passes"], many.diagnostics["passes"]) == ((200.0, 200.0), (600.0, 600.0))
        for i in range(2):
            ours.append(error(few, i))
            theirs.append(error(many, i))
            said.append((few.diagnostics["relative_error"][i], many.diagnostics["relative_error"][i]))
            np.testing.assert_allclose(few.raw[i].mean(), truth[i].mean(), rtol=0.1)
    rms = [float(np.sqrt(np.mean(np.square(values)))) for values in (ours, theirs, *zip(*said, strict=True))]
    assert rms[0] < rms[1]
    assert 0.6 * rms[0] < rms[2] < 2.5 * rms[0]
    assert 0.6 * rms[1] < rms[3] < 2.5 * rms[1]


@pytest.mark.parametrize("score", ["probability", "logit"])
def test_balanced_masks(bundles: Bundles, backend: str, score: str) -> None:
    """No bias beside the enumeration, nearer to it than independent masks, and as near as the error says.

    The score's constant cancels within a pair. Its differences do not, whatever their sign.
    """
    net, x = bundles("residual"), tiny.inputs("residual", 1)
    truth = expected(net, x[0], 2, 0.5, score)[1]
    explainers = [Explainer(net.path, backend, batch_size=size) for size in (5, 64)]
    wrong: dict[str, list[Floats]] = {"independent": [], "balanced": []}
    said = []
    for seed in range(12):
        for draw, errors in wrong.items():
            found = explainers[1].explain(x, "rise", 1, masks=40, cells=2, seed=seed, draw=draw, score=score)
            errors.append(found.raw[0] - truth)
        said.append(found.diagnostics["relative_error"][0])
    again = explainers[0].explain(x, "rise", 1, masks=40, cells=2, seed=11, draw="balanced", score=score)
    np.testing.assert_allclose(again.raw, found.raw, atol=1e-5 * np.abs(truth).max())
    rms = {draw: math.sqrt(np.mean([error.var() for error in errors])) for draw, errors in wrong.items()}
    assert rms["balanced"] < 0.5 * rms["independent"]
    assert float(np.mean(wrong["balanced"], axis=0).std()) < 2 * rms["balanced"] / math.sqrt(12)
    assert 0.9 * rms["balanced"] < np.mean(said) * truth.std()


def test_the_error_of_opposite_masks() -> None:
    """An odd score says the same of both masks of a pair: the error is that of half as many, beside 400 other draws."""
    rng, enlarged = np.random.default_rng(0), Enlarged((8, 10), 3, 0.5)
    weights = rng.standard_normal(math.prod(enlarged.parts))
    maps, said = [], []
    for _ in range(400):
        grids, offsets = enlarged.draw(rng, 20)
        drawn = Drawn(enlarged, 0, in_pairs=True)
        drawn.add(np.stack([grids, 1 - grids], 1).reshape(40, 3, 3), np.repeat(offsets, 2, axis=0))
        scores = np.tanh(drawn.coarse @ weights)
        maps.append(scores @ drawn.coarse / 40)
        said.append(drawn._chance(scores))
    # the variance over the parts, as `relative_error` takes it: without the map's mean
    true = (np.array(maps) - np.mean(maps, axis=0)).var(axis=1).mean()
    assert 0.85 * true < np.mean(said) < 1.15 * true


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (2, 3, 3), (1, 1)])
def test_balanced_grids(shape: tuple[int, ...]) -> None:
    """Two cells are equal in half of a block; over blocks each grid of two cells is as frequent as any other."""
    count, order = math.prod(shape), 1 << (math.prod(shape) - 1).bit_length()
    drawn = balanced(np.random.default_rng(0), shape)
    blocks = [np.stack([next(drawn) for _ in range(order)]).reshape(order, count) for _ in range(200)]
    for block in blocks[:3]:
        signs = 2 * block - 1
        np.testing.assert_array_equal(signs.T @ signs, order * np.eye(count))
    first = np.stack([block[0] for block in blocks])
    assert np.abs(first.mean(axis=0) - 0.5).max() < 0.15
    if count > 1:
        assert np.abs(np.mean(first[:, 0] == first[:, -1]) - 0.5) < 0.15


@pytest.mark.parametrize(("estimate", "tolerance"), [("mean", 0.3), ("regression", 0.06)])
def test_a_tolerance_ends_it(bundles: Bundles, estimate: str, tolerance: float) -> None:
    """Each map by itself, at a multiple of 64; it is the map of so many masks, in any batch."""
    x = tiny.inputs("residual", 3)
    options: dict[str, Any] = {"cells": 3, "estimate": estimate}
    explainers = [Explainer(bundles("residual").path, "onnxruntime", batch_size=size) for size in (7, 50)]
    found, other = (
        one.explain_many(x, [("rise", {**options, "masks": 1000, "tolerance": tolerance})], [0, 3])
        for one in explainers
    )
    seen = set()
    for explanation, again in zip(found, other, strict=True):
        for i in range(3):
            passes, error = (explanation.diagnostics[name][i] for name in ("passes", "relative_error"))
            seen.add(passes)
            assert passes % 64 == 0 or passes == 1000
            assert error <= tolerance or passes == 1000
            target = int(explanation.target[i])
            alone = explainers[0].explain(x[i], "rise", target, masks=int(passes), **options)
            scale = np.abs(alone.raw).max()
            np.testing.assert_allclose(explanation.raw[i], alone.raw[0], rtol=0, atol=1e-5 * scale)
            np.testing.assert_allclose(again.raw[i], alone.raw[0], rtol=0, atol=1e-5 * scale)
            assert alone.diagnostics["relative_error"][0] == pytest.approx(error, rel=1e-3)
    assert len(seen) > 1


@pytest.mark.parametrize("masks", [1, 2, 5])
def test_few_masks_are_no_good_map(bundles: Bundles, masks: int) -> None:
    explainer = Explainer(bundles("residual").path, "onnxruntime")
    found = explainer.explain(tiny.inputs("residual", 2), "rise", 0, masks=masks, cells=3, estimate="regression")
    assert np.isfinite(found.raw).all()
    assert min(found.diagnostics["relative_error"]) > 0.3
