"""Score-CAM of some channels, on a network of 96 channels: beside Score-CAM of all of them, which has oracles of its own."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from xai_exporters import Request, export

from xai_deploy import Explainer

CHANNELS = 96
BACKENDS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budget")
    torch.manual_seed(3)
    last = torch.nn.Linear(CHANNELS, 5)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 24, 5, 2, 2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(24, CHANNELS, 3, 2, 1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        last,
    )
    with torch.no_grad():
        last.weight *= 40  # scores that differ from mask to mask
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (torch.rand(2, 3, 33, 41),), str(folder / "net.onnx"), dynamo=False, input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    for name, split in (("net", "auto"), ("layers", "/1/Relu_output_0,/3/Relu_output_0")):
        export(Request(folder / "net.onnx", split=split, output_path=folder / f"{name}.xai", preprocess="none"))
    return folder / "net.xai"


def images(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    coarse = rng.uniform(0, 1, (count, 3, 5, 6)).astype(np.float32)
    return np.repeat(np.repeat(coarse, 7, 2), 7, 3)[:, :, :33, :41]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_budget_and_a_tolerance(bundle: Path, backend: str, count: int) -> None:
    explainer, x = Explainer(bundle, backend, batch_size=7), images(count)
    exact = explainer.explain(x, "score-cam", 2, score="softmax", baseline="zeros")
    assert exact.diagnostics.keys() == {"score_range"}
    found = explainer.explain(x, "score-cam", 2, score="softmax", baseline="zeros", budget=40)
    assert found.diagnostics["passes"] == (41.0,) * count  # the black image is one
    for i in range(count):
        true = np.linalg.norm(found.raw[i] - exact.raw[i]) / np.linalg.norm(exact.raw[i])
        assert 0 < true < 0.25
        assert found.diagnostics["relative_error"][i] > true / 2
        assert np.corrcoef(found.raw[i].ravel(), exact.raw[i].ravel())[0, 1] > 0.97
    every = explainer.explain(x, "score-cam", 2, score="softmax", baseline="zeros", tolerance=1e-9)
    assert every.diagnostics["relative_error"] == (0.0,) * count
    np.testing.assert_allclose(every.raw, exact.raw, rtol=0, atol=1e-5 * np.abs(exact.raw).max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_and_batches_do_not_matter(bundle: Path, backend: str) -> None:
    x = images(3)
    together = Explainer(bundle, backend, batch_size=16).explain_many(x, [("score-cam", {"budget": 32})], [0, "top2"])
    for i in range(3):
        alone = Explainer(bundle, backend, batch_size=5).explain_many(
            x[i : i + 1], [("score-cam", {"budget": 32})], [0, "top2"]
        )
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_allclose(one.raw[i], other.raw[0], rtol=0, atol=2e-4 * np.abs(other.raw).max())


def test_each_layer_says_its_own(bundle: Path) -> None:
    explainer = Explainer(bundle.with_name("layers.xai"), "onnxruntime")
    names = [layer.name for layer in explainer.bundle.manifest.layers]
    found = explainer.explain(images(1), "score-cam", 2, budget=16)
    wanted = {f"{what}@{name}" for what in ("passes", "relative_error", "score_range") for name in names}
    assert found.diagnostics.keys() == wanted
    assert {found.diagnostics[f"passes@{name}"] for name in names} == {(16.0,)}
    alone = explainer.explain(images(1), "score-cam", 2, budget=16, layer=2)
    assert alone.diagnostics["relative_error"] == found.diagnostics[f"relative_error@{names[1]}"]


def test_a_bar_for_a_single_image(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts the channels asked for, and ends with them; no other bar is there."""
    bars: list[Bar] = []

    class Bar:
        def __init__(self, total: int, label: str, done: int) -> None:
            self.total, self.label, self.done, self.closed = total, label, done, False
            bars.append(self)

        def update(self, count: int) -> None:
            self.done += count

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr("xai_deploy.foundation.progress._bar", Bar)
    found = Explainer(bundle, "onnxruntime", batch_size=7, progress=True).explain(images(1), "score-cam", 2, budget=40)
    [bar] = bars
    assert (bar.total, bar.done, bar.closed) == (40, 40, True)
    assert bar.label == "channels of score-cam, at most"
    assert found.diagnostics["passes"] == (40.0,)
