"""The gradient family against torch autograd in float64 and the formulas of the papers, on both runtimes."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xai_deploy import Contrast, Explainer
from xai_deploy.errors import NotApplicableError

from .. import oracles, tiny
from ..conftest import Bundles
from .test_methods import assert_close, counting

KINDS: list[tiny.Kind] = ["pooled", "residual", "nhwc"]
CAMS = ("grad-cam", "grad-cam++", "xgrad-cam", "hires-cam", "layer-cam")
SEED = np.array([0.5, -1.0, 0.25, 0.0, 2.0])


def gradient(net: tiny.Tiny, x: NDArray[Any], seed: NDArray[Any]) -> tuple[Any, Any]:
    """Activation and d(seed . logits)/d(activation), [n,K,h,w]."""
    activation, side = net.head(x)
    leaf = activation.detach().requires_grad_()
    (net.tail(leaf, side) * torch.from_numpy(seed)).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return activation.detach().numpy(), leaf.grad.numpy()


def input_gradient(net: tiny.Tiny, x: NDArray[Any], seed: NDArray[Any]) -> Any:
    """d(seed . logits)/dx [n,C,H,W]; the head is written with numpy in and out, so through its own steps."""
    w = {name: torch.from_numpy(value).double() for name, value in tiny.weights().items()}
    leaf = torch.from_numpy(planes(net.kind, x)).double().requires_grad_()
    first = torch.relu(torch.nn.functional.conv2d(leaf, w["conv1"], w["bias1"], stride=4))
    if net.kind == "residual":
        second = torch.relu(torch.nn.functional.conv2d(first, w["conv2"], padding=1))
        logits = net.tail(second, first)
    else:
        logits = net.tail(first, None)
    (logits * torch.from_numpy(seed)).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return leaf.grad.numpy()


def planes(kind: tiny.Kind, x: NDArray[Any]) -> NDArray[Any]:
    return x.transpose(0, 3, 1, 2) if kind == "nhwc" else x


def formula(method: str, a: NDArray[Any], g: NDArray[Any], eps: float = 0.0) -> NDArray[Any]:
    """methods.md, position by position."""
    n, channels, h, w = a.shape
    raw = np.zeros((n, h, w))
    for i in range(n):
        for k in range(channels):
            weight: Any = 1.0
            if method == "grad-cam":
                weight = g[i, k].sum() / (h * w)
            elif method == "grad-cam++":
                weight = 0.0
                for y in range(h):
                    for x in range(w):
                        d = g[i, k, y, x]
                        below = 2 * d**2 + a[i, k].sum() * d**3 + eps
                        weight += (d**2 / below if below else 0.0) * max(d, 0.0)
            elif method == "xgrad-cam":
                weight = (g[i, k] * a[i, k]).sum() / a[i, k].sum() if a[i, k].sum() else 0.0
            elif method == "hires-cam":
                weight = g[i, k]
            elif method == "layer-cam":
                weight = np.maximum(g[i, k], 0)
            raw[i] += weight * a[i, k]
    return np.maximum(raw, 0)


def one_hot(classes: Any) -> NDArray[Any]:
    rows: NDArray[Any] = np.eye(tiny.CLASSES)[np.atleast_1d(classes)]
    return rows


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_cams(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, count)
    explainer = Explainer(net.path, backend, batch_size=2)
    predicted = net.logits(x).argmax(dim=1).numpy()
    per_image = [3, 1, 0][:count]
    targets: list[Any] = [None, 2, per_image, "beagle vs 1", Contrast(None, 0), SEED, np.tile(SEED, (count, 1))]
    seeds = [one_hot(predicted), one_hot(2), one_hot(per_image), one_hot(2) - one_hot(1)]
    seeds += [one_hot(predicted) - one_hot(0), SEED, SEED]
    flat = 0
    found = explainer.explain_many(x, [*CAMS, ("grad-cam++", {"eps": 1e-6})], targets)
    for m, method in enumerate([*CAMS, "grad-cam++"]):
        for t, seed in enumerate(seeds):
            e = found[m * len(targets) + t]
            a, g = gradient(net, x, np.broadcast_to(seed, (count, tiny.CLASSES)).copy())
            wanted = formula(method, a, g, eps=1e-6 if m == len(CAMS) else 0.0)
            if np.ptp(wanted) == 0:  # negative everywhere before the ReLU
                assert not e.raw.any()
                flat += 1
                continue
            assert_close(e.raw, wanted)
            assert_close(e.logits, net.logits(x).numpy())
    assert flat <= len(found) // 2
    assert found[0].target.tolist() == predicted.tolist()
    assert found[2].target.tolist() == per_image
    assert found[3].versus is not None
    assert (found[3].target.tolist(), found[3].versus.tolist()) == ([2] * count, [1] * count)
    assert found[0].versus is found[5].versus is None
    assert found[5].target.tolist() == [4] * count


def test_grad_cam_on_a_pooled_tail_is_cam(bundles: Bundles, backend: str) -> None:
    """g = w_c / (h w) at every position."""
    net, x = bundles("pooled", gradients=True), tiny.inputs("pooled", 2)
    explainer = Explainer(net.path, backend)
    grad_cam, cam = explainer.explain_many(x, ["grad-cam", "cam"], [1])
    assert_close(grad_cam.raw * tiny.H * tiny.W, cam.raw)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_pixels(bundles: Bundles, backend: str, kind: tiny.Kind) -> None:
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, 2)
    explainer = Explainer(net.path, backend)
    for target, seed in ((3, one_hot([3, 3])), ("1 vs 2", one_hot([1, 1]) - one_hot([2, 2]))):
        g = input_gradient(net, x, seed)
        plain, product = explainer.explain_many(x, ["gradient", "input-x-gradient"], [target])
        assert_close(plain.raw, np.abs(g).max(axis=1))
        assert_close(product.raw, (g * planes(kind, x)).sum(axis=1))
        assert_close(explainer.explain(x, "gradient", target, channels="sum").raw, g.sum(axis=1))
        assert_close(explainer.explain(x, "gradient", target, channels="sum-abs").raw, np.abs(g).sum(axis=1))


def test_uint8_images_have_gradients_but_no_values_between(bundles: Bundles, backend: str) -> None:
    net, x = bundles("uint8", gradients=True), tiny.inputs("uint8", 2)
    explainer = Explainer(net.path, backend)
    w = {name: torch.from_numpy(value).double() for name, value in tiny.weights().items()}
    leaf = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).double().requires_grad_()
    first = torch.relu(
        torch.nn.functional.conv2d(leaf * float(np.float32(tiny.SCALE)), w["conv1"], w["bias1"], stride=4)
    )
    net.tail(first, None)[:, 2].sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    # 16 x 20 images of the network's own size are preprocessed without a change
    assert_close(explainer.explain(list(x), "gradient", 2).raw, leaf.grad.abs().amax(dim=1).numpy())
    for method in ("smoothgrad", "smooth-grad-cam++", "integrated-gradients"):
        with pytest.raises(NotApplicableError, match=f"{method.replace('+', '.')}: the network takes uint8 images"):
            explainer.explain(list(x), method, 2)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_smoothgrad(bundles: Bundles, backend: str, batch_size: int) -> None:
    net, x = bundles("residual", gradients=True), tiny.inputs("residual", 2)
    explainer = Explainer(net.path, backend, batch_size=batch_size)
    total, squares = np.zeros(x.shape), np.zeros(x.shape)
    moments = np.zeros((3, 2, tiny.CHANNELS, tiny.H, tiny.W))
    for sample in range(4):
        noise = np.random.default_rng([7, sample]).standard_normal(x.shape[1:])
        ranges = np.array([image.max() - image.min() for image in x])
        noisy = (x + 0.2 * ranges[:, None, None, None] * noise).astype(np.float32)
        g = input_gradient(net, noisy, one_hot([1, 1]))
        total, squares = total + g / 4, squares + g**2 / 4
        _, at_layer = gradient(net, noisy, one_hot([1, 1]))
        moments += np.stack([at_layer, at_layer**2, at_layer**3]) / 4
    options: dict[str, Any] = {"samples": 4, "sigma": 0.2, "seed": 7}
    e = explainer.explain(x, "smoothgrad", 1, **options)
    assert_close(e.raw, np.abs(total).max(axis=1))
    assert_close(explainer.explain(x, "smoothgrad", 1, squared=True, **options).raw, squares.max(axis=1))
    again = explainer.explain(x[1:], "smoothgrad", 1, **options)
    assert_close(again.raw, e.raw[1:])  # whatever stands beside it
    other = explainer.explain(x, "smoothgrad", 1, **{**options, "seed": 8})
    assert np.abs(other.raw - e.raw).max() > 1e-3 * np.abs(e.raw).max()

    a = net.head(x)[0].numpy()
    below = 2 * moments[1] + a.sum(axis=(2, 3), keepdims=True) * moments[2]
    alpha = np.divide(moments[1], below, out=np.zeros_like(below), where=below != 0)
    weights = (alpha * np.maximum(moments[0], 0)).sum(axis=(2, 3))
    wanted = np.maximum((weights[:, :, None, None] * a).sum(axis=1), 0)
    assert_close(explainer.explain(x, "smooth-grad-cam++", 1, **options).raw, wanted, 1e-4)


def test_smooth_methods_without_noise_are_the_plain_ones(bundles: Bundles, backend: str) -> None:
    explainer = Explainer(bundles("residual", gradients=True).path, backend)
    x = tiny.inputs("residual", 2)
    for smooth, plain in (("smoothgrad", "gradient"), ("smooth-grad-cam++", "grad-cam++")):
        still = explainer.explain(x, smooth, 1, samples=2, sigma=0)
        assert_close(still.raw, explainer.explain(x, plain, 1).raw)


@pytest.mark.parametrize("baseline", ["zeros", "black"])
@pytest.mark.parametrize("kind", KINDS)
def test_integrated_gradients_are_complete(
    bundles: Bundles, backend: str, kind: tiny.Kind, baseline: str, caplog: pytest.LogCaptureFixture
) -> None:
    net, x = bundles(kind, gradients=True), tiny.inputs(kind, 2)
    explainer = Explainer(net.path, backend, batch_size=7)
    e = explainer.explain(x, "integrated-gradients", [0, 3], steps=300, baseline=baseline)
    start = np.zeros_like(x)  # the tiny bundles' mean is 0, so that black is zero too
    change = (net.logits(x) - net.logits(start)).numpy()[[0, 1], [0, 3]]
    assert np.abs(e.raw.sum(axis=(1, 2)) - change).max() < 0.01 * np.abs(change).max()
    assert not caplog.records
    steps = (np.arange(1000) + 0.5) / 1000
    points = np.concatenate([x * a for a in steps])  # each image's gradient depends on the image alone
    way = (
        input_gradient(net, points, np.tile(one_hot([0, 3]), (1000, 1)))
        .reshape(1000, 2, *planes(kind, x).shape[1:])
        .mean(0)
    )
    wanted = (way * planes(kind, x)).sum(axis=1)
    assert np.abs(e.raw - wanted).max() < 0.02 * np.abs(wanted).max()  # the reference is a sum of 1000 steps itself


def test_black_is_the_preprocessed_black(bundles: Bundles, tmp_path: Any) -> None:
    from xai_deploy.format.bundle import Preprocess

    how = Preprocess(scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    net = tiny.write(tmp_path / "net.xai", "nhwc", gradients=True, preprocess=how)
    x = tiny.inputs("nhwc", 1)
    e = Explainer(net.path, "onnxruntime").explain(x, "integrated-gradients", 1, steps=300, baseline="black")
    black = np.broadcast_to(np.array([-2.5, -4 / 3, -0.75], np.float32), x.shape)
    change = float((net.logits(x) - net.logits(black))[0, 1])
    assert abs(float(e.raw.sum()) - change) < 0.01 * abs(change)


def test_incomplete_integrals_are_said(bundles: Bundles, caplog: pytest.LogCaptureFixture) -> None:
    explainer = Explainer(bundles("residual", gradients=True).path, "onnxruntime")
    with caplog.at_level(logging.WARNING):
        explainer.explain(tiny.inputs("residual", 2), "integrated-gradients", 1, steps=1)
    assert "differs from the change of the score by" in caplog.text
    assert "give more steps (now 1)" in caplog.text


def test_guided(bundles: Bundles, backend: str) -> None:
    """By torch's own hooks: at each ReLU only what is positive passes."""
    net, x = bundles("residual", gradients=True), tiny.inputs("residual", 2)
    w = {name: torch.from_numpy(value).double() for name, value in tiny.weights().items()}

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
            context.save_for_backward(value)
            return value.clamp(min=0)

        @staticmethod
        def backward(context: Any, dy: torch.Tensor) -> torch.Tensor:
            (value,) = context.saved_tensors
            return torch.where((value > 0) & (dy > 0), dy, 0)

    guided: Any = Guided.apply
    leaf = torch.from_numpy(x).double().requires_grad_()
    conv = torch.nn.functional.conv2d
    first = guided(conv(leaf, w["conv1"], w["bias1"], stride=4))
    second = guided(conv(first, w["conv2"], padding=1))
    mixed = guided(conv(second, w["conv3"], padding=1) + first)
    (mixed.flatten(1) @ w["flat"])[:, 1].sum().backward()
    assert leaf.grad is not None
    explainer = Explainer(net.path, backend)
    fine, both, coarse = explainer.explain_many(x, ["guided-backprop", "guided-grad-cam", "grad-cam"], [1])
    assert_close(fine.raw, leaf.grad.abs().amax(dim=1).numpy())
    up = oracles.upsample(torch.from_numpy(coarse.raw).double()).numpy()
    assert_close(both.raw, leaf.grad.abs().amax(dim=1).numpy() * up)
    assert np.abs(fine.raw - explainer.explain(x, "gradient", 1).raw).max() > 0.01


