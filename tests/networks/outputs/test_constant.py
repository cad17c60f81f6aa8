"""A map that is the same everywhere says why, for regions, numbers and similarities as for classes: each is built in.

The export says it of the graphs whose gradient or relevance is zero on noise. An export's reason of `NEGATIVE` is that of
relevance: the rule z+ passes what counts for the number alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from xai_exporters import Request, export

from xai_deploy import Contrast, Explainer, Like, Region
from xai_deploy.constant_maps import INACTIVE, INDEPENDENT, NEGATIVE, SATURATED, ZERO_IMAGE

from ...exporters.running import both_ways
from .nets import SIZE, images


class Built(nn.Module):
    """relu(conv), then scores at each position, an embedding or numbers; the reason for a map of zeros is built in.

    `against`: how many of the scores the layer counts against, if that is the reason.
    """

    def __init__(self, reason: str, kind: str, against: int = 1) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.last = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 4, 1)
        self.reason, self.kind = reason, kind
        with torch.no_grad():
            self.last.weight.copy_(self.last.weight.abs())
            nn.init.ones_(self.last.bias).mul_(torch.tensor([0.4, 0.3, 0.2, 0.1]))  # type: ignore[arg-type]
            self.first.bias.fill_(-1e6 if reason == INACTIVE else 0.1)  # type: ignore[union-attr]
            self.first.weight.copy_(self.first.weight.abs())
            if reason == NEGATIVE:
                self.last.weight.mul_(torch.tensor([-1.0] * against + [1.0] * (4 - against))[:, None, None, None])
            if reason == INDEPENDENT:
                self.last.weight.mul_(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(torch.relu(self.first(x)))
        if self.kind != "region":
            y = y.mean((2, 3))
        if self.reason == SATURATED:
            y = torch.clamp(y * 1e4, 0, 6)
        return Tensor(y / y.norm(dim=1, keepdim=True) if self.kind == "similarity" else y)


TARGETS: dict[str, Any] = {
    "region": Region(0, (2, 3, 9, 8)),
    "number": "#0",
    "similarity": Like(np.array([1, 0, 0, 0], np.float32)),
}
GRAPHS = {INACTIVE: ("relevance",), INDEPENDENT: ("gradient", "relevance"), SATURATED: ("gradient",), NEGATIVE: ()}
"""The graphs that give only zeros on noise: a gradient does not see that a layer is dead, relevance not that an end is flat."""


def exported(folder: Path, network: nn.Module, kind: str) -> Any:
    onnx.save(both_ways(network, False, (3, *SIZE)), folder / "net.onnx")
    more: dict[str, Any] = {"task": "numbers"} if kind == "number" else {}
    return export(Request(folder / "net.onnx", "/Relu_output_0", folder / "net.xai", preprocess="none", **more))


@pytest.mark.parametrize("kind", list(TARGETS))
@pytest.mark.parametrize(
    "reason", [INACTIVE, INDEPENDENT, SATURATED, NEGATIVE], ids=lambda reason: reason.split(":")[0]
)
def test_reasons(tmp_path: Path, reason: str, kind: str) -> None:
    done, target = exported(tmp_path, Built(reason, kind), kind), TARGETS[kind]
    # an embedding at one end of a clip moves to zeros only, which have no direction: 0/0
    if not (reason == SATURATED and kind == "similarity"):
        assert done.dead == dict.fromkeys(GRAPHS[reason], reason)
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(tmp_path / "net.xai", backend)
        got = explainer.explain(images(2), "grad-cam", target)
        assert not got.raw.any()
        assert got.constant == (reason, reason), backend


@pytest.mark.parametrize("kind", ["region", "number"])
def test_all_scores_are_counted_against(tmp_path: Path, kind: str) -> None:
    """The export says it of relevance, and the engine of what keeps one sign; the gradient itself is not zero."""
    done = exported(tmp_path, Built(NEGATIVE, kind, against=4), kind)
    assert done.dead == {"relevance": NEGATIVE}
    explainer = Explainer(tmp_path / "net.xai")
    for method in ("grad-cam", "layer-cam"):
        assert explainer.explain(images(1), method, TARGETS[kind]).constant == (NEGATIVE,)
    if kind == "number":  # in the other direction it counts for the number
        assert explainer.explain(images(1), "grad-cam", "not #0").constant == (None,)


@pytest.mark.parametrize("input_gradient", [True, False])
def test_rules_that_keep_nothing(tmp_path: Path, input_gradient: bool) -> None:
    """Relevance at the pixels is zero since everything counts against the number; nothing is clipped on the way."""
    onnx.save(both_ways(Built(NEGATIVE, "number", against=4), False, (3, *SIZE)), tmp_path / "net.onnx")
    asked: dict[str, Any] = {"preprocess": "none", "task": "numbers", "pixel_relevance": True}
    request = Request(
        tmp_path / "net.onnx", "/Relu_output_0", tmp_path / "net.xai", input_gradient=input_gradient, **asked
    )
    done = export(request)
    assert done.dead == {"relevance": NEGATIVE, "pixel-relevance": NEGATIVE}
    for backend in ("onnxruntime", "openvino"):
        assert Explainer(done.path, backend).explain(images(1), "lrp", "#0").constant == (NEGATIVE,)


SEARCHES: dict[str, dict[str, Any]] = {
    "group-cam": {"score": "logit"},
    "extremal-perturbation": {"iterations": 3},
    "meaningful-perturbation": {"score": "logit", "iterations": 3},
}
SAID = "the score stays the same whatever is hidden, but for rounding, in {} of 1 maps"


@pytest.mark.parametrize("method", SEARCHES)
def test_a_score_that_no_mask_changes(tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture) -> None:
    """Number 1 is clipped unless all is hidden, so no mask changes it; number 0 changes."""
    network = Ends()
    onnx.save(both_ways(network, False, (3, *SIZE)), tmp_path / "net.onnx")
    asked: dict[str, Any] = {"preprocess": "none", "task": "numbers", "input_gradient": True}
    done = export(Request(tmp_path / "net.onnx", "/Relu_output_0", tmp_path / "net.xai", **asked))
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend)
        caplog.clear()
        found = explainer.explain(images(1), method, "#0", **SEARCHES[method])
        assert found.diagnostics["score_range"][0] > 1e-4
        assert "whatever is hidden" not in caplog.text
        found = explainer.explain(images(1), method, "#1", **SEARCHES[method])
        assert found.diagnostics["score_range"] == (0.0,)
        # Group-CAM's groups begin with the gradient, which is 0: there is one score, of the blurred image
        assert (SAID.format(1) in caplog.text) is (method != "group-cam")
        if method == "group-cam":
            assert found.constant == (SATURATED,)  # the others' masks may vary from their prices or from rounding


class Ends(nn.Module):
    """relu(conv) and its mean as number 0; number 1 is that on the flat end of a clip, which only zeros leave."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(3, 6, 3, 2, 1)
        with torch.no_grad():
            self.first.weight.copy_(self.first.weight.abs())

    def forward(self, x: Tensor) -> Tensor:
        mean = torch.relu(self.first(x)).mean((1, 2, 3))
        return torch.stack([mean, torch.clamp(mean * 1e6, 0, 6)], 1)


