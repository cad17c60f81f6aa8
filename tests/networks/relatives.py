"""The relatives of Grad-CAM and Score-CAM on trained networks, against pytorch-grad-cam and the formulas in torch.

    PYTHONPATH=scripts python -m tests.networks.relatives [NETWORK...]

The live network is torchvision's SqueezeNet with its checkpoint, or an ONNX file run node by node in torch. Each figure is the
largest difference of our raw map from the oracle's, as a share of the oracle's largest value, on a photograph, for the class that
the network predicts. The rows are those of docs/relatives.md; it takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor
from torch.overrides import TorchFunctionMode
from xai_exporters import Request, export

from xai_deploy import Explainer, Finer, read_image

from . import test_extremal, test_meaningful

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("XAI_TEST_DATA", ROOT.parent / "shared" / "data"))
N = 2
"""Samples of SS-CAM and IS-CAM for each channel."""
STEPS = 6
"""Of the perturbations."""
PRICES = {"l1": 0.005, "l2": 0.02, "beta": 2.5, "blur": 3.0}
"""Of meaningful perturbation."""


class OfOnnx(torch.nn.Module):
    """An ONNX file of convolutions, Relu6, sums and one pooling, node by node; `layer` passes on what the pooling takes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.nodes, self.outputs = list(graph.node), [output.name for output in graph.output]
        self.input = graph.input[0].name
        self.constants = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
        self.layer = torch.nn.Identity()
        self.zero = torch.nn.Parameter(torch.zeros(1))  # pytorch-grad-cam asks for parameters, and that gradients pass

    def forward(self, x: Tensor) -> Tensor:
        values = {**{name: _as(value, x) for name, value in self.constants.items()}, self.input: x + self.zero}
        for node in self.nodes:
            a, *more = (values[name] for name in node.input)
            given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            if node.op_type == "Conv":
                top, left, bottom, right = given["pads"]
                a = F.conv2d(
                    F.pad(a, (left, right, top, bottom)), more[0], more[1], given["strides"], 0, 1, given["group"]
                )
            elif node.op_type == "Clip":
                a = torch.clamp(a, more[0], more[1])
            elif node.op_type == "Add":
                a = a + more[0]
            elif node.op_type == "AveragePool":
                a = F.avg_pool2d(self.layer(a), given["kernel_shape"])
            else:
                assert node.op_type == "Reshape"
                a = a.reshape(len(x), *more[0].tolist()[1:])
            values[node.output[0]] = a
        return values[self.outputs[0]]


def _as(value: Tensor, x: Tensor) -> Tensor:
    return value.to(x.dtype) if value.is_floating_point() else value


def squeezenet() -> torch.nn.Module:
    network: torch.nn.Module = torchvision.models.squeezenet1_0(weights=None)
    path = DATA / "weights" / "squeezenet1_0_deepcompressed.pth"
    network.load_state_dict(torch.load(path, weights_only=True))
    return network


def mobilenet() -> torch.nn.Module:
    return OfOnnx(DATA / "weights" / "mobilenet_v2_1.0_224_fp32_nchw_logits.onnx")


NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], str, str, dict[str, Any]]] = {
    "SqueezeNet": (
        squeezenet,
        "features",
        "squeezenet1_0_deepcompressed.pth",
        {"preprocess": "imagenet", "input_gradient": True, "split": "features", "input_shape": (3, 224, 224)},
    ),
    "MobileNetV2": (
        mobilenet,
        "layer",
        "mobilenet_v2_1.0_224_fp32_nchw_logits.onnx",
        {"preprocess": "tf", "input_gradient": True},
    ),
}
"""Name -> the live network, its layer, the file, options of the export."""


