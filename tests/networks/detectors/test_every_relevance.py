"""Methods of relevance for detections, against autograd in float64.

With the epsilon rule everywhere, biases included and epsilon near 0, relevance is the input times a gradient, see
`outputs.test_every_relevance`. A detection differs in where it starts: at the scores of its row, which is written out here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.errors import NotApplicableError
from xai_deploy.preprocess import Prepared

from ...exporters.nets import randomise
from ...exporters.running import both_ways
from ..outputs.nets import SIZE, images
from ..outputs.test_every_relevance import METHODS, RULES
from .test_every_method import ROW, Detector

OTHER, CLASSES = 30, 3
"""A second row that is far above the rest, of class 1."""
TARGETS = ("box 0", "1", "not box 0", "box 0 vs box 1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path]:
    folder, network = tmp_path_factory.mktemp("relevance"), Detector(False)
    randomise(network, 3)
    torch.as_tensor(network.above)[0, 1, OTHER] = 6
    (folder / "rules.toml").write_text(RULES)
    onnx.save(both_ways(network, False, (3, *SIZE)), folder / "net.onnx")
    graphs: dict[str, Any] = {"composite": (str(folder / "rules.toml"),), "pixel_relevance": True, "split": "second"}
    request = Request(
        folder / "net.onnx", output_path=folder / "net.xai", preprocess="none", decoder="yolov8", **graphs
    )
    return network.double(), export(request).path


def start_of(name: str, target: str, y: Tensor, row: int) -> Tensor:
    """The start at the scores [n,3,rows]: the weight of each score, times the score for plain LRP."""
    start = torch.zeros_like(y)
    if target == "box 0 vs box 1":
        start[:, 2, ROW], start[:, 1, OTHER] = 1, -1
    else:
        others = {"lrp": 0.0, "relevance-cam": -1 / CLASSES, "clrp": -1 / (CLASSES - 1)}[name]
        start[:, :, row] = others
        start[:, 1 if target == "1" else 2, row] = 1
    start = -start if target.startswith("not") else start
    return start * y if name == "lrp" else start


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", METHODS)
def test_its_map(made: tuple[Detector, Path], name: str, target: str, backend: str) -> None:
    network, path = made
    x, explainer = 6 * images(2) - 2, Explainer(path, backend)
    if name == "sglrp":
        with pytest.raises(NotApplicableError, match="sglrp: "):
            explainer.explain(Prepared(x), name, target)
        return
    got = explainer.explain(Prepared(x), name, target, composite="rules")
    at = torch.from_numpy(x).double().requires_grad_()
    activation = network.second(torch.relu(network.first(at)))
    before = network.last(torch.relu(activation)).flatten(2)[:, 4:]
    y = before + network.above
    row = OTHER if target == "1" else ROW  # the best detection of class 1
    place = activation if name == "relevance-cam" else at
    # a constant that is added takes no relevance: what the scores start with arrives before it
    shares = (start_of(name, target, y, row).detach() * before / before.detach()).sum()
    relevance = place * torch.autograd.grad(shares, place)[0]
    if name == "relevance-cam":
        want = (relevance.mean((2, 3), keepdim=True) * activation).sum(1).detach()
    else:
        want = (relevance.clamp(min=0) if name == "clrp" else relevance).sum(1).detach()
    assert float(want.abs().max()) > 0
    np.testing.assert_allclose(got.raw, want, atol=1e-3 * float(want.abs().max()))
