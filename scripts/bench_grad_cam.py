#!/usr/bin/env python
"""Grad-CAM on the deployed graph beside pytorch-grad-cam on the live network, in one interleaved run.

    python scripts/bench_grad_cam.py [--network resnet50] [--layers layer4,layer2] [--runs 20]

Times plain inference and Grad-CAM of each side, batch 1, a target given. Run it with the Python that scripts/test makes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.backends import Config, create


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--layers", default="layer4,layer2")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    network = torchvision.models.get_model(options.network, weights=None).eval()
    image = torch.randn(1, 3, 224, 224)
    x = image.numpy()
    targets = [ClassifierOutputTarget(1)]
    with tempfile.TemporaryDirectory() as folder:
        weights, plain = Path(folder) / f"{options.network}.pt", Path(folder) / "plain.onnx"
        torch.save(network.state_dict(), weights)
        torch.onnx.export(
            network, (image,), plain, dynamo=True, opset_version=18, verbose=False, external_data=False, input_names=["image"],
            output_names=["output"],
        )  # fmt: skip
        jobs: dict[str, Callable[[], object]] = {"torch: plain": torch.no_grad()(lambda: network(image))}
        for layer in options.layers.split(","):
            cam = GradCAM(model=network, target_layers=[network.get_submodule(layer)])
            jobs[f"torch: pytorch-grad-cam at {layer}"] = partial(cam, input_tensor=image, targets=targets)
        layers = options.layers.split(",")
        bundles = {layer: export(Request(weights, layer, Path(folder) / f"{layer}.xai")).path for layer in layers}
        feeds = {"image": x}
        for backend in ("onnxruntime", "openvino"):
            session = create(backend, Config())[1].open(plain.read_bytes())
            jobs[f"{backend}: plain"] = partial(session.run, feeds, ["output"])
            for layer, path in bundles.items():
                explainer = Explainer(path, backend)
                jobs[f"{backend}: grad-cam at {layer}"] = partial(explainer.explain, x, "grad-cam", 1)
        times: dict[str, list[float]] = {job: [] for job in jobs}
        for run in range(options.runs + 3):
            for job, call in jobs.items():
                started = time.perf_counter()
                call()
                if run >= 3:
                    times[job].append(time.perf_counter() - started)
    for job, seconds in times.items():
        base = times[f"{job.partition(':')[0]}: plain"]
        ratio = statistics.median(t / p for t, p in zip(seconds, base, strict=True))
        print(f"{job:40} {1e3 * statistics.median(seconds):8.1f} ms  {ratio:.2f} x plain")


if __name__ == "__main__":
    main()
