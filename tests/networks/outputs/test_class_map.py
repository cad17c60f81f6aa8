"""`class-map` of segmenters: the probability of the class at each place, against the live network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from xai_exporters import Request, export
from xai_exporters.errors import GraphError

from xai_deploy import Contrast, Explainer, Region
from xai_deploy.errors import NotApplicableError

from ...exporters.nets import randomise
from ...exporters.running import HEAD_AND_TAIL, both_ways
from .nets import SIZE, UNet, images

BOX = Region(3, (2, 3, 12, 9))


def shares(network: UNet, x: Tensor) -> np.ndarray:
    """The probabilities [N,C,H,W] of the network without its end."""
    with torch.no_grad():
        scores = network.dense(*network.features(x))
    own = scores.sigmoid() if network.end == "sigmoid" else scores.softmax(1)
    return np.asarray(own.numpy())


@pytest.mark.parametrize("end", ["", "softmax", "sigmoid", "last"])
def test_probabilities(end: str, tmp_path: Path) -> None:
    network = UNet("bilinear", end)
    randomise(network, 3)
    onnx.save(both_ways(network, False, (3, *SIZE)), tmp_path / "net.onnx")
    done = export(
        Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", preprocess="none", roles=HEAD_AND_TAIL)
    )
    x = images(3)
    want = shares(network, torch.from_numpy(x))
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend)
        assert "class-map" in explainer.methods()
        for rows in (slice(1), slice(3)):
            raw = explainer.explain(x[rows], "class-map", BOX).raw
            np.testing.assert_allclose(raw, want[rows, 3], atol=1e-5)
            raw = explainer.explain(x[rows], "class-map", Contrast(BOX, Region(1, "all"))).raw
            np.testing.assert_allclose(raw, want[rows, 3] - want[rows, 1], atol=1e-5)
        np.testing.assert_allclose(explainer.explain(x, "class-map", "not 3@all").raw, -want[:, 3], atol=1e-5)


def test_a_single_class_without_probability(tmp_path: Path) -> None:
    explainer = Explainer(made(UNet("bilinear", "", 1), tmp_path))
    with pytest.raises(
        NotApplicableError, match=r"^class-map: the network has a single output that is not a probability$"
    ):
        explainer.explain(images(1), "class-map", "0@all")


def test_behind_argmax(tmp_path: Path) -> None:
    path = made(UNet("bilinear", "argmax"), tmp_path)
    explainer = Explainer(path)
    with pytest.raises(
        NotApplicableError, match=r"^class-map: it shows the probability of each class at each place, which"
    ):
        explainer.explain(images(1), "class-map", BOX)
    assert "class-map" not in explainer.methods()
    request = Request(tmp_path / "net.onnx", output_path=tmp_path / "fused.xai", preprocess="none", fuse=("class-map",))
    with pytest.raises(
        GraphError, match=r"--fuse class-map: .* a segmenter's scores are already the maps of all classes"
    ):
        export(request)


def made(network: UNet, folder: Path) -> Path:
    """The network's bundle."""
    onnx.save(both_ways(randomise(network, 3), False, (3, *SIZE)), folder / "net.onnx")
    return export(
        Request(folder / "net.onnx", output_path=folder / "net.xai", preprocess="none", roles=HEAD_AND_TAIL)
    ).path
