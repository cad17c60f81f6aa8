"""Fused graphs of volumes: their maps are those of the live torch network, on both runtimes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from xai_exporters import Request, export
from xai_exporters.errors import RequestError

from xai_deploy.format.bundle import SALIENCY, TARGET, WHERE, Bundle, fused_role

from ...exporters.checks import onnxruntime, open_vino
from ...exporters.running import HEAD_AND_TAIL
from .exported import Exported
from .nets import CLASSES, EVEN, SIZE, Chain, UNet, noise, saved

Maps = NDArray[Any]
RUNTIMES = {"onnxruntime": onnxruntime, "openvino": open_vino}
PLACES = (2, 3, 4)
BOX = np.zeros(EVEN, np.float32)
BOX[1:5, 2:5, 4:9] = 3  # of any scale


def scaled(maps: Tensor | Maps) -> Maps:
    """Each map from 0 to 1, in float64."""
    values = np.asarray(maps.detach() if isinstance(maps, Tensor) else maps, np.float64)
    flat = values.reshape(len(values), -1)
    low, high = flat.min(1), flat.max(1)
    assert (high > low).all(), "a map is the same everywhere: nothing to compare"
    return np.asarray((flat - low[:, None]) / (high - low)[:, None]).reshape(values.shape)


def fused(done: Any, name: str) -> bytes:
    """One of a bundle's fused files."""
    return Bundle.open(done.path).graph(fused_role(name))