class Live:
    """The oracle: one image x [1,3,H,W] in a live network, one class."""

    def __init__(self, network: torch.nn.Module, layer: str, x: NDArray[Any]) -> None:
        self.network, self.layer, self.x = network.eval(), network.get_submodule(layer), torch.from_numpy(x)
        with self._hooked():
            logits = network(self.x)
            self.target = int(logits.argmax())
            [self.gradient] = torch.autograd.grad(logits[0, self.target], self.kept)
        self.activation = self.kept[0].detach()
        self.gradient = self.gradient[0]

    def _hooked(self) -> Any:
        def keep(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            self.kept = output.requires_grad_() if not output.requires_grad else output
            return self.kept

        handle = self.layer.register_forward_hook(keep)
        return _Removing(handle)

    @torch.no_grad()
    def score(self, images: Tensor, softmax: bool) -> Tensor:
        """The class's score of images [b,3,H,W]."""
        rows = [self.network(part).softmax(1) if softmax else self.network(part) for part in torch.split(images, 16)]
        return torch.cat(rows)[:, self.target]

    def up(self, maps: Tensor) -> Tensor:
        """[K,h,w] -> [K,H,W]."""
        return F.interpolate(maps[None], size=self.x.shape[2:], mode="bilinear", align_corners=False)[0]

    def peer(self, name: str) -> NDArray[Any]:
        """pytorch-grad-cam's map before its resizing; principal components with the sign that agrees with the channels' sum."""
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        raw: list[NDArray[Any]] = []
        finer = name == "FinerCAM"
        with getattr(pytorch_grad_cam, name)(model=self.network, target_layers=[self.layer]) as cam:
            base = cam.base_cam if finer else cam
            image = base.get_cam_image

            def keep(*given: Any, **named: Any) -> NDArray[Any]:
                raw.append(image(*given, **named))
                return raw[-1]

            base.get_cam_image = keep
            cam(self.x, **({"alpha": 0.6} if finer else {"targets": [ClassifierOutputTarget(self.target)]}))
        one = raw[0][0]
        if name.startswith("Eigen"):
            values = self.activation * (self.gradient if name == "EigenGradCAM" else 1)
            one = one * np.sign((one * values.sum(0).numpy()).sum())
        return np.asarray(np.maximum(one, 0))

    def occlusion(self, size: int, stride: int) -> NDArray[Any]:
        """The mean drop of the probability over the patches that cover a pixel."""
        whole, total, count = self.score(self.x, True), *torch.zeros(2, *self.x.shape[2:])
        for top in range(0, self.x.shape[2] - size + stride, stride):
            for left in range(0, self.x.shape[3] - size + stride, stride):
                covered = self.x.clone()
                place = (..., slice(top, top + size), slice(left, left + size))
                covered[place] = 0
                total[place] += (whole - self.score(covered, True)).item()
                count[place] += 1
        result: NDArray[Any] = (total / count).numpy()
        return result

    def group(self, groups: int) -> NDArray[Any]:
        """The authors' Group-CAM: kernel 51, sigma 50."""
        place = torch.arange(51) - 25
        taps = torch.exp(-(place**2) / (2 * 50.0**2))
        kernel = (torch.outer(taps, taps) / taps.sum() ** 2).expand(3, 1, 51, 51)
        blurred = F.conv2d(F.pad(self.x, [25] * 4, mode="reflect"), kernel, groups=3)
        weighted = self.activation * self.gradient.mean((1, 2), keepdim=True)
        saliency = self.up(torch.stack([part.sum(0) for part in weighted.chunk(groups)]).relu())
        saliency = saliency[saliency.amax((1, 2)) > 0]
        low, high = saliency.amin((1, 2), keepdim=True), saliency.amax((1, 2), keepdim=True)
        masks = ((saliency - low) / (high - low))[:, None]
        gain = self.score(self.x * masks + blurred * (1 - masks), True) - self.score(blurred, True)
        result: NDArray[Any] = torch.einsum("g,ghw->hw", gain.relu(), saliency).numpy()
        return result

    def extremal(self, delete: bool) -> tuple[NDArray[Any], float]:
        """The mask of extremal perturbation in float64, and how far that of a network in float32 is from it."""
        seed = F.one_hot(torch.tensor(self.target), len(self.network(self.x)[0])).double()
        one = self.x[0].double()
        masks = [test_extremal.reference(run, one, seed, 0.2, delete, STEPS) for run in self._precisions()]
        return masks[0], _apart(masks[1], masks[0])

    def meaningful(self, cells: int) -> tuple[NDArray[Any], float, float, float]:
        """What meaningful perturbation deletes, and its objective, in float64, and how far those of a network in float32 are."""
        masks, objectives = [], []
        for run in self._precisions():

            def score(x: Tensor, run: Any = run) -> Tensor:
                number: Tensor = run(x)[0].softmax(0)[self.target]
                return number

            mask, objective, _ = test_meaningful.minimum(score, self.x[0].double(), STEPS, cells, **PRICES)
            masks.append(mask.numpy())
            objectives.append(objective)
        return masks[0], _apart(masks[1], masks[0]), objectives[0], abs(objectives[1] / objectives[0] - 1)

    def _precisions(self) -> list[Callable[[Tensor], Tensor]]:
        """The network in float64, and in float32."""
        exact = copy.deepcopy(self.network).double()
        return [exact, lambda x: self.network(x.float()).double()]

    def averaged(self, change: Callable[[Tensor, int, int], Tensor]) -> NDArray[Any]:
        """SS-CAM and IS-CAM by change(mask, channel, sample)."""
        live = [k for k, channel in enumerate(self.activation) if channel.min() < channel.max()]
        means = []
        for k in live:
            up = self.up(self.activation[k : k + 1])
            mask = (up - up.min()) / (up.max() - up.min())
            masks = torch.stack([change(mask, k, i) for i in range(N)])
            means.append(self.score(self.x * masks, False).mean())
        weights = torch.stack(means).softmax(0)
        result: NDArray[Any] = torch.einsum("k,khw->hw", weights, self.activation[live]).relu().numpy()
        return result

    def full(self) -> NDArray[Any]:
        """The authors' FullGrad, resized with half-pixel centres; the biases are those of the convolutions."""
        x = self.x.clone().requires_grad_()
        with _Convolutions() as seen:
            score = self.network(x)[0, self.target]
        outputs, biases = zip(*seen.kept, strict=True)
        own, *gradients = torch.autograd.grad(score, [x, *outputs])
        products = [own * x, *(g * b[:, None, None] for g, b in zip(gradients, biases, strict=True))]
        total = torch.zeros(self.x.shape[2:])
        for size in (product.detach().abs() for product in products):
            total += self.up(((size - size.min()) / (size.max() - size.min()))[0]).sum(0)
        return total.numpy()


class _Convolutions(TorchFunctionMode):
    """Keeps the output and the bias of every convolution that has one."""

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        if func is not F.conv2d or args[2] is None:
            return y
        self.kept.append((y, args[2]))
        return y.clone()  # a ReLU in place would overwrite y


def _apart(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """The largest difference, as a share of the largest value."""
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


class _Removing:
    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def cases(live: Live) -> Iterator[tuple[str, str, dict[str, Any], Any, NDArray[Any]]]:
    """Method, the oracle's name, options, target, the oracle's map; or, without axes, the objective it reaches."""
    peer = "pytorch-grad-cam 1.5.7"
    yield "full-grad", "the authors' code in torch", {}, live.target, live.full()
    yield "eigen-cam", peer, {"centred": True}, live.target, live.peer("EigenCAM")
    yield "eigen-grad-cam", peer, {"centred": True}, live.target, live.peer("EigenGradCAM")
    yield "grad-cam", f"{peer}, FinerCAM", {}, Finer(None, 3, 0.6, "probability"), live.peer("FinerCAM")
    yield "ablation-cam", peer, {"divisor": "score"}, live.target, live.peer("AblationCAM")
    yield "occlusion", "definition in torch", {"size": 48, "stride": 24}, live.target, live.occlusion(48, 24)
    yield "group-cam", "the authors' code in torch", {}, live.target, live.group(32)

    def noise(mask: Tensor, k: int, i: int) -> Tensor:
        drawn = np.random.default_rng([0, k, i]).standard_normal(mask.shape[1:]).astype(np.float32)
        return mask + 2 * torch.from_numpy(drawn)

    yield "ss-cam", "formula in torch, the same noise", {"samples": N}, live.target, live.averaged(noise)
    fainter = live.averaged(lambda mask, k, i: mask * (i + 1) / N)
    yield "is-cam", "formula in torch", {"samples": N}, live.target, fainter
    for variant in ("preserve", "delete"):
        options = {"iterations": STEPS, "area": 0.2, "step": 4, "sigma": 8, "variant": variant}
        mask, own = live.extremal(variant == "delete")
        yield (
            "extremal-perturbation",
            f"paper in float64, {variant} (torch in float32: {own:.1e})",
            options,
            live.target,
            mask,
        )
    options = {"iterations": STEPS, "cells": 28, **PRICES}
    mask, own, objective, there = live.meaningful(28)
    yield "meaningful-perturbation", f"paper in float64 (torch in float32: {own:.1e})", options, live.target, mask
    oracle = f"its objective, {objective:.4f} (torch in float32: {there:.1e})"
    yield "meaningful-perturbation", oracle, options, live.target, np.array(objective)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    photo = read_image(sorted((DATA / "images" / "imagenet_samples").glob("*.JPEG"))[0])
    for name in parser.parse_args().networks:
        make, layer, file, options = NETWORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            path = export(
                Request(DATA / "weights" / file, output_path=Path(folder) / "net.xai", full_gradient=True, **options)
            ).path
            ours = {backend: Explainer(path, backend) for backend in ("onnxruntime", "openvino")}
            x = ours["onnxruntime"].prepare(photo)
            live = Live(make(), layer, x.x)
            for method, oracle, given, target, wanted in cases(live):
                off = []
                for explainer in ours.values():
                    explained = explainer.explain(x, method, target, **given)
                    got = explained.raw[0] if wanted.ndim else np.array(explained.diagnostics["objective"][0])
                    assert got.shape == wanted.shape
                    off.append(_apart(got, wanted))
                sys.stdout.write(f"| {name} | {method} | {oracle} | {off[0]:.1e} | {off[1]:.1e} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
