"""The bundles of the small networks of several inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from xai_exporters import Request, export

from .nets import SIZE, Fusion, Siamese, WithFacts, saved

FACTS = np.random.default_rng(4).random((3, 4)).astype(np.float32)
GRADIENT: dict[str, Any] = {"input_gradient": True}
EVERY: dict[str, Any] = {**GRADIENT, "guided": True, "pixel_relevance": True}


def seeded(network: Callable[[], nn.Module]) -> Any:
    """The network with the weights of seed 7, the same each time."""
    torch.manual_seed(7)
    return network().eval()


def export_all(folder: Path) -> None:
    """Write each network as NAME.onnx and its bundles, one for each way of giving the further inputs."""
    image, depth = torch.rand(2, 3, *SIZE), torch.rand(2, 1, *SIZE)
    saved(seeded(Fusion), folder / "fusion.onnx", (image, depth), ("rgb", "depth"))
    for head in ("cosine", "difference"):
        saved(seeded(partial(Siamese, head)), folder / f"{head}.onnx", (image, image), ("left", "right"))
    facts = torch.rand(2, 4), torch.tensor(2.0)
    saved(
        seeded(WithFacts), folder / "facts.onnx", (image, *facts), ("image", "facts", "temperature"), ("temperature",)
    )
    fuse = ("grad-cam", "score-cam", "reciprocam", "integrated-gradients:steps=5", "lrp")
    depth_image = ("depth:preprocess=unit:color=GRAY",)
    for name, source, more in (
        ("fusion", "fusion", {"input_image": depth_image, "fuse": fuse, **EVERY}),
        ("depth", "fusion", {"input_image": depth_image, "split": "/depth/Relu_1_output_0", **GRADIENT}),
        ("cosine", "cosine", {"task": "numbers", **GRADIENT}),
        ("right", "cosine", {"task": "numbers", "explain_input": "right", **GRADIENT}),
        ("difference", "difference", GRADIENT),
        ("facts", "facts", {"input": ("temperature=0.5",), "fuse": fuse[1:3], **GRADIENT}),
    ):
        done = export(Request(folder / f"{source}.onnx", output_path=folder / f"{name}.xai", preprocess="unit", **more))
        shared = "depends on the images depth and rgb: its maps show places of all of them, drawn on rgb"
        assert (shared in (done.layer_note or "")) == (name == "fusion")
    np.save(folder / "one.npy", FACTS[:1])
    export(
        Request(
            folder / "facts.onnx",
            output_path=folder / "constant.xai",
            preprocess="unit",
            input=("temperature=0.5", f"facts={folder / 'one.npy'}"),
        )
    )
