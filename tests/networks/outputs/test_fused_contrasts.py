"""Fused contrasts: `versus` is the class whose score is subtracted. The maps are those of the live torch network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from xai_exporters import Request, export
from xai_exporters.errors import GraphError, RequestError

from xai_deploy import Contrast, Explainer, Region
from xai_deploy.preprocess import Prepared

from ...exporters import nets as of_classes
from ...exporters.running import both_ways
from .nets import SIZE, Embedding, UNet, fused, images, saved

BACKENDS = ("onnxruntime", "openvino")
PAIRS = (
    (1, 3),
    (-1, 3),
    (2, -1),
)  # a class and another; why the predicted one rather than a class, and the other way round
NONE = -2


def scaled(maps: Tensor) -> NDArray[Any]:
    """Each map from 0 to 1."""
    values = maps.detach().double().numpy()
    low, high = (of(values, axis=(1, 2), keepdims=True) for of in (np.min, np.max))
    assert (high > low).all(), "a map is the same everywhere: nothing to compare"
    return np.asarray((values - low) / (high - low))


def differences(logits: Tensor, target: int, versus: int) -> Tensor:
    """The contrast of each image."""
    best, every = logits.argmax(1), range(len(logits))
    one, other = (best if k == -1 else torch.full_like(best, k) for k in (target, versus))
    assert (one != other).all(), "a class against itself: choose others"
    return logits[every, one] - logits[every, other]


def at_layer(activation: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """The formulas of methods that take an activation and its gradient."""
    return {
        "grad-cam": torch.relu((gradient.mean((2, 3), keepdim=True) * activation).sum(1)),
        "hires-cam": torch.relu((gradient * activation).sum(1)),
        "layer-cam": torch.relu((torch.relu(gradient) * activation).sum(1)),
    }


def by_quadrature(network: Any, x: Tensor, target: int, versus: int) -> Tensor:
    """Integrated gradients from zeros, four points; the classes are those of the image itself."""
    best = network(x).argmax(1)
    one, other = (best if k == -1 else torch.full_like(best, k) for k in (target, versus))
    total = torch.zeros_like(x)
    for point, part in zip(*np.polynomial.legendre.leggauss(4), strict=True):
        at = ((point + 1) / 2 * x).detach().requires_grad_()
        logits = network(at)
        score = (logits[range(len(x)), one] - logits[range(len(x)), other]).sum()
        total += part / 2 * torch.autograd.grad(score, at)[0]
    return (total * x).sum(1)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder, network = tmp_path_factory.mktemp("versus"), of_classes.randomise(of_classes.Residual(), 2)
    onnx.save(both_ways(network, False, of_classes.SHAPE), folder / "net.onnx")
    asked = ("grad-cam", "hires-cam", "layer-cam", "reciprocam", "gradient", "integrated-gradients:steps=4", "cam")
    request = Request(folder / "net.onnx", "layer2", folder / "net.xai", preprocess="unit", fuse=asked, versus=True)
    return network, export(request).path


@pytest.mark.parametrize(("target", "versus"), PAIRS)
def test_classes(classifier: tuple[Any, Path], target: int, versus: int) -> None:
    network, path = classifier
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((2, *of_classes.SHAPE)).astype(np.float32))
    at = x.clone().requires_grad_()
    activation = network.layer2(network.layer1(network.stem(at)))
    score = differences(network.fc(activation.mean((2, 3))), target, versus)
    gradient, pixels = torch.autograd.grad(score.sum(), [activation, at])
    want = at_layer(activation, gradient)
    # global pooling and one linear layer follow: gradient x activation is CAM and, but for a factor and a constant, ReciproCAM
    want |= {"cam": want["hires-cam"], "reciprocam": (gradient * activation).sum(1), "gradient": pixels.abs().amax(1)}
    want["integrated-gradients"] = by_quadrature(network, x, target, versus)
    for name, maps in want.items():
        for backend in BACKENDS:
            feeds = {"image": x.numpy(), "target": np.full(2, target), "versus": np.full(2, versus)}
            got = fused(path / f"fused-{name}.onnx", feeds, backend)
            assert np.abs(got - scaled(maps)).max() < 1e-4, (name, backend)


def test_what_is_no_class(classifier: tuple[Any, Path]) -> None:
    """As `versus` it subtracts nothing; as `target` it gives a map of zeros, and so does a class against itself."""
    network, path = classifier
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((4, *of_classes.SHAPE)).astype(np.float32))
    activation = network.layer2(network.layer1(network.stem(x)))
    [gradient] = torch.autograd.grad(network.fc(activation.mean((2, 3)))[:, 1].sum(), activation)
    feeds = {"image": x.numpy(), "target": np.array([1, 1, 99, 1]), "versus": np.array([NONE, 99, 1, 1])}
    for name, maps in at_layer(activation, gradient).items():
        for backend in BACKENDS:
            got = fused(path / f"fused-{name}.onnx", feeds, backend)
            assert np.abs(got[:2] - scaled(maps[:2])).max() < 1e-4
            assert not got[2:].any()


def test_relevance(tmp_path: Path) -> None:
    """A contrast starts with both classes alone, also for Relevance-CAM, and LRP with both logits, as the engine's does.

    The engine starts from a seed, which is compared with Zennit elsewhere; the fused graph chooses the classes itself.
    """
    network = of_classes.randomise(of_classes.Plain(), 4)
    onnx.save(both_ways(network, False, of_classes.SHAPE), tmp_path / "net.onnx")
    asked = ("relevance-cam", "lrp")
    request = Request(
        tmp_path / "net.onnx", "conv2", tmp_path / "net.xai", preprocess="unit", fuse=asked, versus=True, pixel_relevance=True
    )  # fmt: skip
    explainer = Explainer(export(request).path)
    x = np.random.default_rng(1).standard_normal((1, *of_classes.SHAPE)).astype(np.float32)
    for name in asked:
        for versus, target in ((3, Contrast(1, 3)), (NONE, 1)):
            own = explainer.explain(Prepared(x), name, target).raw
            for backend in BACKENDS:
                feeds = {"image": x, "target": np.array([1]), "versus": np.array([versus])}
                got = fused(tmp_path / "net.xai" / f"fused-{name}.onnx", feeds, backend)
                assert np.abs(got - scaled(torch.from_numpy(own))).max() < 1e-4, (name, versus, backend)


BOXES = ((5, 4, 12, 16), (15, 10, 13, 9))
"""x, y, width, height of the target's region and of that of the class that is subtracted."""
OF_REGIONS = ("hires-cam", "lrp", "relevance-cam", "reciprocam:score=softmax", "integrated-gradients:steps=2")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> tuple[UNet, Path]:
    folder, network = tmp_path_factory.mktemp("regions"), UNet("transposed")
    source = saved(network, folder / "net.onnx")
    request = Request(source, "middle", folder / "net.xai", preprocess="unit", fuse=OF_REGIONS, versus=True)
    return network, export(replace(request, pixel_relevance=True)).path


