"""A segmenter of volumes: the score of a region is the mean over its positions, and the maps are those of autograd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from xai_exporters import Request, export

from xai_deploy import Explainer, Region
from xai_deploy.errors import TargetError
from xai_deploy.preprocess import Prepared

from .nets import EVEN, UNet, noise, saved, worst

MASK = np.zeros(EVEN, bool)
MASK[1:5, 2:5, 4:9] = True
BOX = np.zeros(EVEN, bool)
BOX[:, 2:7, 3:9] = True  # x, y, width, height = 3, 2, 6, 5, through all slices


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> tuple[UNet, Path]:
    folder, network = tmp_path_factory.mktemp("unet"), UNet()
    source = saved(network, folder / "unet.onnx", (1, *EVEN))
    request = Request(source, preprocess="unit", input_gradient=True, output_path=folder / "unet.xai")
    done = export(request)
    assert done.manifest.target.shape == (8, 2, 2, 3)  # the coarsest maps
    assert done.manifest.scores.shape == (3, *EVEN)
    return network, done.path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("count", [1, 3])
def test_regions(unet: tuple[UNet, Path], backend: str, count: int, tmp_path: Path) -> None:
    network, path = unet
    explainer, x = Explainer(path, backend), torch.from_numpy(noise(count, 1, *EVEN)).requires_grad_()
    activation, *beside = network.features(x)
    scores = network.dense(activation, *beside)
    np.save(tmp_path / "mask.npy", MASK.astype(np.uint8))
    for where, mask in (
        ("all", MASK | True),
        (MASK, MASK),
        (str(tmp_path / "mask.npy"), MASK),
        (MASK[1], MASK[1] & (MASK | True)),  # a flat mask goes through all slices
        ((3, 2, 6, 5), BOX),
    ):
        means = scores[:, 2][:, torch.from_numpy(mask)].mean(1)
        gradient, own = torch.autograd.grad(means.sum(), [activation, x], retain_graph=True)
        weights = gradient.mean((2, 3, 4), keepdim=True)
        want = torch.relu((weights * activation).sum(1)).detach().numpy()
        got = explainer.explain(Prepared(x.detach().numpy()), "grad-cam", Region(2, where))
        assert worst(got.raw, want) < 1e-4
        assert got.score is not None
        np.testing.assert_allclose(got.score, means.detach().numpy(), atol=1e-4)
        assert got.heatmap.shape == (count, *EVEN)
        pixels = explainer.explain(Prepared(x.detach().numpy()), "gradient", Region(2, where))
        assert worst(pixels.raw, own.abs().amax(1).numpy()) < 1e-4


def test_where_a_class_is_predicted(unet: tuple[UNet, Path]) -> None:
    network, path = unet
    x = noise(2, 1, *EVEN)
    scores = network(torch.from_numpy(x)).detach().numpy()
    most = int(np.bincount(scores.argmax(1).ravel()).argmax())
    got = Explainer(path).explain(Prepared(x), "grad-cam", most)
    there = scores.argmax(1) == most
    want = [scores[i, most][there[i]].mean() for i in range(2)]
    assert got.score is not None
    np.testing.assert_allclose(got.score, want, atol=1e-4)


def test_a_mask_of_another_size(unet: tuple[UNet, Path]) -> None:
    with pytest.raises(TargetError, match="the mask has 12 x 8 x 3 pixels, its image 12 x 8 x 8"):
        Explainer(unet[1]).explain(Prepared(noise(1, 1, *EVEN)), "grad-cam", Region(2, MASK[:3]))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("count", [1, 2, EVEN[0]])
def test_class_maps(unet: tuple[UNet, Path], backend: str, count: int) -> None:
    """The network's own probabilities, also of as many volumes as one has slices, and of other targets in one call."""
    network, path = unet
    x = noise(count, 1, *EVEN)
    with torch.no_grad():
        own = network.dense(*network.features(torch.from_numpy(x))).softmax(1).numpy()
    explainer = Explainer(path, backend)
    for target, want in (("1@all", own[:, 1]), ("not 2@all", -own[:, 2]), ("0@all vs 2", own[:, 0] - own[:, 2])):
        np.testing.assert_allclose(explainer.explain(Prepared(x), "class-map", target).raw, want, atol=1e-5)
    mixed = (["0@all", "not 1@all", "2@all vs 1"] * count)[:count]
    wants = [own[:, 0], -own[:, 1], own[:, 2] - own[:, 1]]
    want = np.stack([wants[i % 3][i] for i in range(count)])
    np.testing.assert_allclose(explainer.explain(Prepared(x), "class-map", mixed).raw, want, atol=1e-5)
