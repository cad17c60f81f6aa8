"""torchvision's video networks with random weights, at 16 frames of 112 x 112 or as asked: differences from autograd, costs.

    python -m tests.networks.volumes.video [--size 16,112,112] [NAME ...]

Prints one row for each network and runtime: the largest difference of each map from autograd's in float64, as a share of the map's
largest value; and the median time of an inference and of grad-cam. The row "torch" is autograd's own in float32. Weights are those
that torchvision draws, with a fixed seed; the normalisations' statistics are those of two clips of noise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torchvision
from numpy.typing import NDArray
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.preprocess import Prepared

from ...exporters.running import both_ways
from .nets import noise, worst

NAMES = ("r3d_18", "mc3_18", "r2plus1d_18")
SIZE = (16, 112, 112)
ROUNDS = 5


def made(name: str, size: tuple[int, ...]) -> Any:
    """The network, in evaluation mode."""
    torch.manual_seed(0)
    network = getattr(torchvision.models.video, name)(weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = 1.0  # the statistics of the last batch
    with torch.no_grad():
        network.train()(torch.from_numpy(noise(2, 3, *size)))
    return network.eval()


def by_autograd(network: Any, x: torch.Tensor, target: int) -> dict[str, NDArray[Any]]:
    """The maps of the target's logit, by their formulas."""
    seen: list[torch.Tensor] = []
    hook = network.layer4.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    at = x.clone().requires_grad_()
    score = network(at)[:, target].sum()
    hook.remove()
    g, own = torch.autograd.grad(score, [seen[0], at])
    a = seen[0].detach()
    return {
        "grad-cam": torch.relu((g.mean((2, 3, 4), keepdim=True) * a).sum(1)).numpy(),
        "hires-cam": torch.relu((g * a).sum(1)).numpy(),
        "layer-cam": torch.relu((torch.relu(g) * a).sum(1)).numpy(),
        "gradient": own.abs().amax(1).numpy(),
    }


def seconds(run: Any) -> float:
    """The median of several runs, after one that is not counted."""
    run()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def row(name: str, folder: Path, size: tuple[int, ...]) -> None:
    """Export a network, and print its rows."""
    network, source = made(name, size), folder / f"{name}.onnx"
    onnx.save(both_ways(network, False, (3, *size)), source)
    started = time.perf_counter()
    done = export(Request(source, preprocess="unit", input_gradient=True, output_path=folder / f"{name}.xai"))
    took = time.perf_counter() - started
    x = noise(1, 3, *size)
    given = torch.from_numpy(x)
    target = int(network(given).argmax())
    single = by_autograd(network, given, target)
    want = by_autograd(network.double(), given.double(), target)
    say(name, "torch", {method: worst(single[method], map_) for method, map_ in want.items()}, "")
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend)
        got = {method: worst(explainer.explain(Prepared(x), method, target).raw, map_) for method, map_ in want.items()}
        plain = seconds(lambda explainer=explainer: explainer.predict(Prepared(x)))
        cam = seconds(lambda explainer=explainer: explainer.explain(Prepared(x), "grad-cam", target))
        cost = f"; plain {plain:.2f} s, grad-cam {cam / plain:.2f} x; export {took:.0f} s, layer {done.manifest.target.title}"
        say(name, backend, got, cost)


def say(name: str, where: str, differences: Mapping[str, float], cost: str) -> None:
    """Print a row at once: the next one takes minutes."""
    listed = ", ".join(f"{method} {difference:.1e}" for method, difference in differences.items())
    sys.stdout.write(f"{name} {where}: {listed}{cost}\n")
    sys.stdout.flush()


def main() -> None:
    """The networks named on the command line, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split(","))), default=SIZE)
    arguments = parser.parse_args()
    for name in arguments.names:
        with tempfile.TemporaryDirectory() as folder:
            row(name, Path(folder), arguments.size)


if __name__ == "__main__":
    main()