def own(activation: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """The formulas of methods that take an activation and its gradient."""
    below = (
        2 * gradient**2 + activation.sum(PLACES, keepdim=True) * gradient**3
    )  # the authors' alpha, g^2 not cancelled
    alpha = torch.where(below != 0, gradient**2 / torch.where(below != 0, below, 1.0), 0.0)
    share = (gradient * activation).sum(PLACES, keepdim=True) / activation.sum(PLACES, keepdim=True)
    weighted = {
        "grad-cam": gradient.mean(PLACES, keepdim=True) * activation,
        "grad-cam++": (alpha * torch.relu(gradient)).sum(PLACES, keepdim=True) * activation,
        "layer-cam": torch.relu(gradient) * activation,
        "hires-cam": gradient * activation,
        "xgrad-cam": share * activation,
    }
    return {name: torch.relu(maps.sum(1)) for name, maps in weighted.items()}


def integrated(network: Any, x: Tensor, targets: list[int]) -> Tensor:
    """From zeros, six points of the quadrature on [-1,1]."""
    total = torch.zeros_like(x)
    for point, part in zip(*np.polynomial.legendre.leggauss(6), strict=True):
        at = ((point + 1) / 2 * x).detach().requires_grad_()
        total += part / 2 * torch.autograd.grad(network(at)[range(len(x)), targets].sum(), at)[0]
    return total * x


def by_masks(network: Any, x: Tensor, activation: Tensor, targets: list[int]) -> Tensor:
    """Score-CAM: each channel, resized and from 0 to 1, hides the volume; weighted by the class's probability."""
    up = functional.interpolate(activation, SIZE, mode="trilinear", align_corners=False)
    low, high = up.amin(PLACES, keepdim=True), up.amax(PLACES, keepdim=True)
    masks = torch.where(high > low, (up - low) / (high - low).clamp_min(1e-30), 0.0)
    axis = 4 if network.last else 1
    weights = torch.stack(
        [network(x * masks[:, k].unsqueeze(axis)).softmax(1)[range(len(x)), targets] for k in range(up.shape[1])], 1
    )
    varies = (high > low).reshape(len(x), -1)
    return torch.relu((torch.where(varies, weights, 0.0)[..., None, None, None] * up).sum(1))


def test_every_method(resnet: Exported, tmp_path: Path) -> None:
    network, targets = resnet.network.double(), [1, 3]
    asked = (
        "grad-cam",
        "grad-cam++",
        "layer-cam",
        "hires-cam",
        "xgrad-cam",
        "cam:relu=false",
        "reciprocam",
        "gradient",
    )
    request = Request(
        resnet.source,
        preprocess="unit",
        output_path=tmp_path / "n.xai",
        fuse=(*asked, "score-cam", "integrated-gradients:steps=6"),
        roles=HEAD_AND_TAIL,
    )
    done = export(request)
    x = torch.from_numpy(noise(2, *((*SIZE, 3) if network.last else (3, *SIZE)))).double().requires_grad_()
    activation = network.features(x)
    rows = network.logits(activation)[range(2), targets]
    gradient, pixels = torch.autograd.grad(rows.sum(), [activation, x])
    colours = -1 if network.last else 1
    # pooling and one linear layer follow: the score of one position is a signed CAM, up to a factor and a constant
    cam = torch.einsum("nk,nkdhw->ndhw", network.fc.weight[targets], activation)
    with torch.no_grad():
        want = own(activation, gradient) | {
            "cam": cam,
            "reciprocam": cam,
            "gradient": pixels.abs().amax(colours),
            "score-cam": by_masks(network, x, activation, targets),
        }
    want["integrated-gradients"] = integrated(network, x.detach(), targets).sum(colours)
    feeds = {done.manifest.input.name: x.detach().numpy().astype(np.float32), TARGET: np.array(targets)}
    for name, maps in want.items():
        for runtime, run in RUNTIMES.items():
            got = run(fused(done, name), feeds)[SALIENCY]
            assert got.shape == maps.shape, (name, runtime)
            assert np.abs(got - scaled(maps)).max() < 1e-4, (name, runtime)
    network.float()


def by_position(tail: Callable[[Tensor], Tensor], activation: Tensor, mask: str) -> Tensor:
    """ReciproCAM by its definition: what follows the layer, once for each position."""
    kernel = torch.ones(1) if mask == "pixel" else torch.tensor([1.0, 2.0, 1.0]) / 4
    maps = torch.zeros(len(activation), *activation.shape[2:])
    for where in np.ndindex(*activation.shape[2:]):
        axes = [torch.zeros(side + 2) for side in activation.shape[2:]]
        for axis, at in zip(axes, where, strict=True):
            axis[at + 1 if len(kernel) == 1 else slice(at, at + 3)] = kernel
        d, h, w = (axis[1:-1] for axis in axes)
        weights = d[:, None, None] * h[:, None] * w
        value = activation[(..., *where)][..., None, None, None] if mask == "gaussian-centre" else activation
        maps[(slice(None), *where)] = tail(value * weights)
    return maps


@pytest.mark.parametrize("mask", ["pixel", "gaussian", "gaussian-centre"])
@pytest.mark.parametrize("split", ["auto", "first"])
def test_a_position_at_a_time(split: str, mask: str, tmp_path: Path) -> None:
    """`auto`: pooling follows; `first`: everything else does, on masked copies."""
    network = Chain()
    source = saved(network, tmp_path / "net.onnx", (3, 4, 9, 10))
    asked = (f"reciprocam:mask={mask}",)
    request = Request(source, preprocess="unit", output_path=tmp_path / "n.xai", fuse=asked, roles=HEAD_AND_TAIL)
    done = export(request if split == "auto" else replace(request, split="first"))
    x = torch.from_numpy(noise(1, 3, 4, 9, 10))
    with torch.no_grad():
        first = network.first(x)
        after = torch.relu(network.second(network.pool(torch.relu(first))))

        def from_first(a: Tensor) -> Tensor:
            inner = torch.relu(network.second(network.pool(torch.relu(a))))
            return Tensor(network.fc(inner.mean(PLACES))[:, 2])

        def from_last(a: Tensor) -> Tensor:
            return Tensor(network.fc(a.mean(PLACES))[:, 2])

        want = by_position(from_last, after, mask) if split == "auto" else by_position(from_first, first, mask)
    feeds = {done.manifest.input.name: x.numpy(), TARGET: np.array([2])}
    for run in RUNTIMES.values():
        got = run(fused(done, "reciprocam"), feeds)[SALIENCY]
        assert np.abs(got - scaled(want)).max() < 1e-4


def test_regions_and_maps_of_the_volumes_size(tmp_path: Path) -> None:
    """A segmenter: the mean of a class's scores in a region, given as weights of any scale; the map as bytes, resized."""
    network = UNet()
    source = saved(network, tmp_path / "unet.onnx", (1, *EVEN))
    request = Request(
        source, preprocess="unit", output_path=tmp_path / "n.xai", fuse=("hires-cam",), map_size="input", uint8=True,
        format="openvino", roles=HEAD_AND_TAIL)  # fmt: skip
    done = export(request)
    x = torch.from_numpy(noise(2, 1, *EVEN)).requires_grad_()
    activation, *beside = network.features(x)
    scores = network.dense(activation, *beside)[:, 2]
    inside = torch.from_numpy(BOX > 0)
    [gradient] = torch.autograd.grad(scores[:, inside].mean(1).sum(), activation)
    maps = own(activation, gradient)["hires-cam"][:, None]
    want = scaled(functional.interpolate(maps, EVEN, mode="trilinear", align_corners=False)[:, 0])
    feeds = {
        done.manifest.input.name: x.detach().numpy(), TARGET: np.array([2, 2]), WHERE: np.stack([BOX, BOX]),
    }  # fmt: skip
    for run in RUNTIMES.values():
        got = run(fused(done, "hires-cam"), feeds)[SALIENCY]
        assert got.dtype == np.uint8
        assert np.abs(got / 255 - want).max() < 0.6 / 255


def test_all_classes(resnet: Exported, tmp_path: Path) -> None:
    network = resnet.network
    request = Request(
        resnet.source,
        preprocess="unit",
        output_path=tmp_path / "n.xai",
        fuse=("grad-cam", "cam"),
        all_classes=True,
        roles=HEAD_AND_TAIL,
    )
    done = export(request)
    x = torch.from_numpy(noise(2, *((*SIZE, 3) if network.last else (3, *SIZE))))
    activation = network.features(x)
    logits = network.logits(activation)
    for name in ("grad-cam", "cam"):
        want = []
        for c in range(CLASSES):
            [gradient] = torch.autograd.grad(logits[:, c].sum(), activation, retain_graph=True)
            plain = torch.einsum("k,nkdhw->ndhw", network.fc.weight[c], activation)
            want.append(own(activation, gradient)["grad-cam"] if name == "grad-cam" else torch.relu(plain))
        for run in RUNTIMES.values():
            got = run(fused(done, name), {done.manifest.input.name: x.numpy()})[SALIENCY]
            assert got.shape == (2, CLASSES, 3, 5, 6)
            for c, maps in enumerate(want):
                assert np.abs(got[:, c] - scaled(maps)).max() < 1e-4


@pytest.mark.parametrize(("field", "value"), [("embed_preprocess", True), ("web", Path("page"))])
def test_what_takes_pictures(resnet: Exported, tmp_path: Path, field: str, value: Any) -> None:
    option = field.replace("_", "-")
    request: Any = Request(resnet.source, preprocess="unit", fuse=("grad-cam",), output_path=tmp_path / "n.xai")
    with pytest.raises(
        RequestError, match=f"^--{option} takes pictures, and the network takes volumes: leave --{option} out$"
    ):
        export(replace(request, **{field: value}))
    assert not (tmp_path / "n.xai").exists()
