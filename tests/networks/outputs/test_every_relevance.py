"""Methods of relevance for every kind of output, against autograd in float64.

With the epsilon rule everywhere, biases included and epsilon near 0, relevance is the input times a gradient (Ancona et al. 2018,
proposition 1): R(x) = x * d(sum_j S_j y_j / y_j') / dx, S the start at the output y, y' the same number held fixed. A region, a
number and a similarity differ in where they start, which is written out here. The norm of an embedding is held fixed. A bilinear
resize has another rule (it spreads relevance by its weights), so the segmenter has a transposed convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from xai_exporters import Request, export

from xai_deploy import Explainer, method_names
from xai_deploy.errors import NotApplicableError
from xai_deploy.methods import create
from xai_deploy.preprocess import Prepared

from ...exporters.nets import randomise
from ...exporters.running import both_ways
from .nets import CLASSES, SIZE, Embedding, UNet, images
from .test_every_method import BOX, KINDS, REFERENCE

RULES = """
base = "none"
[ops]
Conv = { rule = "epsilon", epsilon = 1e-9, bias = "include" }
ConvTranspose = { rule = "epsilon", epsilon = 1e-9, bias = "include" }
Gemm = { rule = "epsilon", epsilon = 1e-9, bias = "include" }
MatMul = { rule = "epsilon", epsilon = 1e-9, bias = "include" }
Add = "epsilon"
"""
METHODS = [name for name in method_names() if any("relevance" in role for role in create(name, {}).roles)]


def forward(network: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The activation at the layer, before its ReLU, and the output."""
    fine = torch.relu(network.first(x))
    if isinstance(network, UNet):
        activation = network.middle(torch.relu(network.down(fine)))
        return activation, network.dense(torch.relu(activation), fine)
    activation = network.second(fine)
    return activation, network.numbers(torch.relu(activation))


def start_of(kind: str, name: str, y: Tensor) -> Tensor:
    """The start at the output: the weight of each number; times the number, or the region's mean, for plain LRP."""
    start = torch.zeros_like(y)
    if kind == "region":
        left, top, width, height = BOX
        inside = torch.zeros(SIZE, dtype=y.dtype)
        inside[top : top + height, left : left + width] = 1 / (width * height)
        other = {"lrp": 0.0, "relevance-cam": -1 / CLASSES, "clrp": -1 / (CLASSES - 1)}[name]
        start += other * inside
        start[:, 2] = inside
        mean = (y[:, 2] * inside).sum((1, 2))
        return start * mean[:, None, None, None] if name == "lrp" else start
    if kind == "number":
        start[:, 2] = y[:, 2] if name == "lrp" else 1
        return start
    reference = torch.from_numpy(REFERENCE / np.linalg.norm(REFERENCE)).to(y)
    return reference * y if name == "lrp" else start + reference


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    folder, made = tmp_path_factory.mktemp("relevance"), {}
    (folder / "rules.toml").write_text(RULES)
    for kind, (_, options) in KINDS.items():
        network = randomise(UNet("transposed") if kind == "region" else Embedding(), 3)
        onnx.save(both_ways(network, False, (3, *SIZE)), folder / f"{kind}.onnx")
        more: dict[str, Any] = {**options, "split": options["split"].removeprefix("network.")}
        graphs: dict[str, Any] = {
            "composite": (str(folder / "rules.toml"),),
            "pixel_relevance": True,
            "preprocess": "none",
        }
        done = export(Request(folder / f"{kind}.onnx", output_path=folder / f"{kind}.xai", **graphs, **more))
        made[kind] = network.double(), done.path
    return made.__getitem__


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", METHODS)
def test_its_map(exported: Callable[[str], tuple[Any, Path]], name: str, kind: str, backend: str) -> None:
    network, path = exported(kind)
    x, explainer = 6 * images(2) - 2, Explainer(path, backend)
    target = KINDS[kind][0]
    if name == "sglrp":
        with pytest.raises(NotApplicableError, match="sglrp: it compares the classes of one prediction; take lrp"):
            explainer.explain(Prepared(x), name, target)
        return
    at = torch.from_numpy(x).double().requires_grad_()
    activation, numbers = forward(network, at)
    y = numbers / numbers.norm(dim=1, keepdim=True).detach() if kind == "similarity" else numbers
    shares = (start_of(kind, name, y).detach() * y / y.detach()).sum()
    place = activation if name == "relevance-cam" else at
    relevance = place * torch.autograd.grad(shares, place)[0]
    if name == "relevance-cam":
        want = (relevance.mean((2, 3), keepdim=True) * activation).sum(1)
    else:
        want = (relevance.clamp(min=0) if name == "clrp" else relevance).sum(1)
    got = explainer.explain(Prepared(x), name, target, composite="rules").raw
    want = want.detach()
    np.testing.assert_allclose(got, want, atol=1e-3 * float(want.abs().max()))
