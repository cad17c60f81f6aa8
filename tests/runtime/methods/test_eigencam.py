"""Eigen-CAM and Eigen-Grad-CAM: against the singular value decomposition, float64, and torch's gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.methods.eigencam import first_component

from .. import tiny
from ..conftest import Bundles
from .test_gradient_methods import gradient, one_hot
from .test_methods import assert_close


def by_decomposition(values: NDArray[Any], centred: bool) -> NDArray[np.float64]:
    """values [n,K,h,w] -> [n,h,w], by the formula; the sign is that of the sum over the channels."""
    maps = []
    for image in values.astype(np.float64):
        rows = image.reshape(len(image), -1).T
        rows = rows - rows.mean(axis=0) if centred else rows
        projected = rows @ np.linalg.svd(rows, full_matrices=True)[2][0]
        projected = projected if (projected * rows.sum(axis=1)).sum() >= 0 else -projected
        maps.append(np.maximum(projected, 0).reshape(image.shape[1:]))
    return np.stack(maps)


@pytest.mark.parametrize("kind", ["pooled", "residual", "uint8"])
@pytest.mark.parametrize("count", [1, 3])
def test_eigen_cam(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, count)
    activation = net.head(np.moveaxis(x, -1, 1) if kind == "uint8" else x)[0].numpy()
    for centred in (False, True):
        first, other = Explainer(net.path, backend).explain_many(
            x, [("eigen-cam", {"centred": centred})], [0, "1 vs 2"]
        )
        assert_close(first.raw, by_decomposition(activation, centred))
        np.testing.assert_array_equal(other.raw, first.raw)
        assert not any(first.signed)


@pytest.mark.parametrize("kind", ["pooled", "residual"])
def test_eigen_grad_cam(bundles: Bundles, backend: str, kind: tiny.Kind) -> None:
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, 3)
    targets: list[Any] = [[3, 1, 0], "not 1", "0 vs 2"]
    seeds = [one_hot([3, 1, 0]), -one_hot([1] * 3), one_hot([0] * 3) - one_hot([2] * 3)]
    for centred in (False, True):
        spec: Any = ("eigen-grad-cam", {"centred": centred})
        found = Explainer(net.path, backend).explain_many(x, [spec], targets)
        for e, seed in zip(found, seeds, strict=True):
            a, g = gradient(net, x, seed)
            wanted = by_decomposition(a * g, centred)
            if wanted.any():
                assert_close(e.raw, wanted)
            else:  # all of the component speaks against the target
                assert not e.raw.any()
        assert sum(e.raw.any() for e in found) >= 2


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 5, 1, 2), (3, 2, 3, 3, 5), (1, 4, 1, 1)], ids=str)
@pytest.mark.parametrize("centred", [False, True])
def test_more_channels_or_more_positions(shape: tuple[int, ...], centred: bool) -> None:
    """Either matrix of products gives the same; volumes have three axes of positions."""
    values = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    got = first_component(values, centred)
    np.testing.assert_allclose(got, by_decomposition(values, centred), rtol=0, atol=1e-5 * np.abs(values).max())


@pytest.mark.parametrize("shape", [(1, 7, 3, 5), (1, 24, 3, 5)], ids=str)
@pytest.mark.parametrize("centred", [False, True])
def test_channels_whose_sum_is_rounding(shape: tuple[int, ...], centred: bool) -> None:
    """As after a layer norm without gains: the map must not turn its sign with the last bit of a number."""
    random = np.random.default_rng(6)
    values = random.standard_normal(shape)
    values -= values.mean(axis=1, keepdims=True)
    rows = values[0].reshape(shape[1], -1).T
    rows = rows - rows.mean(axis=0) if centred else rows
    projected = rows @ np.linalg.svd(rows)[2][0]
    wanted = np.maximum(projected * np.sign(projected[np.abs(projected).argmax()]), 0).reshape(1, *shape[2:])
    for _ in range(8):
        rounded = (values * (1 + 2e-7 * random.uniform(-1, 1, shape))).astype(np.float32)
        np.testing.assert_allclose(first_component(rounded, centred), wanted, atol=1e-5)


def test_pytorch_grad_cam() -> None:
    """Its projection, whose sign is free."""
    peer = pytest.importorskip("pytorch_grad_cam.utils.svd_on_activations")
    values = np.random.default_rng(5).standard_normal((3, 6, 4, 5)).astype(np.float32)
    for got, theirs in zip(first_component(values, True), peer.get_2d_projection(values), strict=True):
        assert min(np.abs(got - np.maximum(sign * theirs, 0)).max() for sign in (1, -1)) < 1e-5 * np.abs(theirs).max()


def test_nothing_varies() -> None:
    for values in (np.zeros((1, 3, 2, 2), np.float32), np.ones((1, 3, 2, 2), np.float32)):
        np.testing.assert_allclose(first_component(values, True), 0, atol=1e-6)