def test_a_zero_image_is_told(tmp_path: Path) -> None:
    """Input times gradient is zero where the input is, though the gradient is not: nothing counts against the number."""
    torch.manual_seed(0)
    padded = [
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(),
    ]  # its border is no constant
    net = nn.Sequential(*padded, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    for one in net.parameters():
        nn.init.uniform_(one, 0.1, 0.5)
    onnx.save(both_ways(net, False, (3, *SIZE)), tmp_path / "net.onnx")
    asked: dict[str, Any] = {"preprocess": "none", "task": "numbers", "input_gradient": True}
    done = export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", **asked))
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend)
        x = np.concatenate([np.zeros_like(images(1)), images(1)])
        assert explainer.explain(x, "gradient", "#0").constant == (None, None)
        assert explainer.explain(x, "input-x-gradient", "#0").constant == (ZERO_IMAGE, None)


def test_an_image_compared_with_itself_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its map is not constant, it is rounding."""
    x = images(2)
    x[1] *= np.array([9, 0, 0], np.float32)[:, None, None]
    onnx.save(both_ways(Built("", "similarity"), False, (3, *SIZE)), tmp_path / "net.onnx")
    request = Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", preprocess="none", task="embedding")
    explainer = Explainer(export(request).path)
    with torch.no_grad():
        own = Built("", "similarity")(torch.from_numpy(x)).numpy()
    said = "1 of 2 images are the same as what they are compared with: a cosine of 1 has no slope"
    explainer.explain(x, "grad-cam", Like(own[0]))
    assert said in caplog.text
    caplog.clear()
    other = np.array([1, -1, 0.5, 0], np.float32)
    explainer.explain(x, "grad-cam", Like(other))
    explainer.explain(x, "grad-cam", Contrast(Like(own[0]), Like(other)))
    assert "a cosine of 1" not in caplog.text
