"""An explanation as data: what results.json says, from Python, without a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xai_deploy import Explainer, read_image
from xai_deploy.answer import answer, label, origin, prediction
from xai_deploy.cli import explain

from . import tiny
from .cli.test_cli import report
from .conftest import Bundles


def test_what_the_command_writes(work: Path, backend: str) -> None:
    """Entry by entry, key by key in the same order; the arrays are those of the files."""
    targets = ["-t", "-1", "-t", "beagle", "-t", "0 vs 2"]
    assert explain.main(["net.xai", "photos", "-m", "reciprocam,cam", "-b", backend, "-q", *targets]) == 0
    found = report()
    explainer = Explainer("net.xai", backend)
    for image in found["images"]:
        picture = read_image(image["file"])
        explanations = explainer.explain_many(picture, ["reciprocam", "cam"], [-1, "beagle", "0 vs 2"])
        best = prediction(explainer, explanations[0].logits[0])
        assert [list(entry) for entry in best] == [list(entry) for entry in image["prediction"]]
        for own_class, entry in zip(best, image["prediction"], strict=True):
            assert own_class == pytest.approx(entry, abs=1e-4)
        for explanation, entry in zip(explanations, image["explanations"], strict=True):
            own = answer(explainer, explanation)
            said = own.as_json({key: entry[key] for key in ("overlay", "raw")})
            assert list(said) == list(entry)
            for key in ("probability", "logit"):
                assert said[key] == pytest.approx(entry[key], abs=1e-4)
            measured = {key: entry[key] for key in ("probability", "logit", "seconds")}  # a batch changes last bits
            assert {**said, **measured} == entry
            np.testing.assert_allclose(np.load(f"xai-output/photos/{entry['raw']}"), own.raw, atol=1e-5)
            drawn = own.overlay(picture).astype(int)
            assert np.abs(read_image(f"xai-output/photos/{entry['overlay']}").astype(int) - drawn).max() <= 3
            assert (drawn == explanation.overlay(picture)[0]).all()
            assert not own.signed
    described = origin(explainer)
    assert {**found, **described, "bundle": {"path": "net.xai", **described["bundle"]}} == found


def test_one_of_several_images(bundles: Bundles) -> None:
    explainer = Explainer(bundles("pooled").path, "onnxruntime")
    x = tiny.inputs("pooled", 3)
    explanation = explainer.explain(x, "reciprocam", ["0 vs 2", 1, 4])
    answers = [answer(explainer, explanation, i) for i in range(3)]
    assert [a.target for a in answers] == [0, 1, 4]
    assert [a.versus for a in answers] == [2, None, None]
    assert [a.label for a in answers] == ["tabby cat", "tiger cat", "crane"]
    assert [a.versus_label for a in answers] == ["beagle", None, None]
    for i, own in enumerate(answers):
        assert own.heatmap.shape == (tiny.HEIGHT, tiny.WIDTH)
        assert (own.heatmap == explanation.heatmap[i]).all()
        assert own.logit == explanation.logits[i, own.target]
        assert own.probability == pytest.approx(float(explanation.outputs["scores"][i, own.target]), abs=1e-6)
        assert own.seconds == explanation.seconds / 3
        assert json.loads(json.dumps(own.as_json())) == own.as_json()
        assert not {"overlay", "raw", "heatmap"} & set(own.as_json())


def test_a_class_without_a_label(tmp_path: Path) -> None:
    explainer = Explainer(tiny.write(tmp_path / "bare.xai", labels=()).path)
    assert label(explainer, 3) == "class 3"