def masks() -> list[NDArray[np.float32]]:
    """Both regions, [2,H,W] each, of two scales. Outside of them lie numbers that count as 0."""
    both = []
    for scale, (x, y, width, height) in zip((2, 1e38), BOXES, strict=True):
        both.append(np.zeros((2, *SIZE), np.float32))
        both[-1][:, 0, :4] = np.inf, np.nan, -np.inf, -1
        both[-1][:, y : y + height, x : x + width] = scale
    return both


def means(dense: Tensor) -> list[Tensor]:
    """The mean scores in both regions, [N,C] each."""
    return [dense[:, :, y : y + height, x : x + width].mean((2, 3)) for x, y, width, height in BOXES]


@pytest.mark.parametrize(("target", "versus"), [(1, 3), (1, 1), (-1, 3), (2, -1)])
def test_regions(segmenter: tuple[UNet, Path], target: int, versus: int) -> None:
    """A class in one region rather than another, or the same one, in another region."""
    network, path = segmenter
    x, (where, other) = torch.from_numpy(images(2)), masks()

    def score(dense: Tensor, classes: list[Tensor]) -> Tensor:
        first, second = means(dense)
        return first[range(2), classes[0]] - second[range(2), classes[1]]

    activation, fine = network.features(x)
    dense = network.dense(activation, fine)
    best = [of.argmax(1) for of in means(dense)]
    classes = [own if k == -1 else torch.full((2,), k) for own, k in zip(best, (target, versus), strict=True)]
    [gradient] = torch.autograd.grad(score(dense, classes).sum(), activation)
    want = {"hires-cam": at_layer(activation, gradient)["hires-cam"], "integrated-gradients": torch.zeros(2, *SIZE)}
    for node in (-((1 / 3) ** 0.5), (1 / 3) ** 0.5):  # Gauss-Legendre's two points
        at = ((node + 1) / 2 * x).requires_grad_()
        [pixels] = torch.autograd.grad(score(network.dense(*network.features(at)), classes).sum(), at)
        want["integrated-gradients"] += (pixels * x).sum(1) / 2
    feeds = {"image": x.numpy(), "target": np.full(2, target), "versus": np.full(2, versus)}
    for name, maps in want.items():
        for backend in BACKENDS:
            got = fused(path / f"fused-{name}.onnx", feeds | {"where": where, "versus_where": other}, backend)
            assert np.abs(got - scaled(maps)).max() < 1e-4, (name, backend)


