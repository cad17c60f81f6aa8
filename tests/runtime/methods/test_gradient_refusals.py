"""What the gradient family refuses: graphs that are missing, options, targets, NaN; and contrasts on the command line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer
from xai_deploy.errors import NonFiniteOutputError, NotApplicableError, OptionError, TargetError

from .. import tiny
from ..conftest import Bundles


def test_missing_graphs(bundles: Bundles, tmp_path: Any) -> None:
    explainer = Explainer(bundles("pooled").path, "onnxruntime")
    x = tiny.inputs("pooled", 1)
    advice = {
        "grad-cam": "grad-cam: this bundle has no 'gradient' graph; export the network again, without --roles",
        "gradient": "gradient: this bundle has no 'input-gradient' graph; export the network again with --input-gradient",
        "guided-backprop": "no 'guided-gradient' graph; export the network again with --guided",
    }
    for method, message in advice.items():
        with pytest.raises(NotApplicableError, match=message):
            explainer.explain(x, method)
    net = tiny.write(tmp_path / "net.xai", changes={"left_out": {"gradient": "no rule for the operator Foo"}})
    with pytest.raises(NotApplicableError, match="no 'gradient' graph; no rule for the operator Foo"):
        Explainer(net.path, "onnxruntime").explain(x, "layer-cam")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("grad-cam++", {"eps": 0.0}, "eps is a small positive number, or none; not 0.0"),
        ("grad-cam++", {"eps": -1.0}, "eps is a small positive number"),
        ("smoothgrad", {"samples": 0}, "smoothgrad: samples are at least 1, not 0"),
        ("smooth-grad-cam++", {"sigma": -0.1}, r"sigma is a share of the image's range, 0 or more; not -0\.1"),
        ("smoothgrad", {"sigma": float("inf")}, "sigma: expected a finite number"),
        ("smoothgrad", {"seed": -1}, "seed is 0 or more, not -1"),
        ("integrated-gradients", {"steps": 0}, "steps are at least 1, not 0"),
        ("integrated-gradients", {"baseline": "white"}, "baseline"),
        ("gradient", {"channels": "mean"}, "channels"),
    ],
)
def test_refused_options(bundles: Bundles, method: str, options: dict[str, Any], message: str) -> None:
    explainer = Explainer(bundles("pooled", gradients=True).path, "onnxruntime")
    with pytest.raises(OptionError, match=message):
        explainer.explain(tiny.inputs("pooled", 1), method, **options)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("1 vs 1", "class 1 is contrasted with itself"),
        ("beagle vs 2", "class 'beagle' is contrasted with itself"),
        ("1 vs 9", "class 9 does not exist"),
        ("1 vs dog", "no label 'dog'"),
        (
            np.array([1.0, 2.0]),
            r"weights as a target have one value for each class, shape \[5\] or \[2,5\]; these have shape \[2\]",
        ),
        (np.array([1.0, np.nan, 0, 0, 0]), "the target's weights hold NaN or infinity"),
        (np.zeros(5), "the target's weights are all zeros"),
    ],
)
def test_refused_targets(bundles: Bundles, target: Any, message: str) -> None:
    explainer = Explainer(bundles("pooled", gradients=True).path, "onnxruntime")
    with pytest.raises(TargetError, match=message):
        explainer.explain(tiny.inputs("pooled", 2), "grad-cam", target)


def test_nan_is_refused(bundles: Bundles) -> None:
    with pytest.raises(NonFiniteOutputError):
        Explainer(bundles("nan", gradients=True).path, "onnxruntime").explain(tiny.inputs("nan", 1), "grad-cam")


def test_contrast_on_the_command_line(bundles: Bundles, work: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import json
    import shutil

    from xai_deploy.cli import explain

    shutil.copytree(bundles("pooled", gradients=True).path, work / "grad.xai")
    arguments = [
        "grad.xai",
        "photos/dog.png",
        "-m",
        "grad-cam,gradient",
        "-t",
        "beagle vs tabby cat",
        "-t",
        "-1",
        "-o",
        "out",
    ]
    assert explain.main(arguments) == 0
    [image] = json.loads((work / "out" / "results.json").read_text())["images"]
    first = image["explanations"][0]
    assert (first["target"], first["versus"], first["versus_label"]) == (2, 0, "tabby cat")
    assert (work / "out" / "dog--grad-cam--2-vs-0.png").is_file()
    assert image["explanations"][1]["versus"] is None
    assert np.load(work / "out" / "dog--gradient--2-vs-0.npy").shape == (tiny.HEIGHT, tiny.WIDTH)
    assert explain.main([*arguments[:-2], "-t", "2 vs 2", "-o", "other"]) == 2
    assert "class 2 is contrasted with itself" in capsys.readouterr().err