@pytest.mark.parametrize("target", [None, 2, [1, None]])
def test_one_head_run_and_no_second_pass(bundles: Bundles, target: Any) -> None:
    explainer = Explainer(bundles("residual", gradients=True).path, "onnxruntime")
    x = tiny.inputs("residual", 2)
    explainer._network.proven |= {"gradient", "input-gradient"}  # else each is compared with head and tail, once
    counts = {role: counting(explainer, role) for role in ("head", "tail", "gradient", "input-gradient")}
    explainer.explain_many(x, CAMS, [target])
    assert {role: len(c.batches) for role, c in counts.items()} == {
        "head": 1,
        "tail": 0,
        "gradient": 1,
        "input-gradient": 0,
    }
    explainer.explain_many(x, CAMS, [target, 0, "1 vs 2"])
    assert {role: len(c.batches) for role, c in counts.items()} == {
        "head": 2,
        "tail": 0,
        "gradient": 4,
        "input-gradient": 0,
    }
    explainer.explain(x, "gradient", target)
    assert [len(c.batches) for c in counts.values()] == [2, 0, 4, 1]
    explainer.explain_many(x, ["grad-cam"], ["top3"])  # the first of the three is the predicted class
    assert [len(c.batches) for c in counts.values()] == [3, 0, 7, 1]