def test_regions_as_the_engine(segmenter: tuple[UNet, Path]) -> None:
    """What starts with both logits or probabilities; the engine's own are held to Zennit and to the formula elsewhere."""
    _, path = segmenter
    explainer, x, (where, other) = Explainer(path), images(2), masks()
    sides = [Region(k, box) for k, box in zip((2, 3), BOXES, strict=True)]
    for name, target, versus in (
        *((method.partition(":")[0], Contrast(*sides), other) for method in OF_REGIONS[1:4]),
        ("relevance-cam", sides[0], np.zeros_like(other)),  # an empty region subtracts nothing
        ("lrp", sides[0], np.zeros_like(other)),
    ):
        own = explainer.explain(Prepared(x), name, target, **({"score": "softmax"} if name == "reciprocam" else {})).raw
        for backend in BACKENDS:
            feeds = {
                "image": x,
                "target": np.full(2, 2),
                "versus": np.full(2, 3),
                "where": where,
                "versus_where": versus,
            }
            got = fused(path / f"fused-{name}.onnx", feeds, backend)
            # one position moves the probabilities by 1/100: stretching multiplies their rounding
            limit = 1e-3 if name == "reciprocam" else 1e-4
            assert np.abs(got - scaled(torch.from_numpy(own))).max() < limit, (name, backend)
            empty = np.where(np.isfinite(where) & (where > 0), np.float32(0), where)
            assert not fused(path / f"fused-{name}.onnx", feeds | {"where": empty}, backend).any()


def test_numbers(tmp_path: Path) -> None:
    """The difference of two numbers, and of one that is turned and another."""
    network = Embedding()
    source = saved(network, tmp_path / "net.onnx")
    asked = ("hires-cam", "reciprocam")
    request = Request(
        source, "second", tmp_path / "net.xai", preprocess="unit", task="numbers", fuse=asked, versus=True
    )
    done = export(request)
    x = torch.from_numpy(images(2))
    activation = network.features(x)
    numbers = network.numbers(activation)
    for target, sign in ((1, 1), (NONE - 1, -1)):
        score = sign * numbers[:, 1] - numbers[:, 4]
        [gradient] = torch.autograd.grad(score.sum(), activation, retain_graph=True)
        maps = {"hires-cam": at_layer(activation, gradient)["hires-cam"], "reciprocam": (gradient * activation).sum(1)}
        for name, want in maps.items():
            for backend in BACKENDS:
                feeds = {"image": x.numpy(), "target": np.full(2, target), "versus": np.full(2, 4)}
                got = fused(done.path / f"fused-{name}.onnx", feeds, backend)
                assert np.abs(got - scaled(want)).max() < 1e-4, (name, target, backend)


REFUSED: dict[str, dict[str, Any]] = {
    "--versus is an input beside `target`, and --fixed-target has no such input": {"fixed_target": True},
    "--versus is an input beside `target`, and --web has no such input": {"web": Path("page")},
    "--all-classes gives a map of each class, and --versus takes one map": {"all_classes": True},
    "--versus is for --fuse, which is not given": {"fuse": ()},
    "--fuse grad-cam: --versus subtracts a class's score, and the network is explained by references: one may be the difference "
    "of two; leave it out": {"task": "embedding"},
}


@pytest.mark.parametrize("line", REFUSED)
def test_refusals(tmp_path: Path, line: str) -> None:
    source = saved(Embedding(), tmp_path / "net.onnx")
    request = Request(source, output_path=tmp_path / "net.xai", preprocess="unit", fuse=("grad-cam",), versus=True)
    with pytest.raises((RequestError, GraphError)) as refusal:
        export(replace(request, **REFUSED[line]))
    assert str(refusal.value) == line
    assert not (tmp_path / "net.xai").exists()
