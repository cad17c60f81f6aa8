"""Probabilities of logits, by every activation that a bundle can have; compared with torch in float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from xai_deploy import Explainer
from xai_deploy.agreement import compare as agreement
from xai_deploy.cli import explain
from xai_deploy.errors import NotApplicableError
from xai_deploy.format.manifest import Activation
from xai_deploy.images import encode_image
from xai_deploy.probabilities import has_probabilities, probabilities

from . import tiny

LOGITS = np.array([[1.5, -90.0, 88.0], [0.25, 0.5, 0.25], [-800.0, 0.0, 800.0]])
EXPECTED: dict[Activation, torch.Tensor] = {
    "softmax": torch.softmax(torch.from_numpy(LOGITS), 1),
    "none": torch.softmax(torch.from_numpy(LOGITS), 1),
    "sigmoid": torch.sigmoid(torch.from_numpy(LOGITS)),
    "normalised": torch.from_numpy(LOGITS),
    "independent": torch.from_numpy(LOGITS),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", EXPECTED)
def test_function(activation: Activation, dtype: type[np.floating]) -> None:
    found = probabilities(LOGITS.astype(dtype), activation)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, EXPECTED[activation].numpy(), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("activation", EXPECTED)
def test_one_class(activation: Activation) -> None:
    has = activation not in ("softmax", "none")
    assert has_probabilities(activation, 1) == has
    assert has_probabilities(activation, 2)
    if not has:
        with pytest.raises(NotApplicableError, match="a single output that is not a probability"):
            probabilities(np.ones((2, 1), np.float32), activation)


@pytest.mark.parametrize("activation", EXPECTED)
def test_told_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], activation: Activation
) -> None:
    """The command's report, its line, and what xai-check compares."""
    monkeypatch.chdir(tmp_path)
    net = tiny.write(Path("net.xai"), changes={"activation": activation})
    explainer = Explainer(net.path, "onnxruntime")
    picture = np.random.default_rng(1).integers(0, 256, (tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    Path("a.png").write_bytes(encode_image(picture, ".png"))
    logits = explainer.predict([picture])
    expected = {
        "softmax": torch.softmax(torch.from_numpy(logits), 1),
        "none": torch.softmax(torch.from_numpy(logits), 1),
        "sigmoid": torch.sigmoid(torch.from_numpy(logits)),
    }.get(activation, torch.from_numpy(logits))[0].numpy()
    assert explain.main(["net.xai", "a.png", "-t", "top2"]) == 0
    told = json.loads(Path("xai-output/a/results.json").read_bytes())
    assert told["bundle"]["activation"] == activation
    (image,) = told["images"]
    for entry in image["prediction"]:
        assert entry["probability"] == pytest.approx(expected[entry["class"]], rel=1e-5)
    assert f"{100 * expected.max():.1f} %" in capsys.readouterr().out
    own = explainer.explain(picture).probabilities
    assert own is not None
    np.testing.assert_allclose(own[0], expected, rtol=1e-5)
    checked = agreement.explain(explainer, [picture], {"cam": ("cam", {})})
    np.testing.assert_allclose(checked.probabilities[0], expected, rtol=1e-5)


def test_scores_have_none() -> None:
    for classes in (1, 3):
        assert not has_probabilities("scores", classes)
        with pytest.raises(
            NotApplicableError,
            match="the network's output is computed from probabilities, but is not a probability itself",
        ):
            probabilities(np.ones((2, classes), np.float32), "scores")
