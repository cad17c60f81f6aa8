"""Whatever is wrong with an argument of the public interface: an error of ours, on one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from xai_deploy import Explainer
from xai_deploy.backends.backend import one_line
from xai_deploy.errors import (
    DeviceError,
    NotApplicableError,
    OptionError,
    ShapeError,
    TargetError,
    UnknownLabelError,
    XaiError,
)
from xai_deploy.methods import create
from xai_deploy.methods.method import require_varying_score
from xai_deploy.probabilities import probabilities
from xai_deploy.targets.seeds import Seed

from . import tiny
from .conftest import Bundles


@pytest.mark.parametrize("targets", [[], (), 3, None, "beagle", {0: 1}, np.array(3), b"x"])
def test_targets(explainer: Explainer, targets: Any) -> None:
    with pytest.raises(TargetError, match=r"targets are a list|no target was given"):
        explainer.explain_many(tiny.inputs("pooled", 1), ["cam"], targets)


@pytest.mark.parametrize(
    "methods", [[], None, 3, [3], [("cam",)], [("cam", 3)], [(3, {})], [("cam", {}, {})], ("cam", {"relu": False})]
)
def test_methods(explainer: Explainer, methods: Any) -> None:
    with pytest.raises(OptionError, match="method"):
        explainer.explain_many(tiny.inputs("pooled", 1), methods)


def test_one_method_by_its_name(explainer: Explainer) -> None:
    (explanation,) = explainer.explain_many(tiny.inputs("pooled", 1), "cam")
    assert explanation.method == "cam"


def test_overlay(explainer: Explainer) -> None:
    image = np.zeros((16, 20, 3), np.uint8)
    explanation = explainer.explain([image, image])
    with pytest.raises(ShapeError, match="1 images for 2 heatmaps"):
        explanation.overlay(image)
    opacities: list[Any] = [-0.1, 1.1, float("nan"), "0.5", None]
    for opacity in opacities:
        with pytest.raises(OptionError, match="opacity is a number from 0 to 1"):
            explanation.overlay([image, image], opacity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": 0}, "a device is a name such as 'cpu', not 0"),
        ({"device": None}, "a device is a name"),
        ({"batch_size": 2.5}, r"batch_size is at least 1, not 2\.5"),
        ({"batch_size": "4"}, "batch_size is at least 1, not '4'"),
        ({"batch_size": True}, "batch_size is at least 1, not True"),
        ({"threads": "4"}, "threads are 1 to 1024, not '4'"),
        ({"hint": "speed"}, "no hint 'speed'; there are latency, throughput"),
        ({"precision": "int8"}, "no precision 'int8'; there are f32, tf32, f16, bf16"),
        ({"properties": ["a"]}, "properties map names to values"),
    ],
)
def test_explainer(bundles: Bundles, backend: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(XaiError, match=message):
        Explainer(bundles("pooled").path, backend, **options)


def test_cache(bundles: Bundles, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(XaiError, match="file: is a file; the cache is a folder"):
            Explainer(bundles("pooled").path, backend, cache=str(tmp_path / "file"))
    with pytest.raises(XaiError, match=r"x: can't be the cache's folder \(Not a directory\)"):
        Explainer(bundles("pooled").path, "openvino", cache=str(tmp_path / "file" / "x"))


@pytest.mark.parametrize("device", ["cpu", "CPUExecutionProvider"])
def test_properties_of_the_cpu(bundles: Bundles, device: str) -> None:
    with pytest.raises(DeviceError, match="CPUExecutionProvider takes no properties"):
        Explainer(bundles("pooled").path, "onnxruntime", device, properties={"use_arena": "0"})


def test_provider_that_runs_nothing_here(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: found)
    with pytest.raises(DeviceError, match=r"no device 'AzureExecutionProvider'; it has CPUExecutionProvider$"):
        Explainer(bundles("pooled").path, "onnxruntime", "AzureExecutionProvider")


def test_runtime_failures_are_one_line(bundles: Bundles, backend: str) -> None:
    session = Explainer(bundles("pooled").path, backend)._sessions("head")
    with pytest.raises(XaiError) as caught:
        session.run({"image": tiny.inputs("pooled", 2)[:, :, :5]}, ["activation"])
    assert "\n" not in str(caught.value)
    assert one_line(ValueError("a\n  b\n")) == "a b"


def test_empty_label(tmp_path: Path) -> None:
    """An empty line in the labels names no class."""
    explainer = Explainer(tiny.write(tmp_path / "gap.xai", labels=("a", "", "b", "c", "d")).path, "onnxruntime")
    with pytest.raises(UnknownLabelError, match="no label ''"):
        explainer.explain(tiny.inputs("pooled", 1), target="")


def test_softmax_of_one_class() -> None:
    class OneClass:
        logits = np.zeros((2, 1), np.float32)
        classes = 1

        def probabilities(self, logits: Any) -> Any:
            return probabilities(logits, "none")

    forward: Any = OneClass()
    seeds = [Seed.of_class(np.zeros(2, np.int64))]
    for method in (create("reciprocam", {"score": "softmax"}), create("score-cam", {"score": "softmax"})):
        with pytest.raises(NotApplicableError, match="score 'softmax' is always 1 for a network of one class; give"):
            method.maps(forward, seeds)
    with pytest.raises(
        NotApplicableError, match="score-cam: the network has a single output that is not a probability; give"
    ):
        create("score-cam", {}).maps(forward, seeds)
    require_varying_score("score-cam", "logit", forward)