def test_a_label_that_reads_like_a_contrast_is_a_label(tmp_path: Any) -> None:
    labels = ("cat vs dog", "cat", "dog", "d", "e")
    net = tiny.write(tmp_path / "net.xai", labels=labels, gradients=True)
    e = Explainer(net.path, "onnxruntime").explain(tiny.inputs("pooled", 1), "grad-cam", "cat vs dog")
    assert (e.target.tolist(), e.versus) == ([0], None)


@pytest.mark.parametrize(
    ("method", "pixelwise"),
    [("cam", True), ("reciprocam", True), ("reciprocam", False), ("score-cam", True), ("score-cam", False)],
)
def test_scores_are_linear_in_the_seed(bundles: Bundles, backend: str, method: str, pixelwise: bool) -> None:
    """The map of a contrast, before any ReLU, is the difference of the classes' maps; of a seed by hand the weighted sum."""
    explainer = Explainer(bundles("pooled", pixelwise).path, backend)
    x = tiny.inputs("pooled", 2)
    every: dict[str, dict[str, Any]] = {"cam": {"relu": False}, "reciprocam": {}, "score-cam": {"score": "logit"}}
    options = every[method]
    maps = [explainer.explain(x, method, c, **options).raw.astype(np.float64) for c in range(tiny.CLASSES)]
    contrast = explainer.explain(x, method, "3 vs 1", **options).raw
    by_hand = explainer.explain(x, method, SEED, **options).raw
    if method != "score-cam":
        assert_close(contrast, maps[3] - maps[1])
        assert_close(by_hand, sum(s * m for s, m in zip(SEED, maps, strict=True)))
    else:  # it keeps the positive part only: where the difference is positive and both maps are, they agree
        both = (maps[3] > 0) & (maps[1] > 0)
        assert_close(contrast[both], np.maximum(maps[3] - maps[1], 0)[both])
        assert both.any()
    if method == "reciprocam":
        shares = [explainer.explain(x, method, c, score="softmax").raw.astype(np.float64) for c in (3, 1)]
        assert_close(explainer.explain(x, method, "3 vs 1", score="softmax").raw, shares[0] - shares[1])


@pytest.mark.parametrize("count", [1, 3])
def test_integrated_gradients_states_its_error(bundles: Bundles, backend: str, count: int) -> None:
    """The gap between the map's sum and the score's change, and the baseline's score, from torch's logits; for each target."""
    net, x = bundles("residual", gradients=True), tiny.inputs("residual", count)
    explanations = Explainer(net.path, backend).explain_many(x, [("integrated-gradients", {"steps": 2})], [2, "0 vs 1"])
    high, low = (net.tail(*net.head(one)).detach().numpy() for one in (x, np.zeros_like(x)))
    for own, seed in zip(explanations, (np.eye(5)[2], np.eye(5)[0] - np.eye(5)[1]), strict=True):
        change, sums = (high - low) @ seed, own.raw.reshape(count, -1).sum(axis=1)
        np.testing.assert_allclose(own.diagnostics["baseline"], low @ seed, atol=1e-5)
        np.testing.assert_allclose(own.diagnostics["gap"], np.abs(sums - change) / np.abs(change), rtol=1e-3, atol=1e-5)
    assert max(explanations[0].diagnostics["gap"]) > 1e-3, "two steps are few"
