"""torchvision's detectors up to the suppression: what is found is what torchvision finds, and maps of a row equal autograd's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision
from xai_exporters import Request, export

from xai_deploy import DetectionLimits, Explainer

from . import nets, vision

LIMITS = DetectionLimits(score=0.0, overlap=0.5, most=5)

LEVELS = {"ssdlite": 3, "retinanet": 4, "fcos": 3, "proposals": 3, "regions": 2}


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> Iterator[None]:
    """See `vision.interpreted`."""
    with vision.interpreted():
        yield


@dataclass(frozen=True)
class Made:
    """A live detector, three images, and an explainer for each runtime."""

    network: vision.Raw
    x: torch.Tensor
    explainers: tuple[Explainer, ...]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Name -> detector, exported once."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            folder, network = tmp_path_factory.mktemp(name), vision.made(name)
            onnx.save(vision.written(network), folder / "net.onnx")
            request = Request(
                folder / "net.onnx", output_path=folder / "net.xai", preprocess="none", roles=("gradient",)
            )
            path = export(request).path
            explainers = tuple(Explainer(path, backend, detections=LIMITS) for backend in ("onnxruntime", "openvino"))
            x = torch.rand(3, 3, *nets.SIZE, generator=torch.Generator().manual_seed(2))
            known[name] = Made(network.double(), x.double(), explainers)
        return known[name]

    return get


@pytest.mark.parametrize("name", vision.MADE)
def test_the_best_detection(name: str, made: Callable[[str], Made]) -> None:
    """Probability, class and box are those of torchvision's own code behind the network."""
    own = made(name)
    with torch.no_grad():
        wanted = own.network.found(own.x)
    for explainer in own.explainers:
        got = explainer.explain(own.x.float().numpy(), "hires-cam")
        for image, (share, index, box) in zip(got.detections, wanted, strict=True):
            first = image[0]
            assert first.index == index
            np.testing.assert_allclose(first.score, share, rtol=1e-4)
            inside = torchvision.ops.clip_boxes_to_image(torch.tensor(first.box)[None], nets.SIZE)[0]
            np.testing.assert_allclose(inside, box, rtol=1e-4, atol=1e-3)


def entering(network: vision.Raw, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What is explained [n,R,C], and the maps that enter the head."""
    maps: list[torch.Tensor] = []

    def keep(_module: Any, _given: Any, y: Any) -> None:
        maps.extend(y.values() if isinstance(y, dict) else [y])

    hooks = [network.get_submodule(name).register_forward_hook(keep) for name in network.taps]
    scores, _ = network.raw(x)
    for hook in hooks:
        hook.remove()
    return scores, maps


@pytest.mark.parametrize("name", vision.MADE)
def test_maps(name: str, made: Callable[[str], Made]) -> None:
    """HiResCAM of a row at each level that enters the head: g * A summed over the channels."""
    own = made(name)
    for explainer, (sign, target), images in itertools.product(
        own.explainers, ((1, "box 0"), (-1, "not box 1")), (1, 3)
    ):
        x = own.x[:images]
        got = explainer.explain(x.float().numpy(), "hires-cam", target)
        scores, maps = entering(own.network, x)
        chosen = []
        for image, [row] in enumerate(got.rows):
            index = next(d.index for d in got.detections[image] if d.row == row)
            chosen.append(sign * scores[image, row, index])
        np.testing.assert_allclose(got.score, torch.stack(chosen).detach(), rtol=1e-3, atol=1e-4)  # type: ignore[arg-type]
        wanted = torch.autograd.grad(sum(chosen), maps, allow_unused=True)  # type: ignore[arg-type]
        manifest = explainer.bundle.manifest
        assert manifest.batch == ("one" if name == "regions" else "any")
        levels = manifest.layers
        assert len(levels) == LEVELS[name]
        seen = 0
        for level, one in zip(levels, got.layers, strict=True):
            [(a, g)] = [(a, g) for a, g in zip(maps, wanted, strict=True) if a.shape[1:] == level.shape]
            terms = torch.zeros_like(a) if g is None else (a * g).detach()
            seen += bool(terms.any())
            size = float(terms.abs().max()) + 1e-9  # a row of a fine level does not see the coarser ones
            np.testing.assert_allclose(one.raw, terms.sum(1).relu(), atol=1e-4 * size)
        assert seen
