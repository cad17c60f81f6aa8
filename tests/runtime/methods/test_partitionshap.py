"""Partition SHAP: against the recursive definition of Owen values, the networks in torch, and figures of the package shap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.errors import OptionError
from xai_deploy.methods import create
from xai_deploy.methods.partitionshap import PartitionShap, _Group

from .. import oracles, tiny
from ..conftest import Bundles
from .test_kernelshap import every_score
from .test_lime import KINDS, cells

Floats = NDArray[np.float64]

# By shap 0.51.0, PartitionExplainer(batch_size=16), of `Toy` with the hierarchy of a grid: all 170 evaluations of 16
# segments, and 98 of 36.
SHAP = {
    (16, 170): [
        *(-0.536259025889211, 0.1411241230647617, -0.25072736741790425, 1.1726857235230197),
        *(-0.36525976053017395, -0.2090991238682001, -0.626563220151652, -0.031266424237693734),
        *(0.08164597625492348, 0.2568692449726844, -0.17577468979528854, -0.07553366292842242),
        *(-0.599476101245166, -0.35416757915235186, 1.0682829303663828, 0.4940689756258072),
    ],
    (36, 98): [
        *(-0.028306457163778807, 0.3956887600277985, 0.38758151202547975, -0.010412633357122824),
        *(-0.10768968592027596, -0.10768968592027596, -0.025537720911345898, -0.025537720911345898),
        *(-0.025537720911345898, -0.03797139584275926, 0.1548349127944231, 0.1548349127944231),
        *(-0.025537720911345898, -0.025537720911345898, -0.025537720911345898, -0.03797139584275926),
        *(0.0007288367511421274, 0.0007288367511421274, -0.04590769091255678, -0.11120557759463054),
        *(-0.11120557759463054, 0.014939324769500882, 0.10813340780221257, 0.13776809279470872),
        *(0.13972510614067257, 0.11550815951287428, 0.11550815951287428, -0.01540171871372984),
        *(-0.058768315815888233, -0.058768315815888233, 0.13972510614067257, 0.05441530460116545),
        *(0.05441530460116545, -0.01540171871372984, -0.03765743023223864, -0.03765743023223864),
    ],
}


class Toy:
    """tanh(z . v + z W z), in place of a network's scores of one image."""

    image: Any = SimpleNamespace(image=0, forward=SimpleNamespace(progress=lambda steps, total, label: iter(steps)))

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.w, self.v = rng.standard_normal((count, count)) / count, rng.standard_normal(count)
        self.seen = 0

    def of(self, shown: NDArray[np.bool_]) -> Floats:
        """[r,1]."""
        self.seen += len(shown)
        z = shown.astype(float)
        return np.asarray(np.tanh(z @ self.v + np.einsum("ri,ij,rj->r", z, self.w, z))[:, None])


@pytest.mark.parametrize(("count", "samples"), list(SHAP))
def test_the_package(count: int, samples: int) -> None:
    toy = Toy(count)
    place = np.stack(np.divmod(np.arange(count), int(count**0.5)), axis=1).astype(float)
    method = PartitionShap(samples=samples)
    values, unsplit, passes = method._shared(_Group(np.arange(count), place), toy, 0)  # type: ignore[arg-type]
    assert passes <= samples + 2
    np.testing.assert_allclose(values, SHAP[count, samples], rtol=0, atol=1e-12)
    assert toy.seen == samples + 2
    assert (unsplit == 0) == (count == 16)


def owen(f: Floats, members: NDArray[np.int64], context: int) -> dict[int, Floats]:
    """The value of each segment of a square of cells [a,a] beside a context: halves of halves, by the definition."""
    low, high = f[context], f[context | sum(1 << int(i) for i in members.ravel())]
    if members.size == 1:
        return {int(members.ravel()[0]): high - low}
    if members.shape[0] >= members.shape[1]:
        middle = members.shape[0] // 2
        halves = members[:middle], members[middle:]
    else:
        middle = members.shape[1] // 2
        halves = members[:, :middle], members[:, middle:]
    values: dict[int, Floats] = {}
    for own, other in (halves, halves[::-1]):
        beside = context | sum(1 << int(i) for i in other.ravel())
        alone, after = owen(f, own, context), owen(f, own, beside)
        values |= {i: (alone[i] + after[i]) / 2 for i in alone}
    return values


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_definition(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    """3 x 3 cells of 16 x 20 pixels: across first, then down; each target as if it were alone."""
    net, x = bundles(kind), tiny.inputs(kind, count)
    explainer, labels = Explainer(net.path, backend, batch_size=8), cells(3)
    given, sizes = oracles.network_input(kind, x), np.bincount(cells(3).ravel())
    square = np.arange(9).reshape(3, 3)
    spec = {"segments": "grid:3", "samples": 200, "score": "logit", "baseline": "zeros"}
    found = explainer.explain_many(x, [("partition-shap", spec)], [1, 3])
    for i, one in enumerate(given):
        f = every_score(net, one, labels, "logit")
        want = owen(f, square.T, 0)  # turned: the image is wider than high, so columns are halved first
        values = np.stack([want[i] for i in range(9)]) / sizes[:, None]
        for c, got in zip((1, 3), found, strict=True):
            np.testing.assert_allclose(got.raw[i], values[:, c][labels], rtol=0, atol=2e-6 * np.abs(values).max())
            np.testing.assert_allclose(got.raw[i].sum(dtype=np.float64), f[-1, c] - f[0, c], rtol=0, atol=1e-4)
            assert got.diagnostics["unsplit"][i] == 0


def test_a_budget(bundles: Bundles) -> None:
    """The sum stays f(x) - f(baseline); what is not split is said, and less of it with more samples. Batches do not matter."""
    x = tiny.inputs("residual", 2)
    maps, unsplit = [], []
    for batch, samples in ((16, 6), (16, 40), (3, 40), (64, 4000)):
        explainer = Explainer(bundles("residual").path, "onnxruntime", batch_size=batch)
        got = explainer.explain(x, "partition-shap", 2, segments="grid:6", samples=samples)
        maps.append(got.raw)
        unsplit.append(got.diagnostics["unsplit"])
    sums = np.stack([raw.sum((1, 2), dtype=np.float64) for raw in maps])
    np.testing.assert_allclose(sums, sums[:1].repeat(4, 0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(maps[1], maps[2], rtol=0, atol=1e-6)
    assert unsplit[0][0] > unsplit[1][0] > unsplit[3][0] == 0
    [alone] = (
        Explainer(bundles("residual").path, "onnxruntime")
        .explain(x[1], "partition-shap", 2, segments="grid:6", samples=40)
        .raw
    )
    np.testing.assert_allclose(alone, maps[1][1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "partition-shap: samples are at least 2, not 1"),
        ({"seed": 1}, "partition-shap: no option 'seed'"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create("partition-shap", options)
