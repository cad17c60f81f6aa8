"""Every method for a detection: its map is that for a class of a classifier that computes the score of the same row.

Methods of relevance have `test_every_relevance`: their rules divide a sum by its terms, so they see where a sum stands in the
graph.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from xai_exporters import Request, export

from xai_deploy import Explainer, method_names
from xai_deploy.methods import create

from ...exporters.nets import randomise
from ...exporters.running import both_ways
from ...few import few
from ..outputs.nets import SIZE, images

ROW, HEIGHT, WIDTH = 17, 6, 8
ELSEWHERE = {"own-map", "class-map", "cam"}
"""The first two have tests of their own; cam needs a pooling, which no detector has."""


class Detector(nn.Module):
    """Boxes and scores [N,4+3,R] as YOLOv8 gives them, class 2 of one row far above all others; or that row's scores alone."""

    def __init__(self, alone: bool) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1), nn.Conv2d(8, 7, 1)
        self.alone = alone
        y, x = torch.meshgrid(torch.arange(HEIGHT) * 4.0 + 2, torch.arange(WIDTH) * 4.0 + 2, indexing="ij")
        self.register_buffer("centres", torch.stack([x, y]).reshape(1, 2, -1), persistent=False)
        above = torch.zeros(1, 3, HEIGHT * WIDTH)
        above[0, 2, ROW] = 9
        self.register_buffer("above", above, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(torch.relu(self.second(torch.relu(self.first(x))))).flatten(2)
        scores = y[:, 4:] + self.above
        if self.alone:
            return Tensor(scores[:, :, ROW])
        return torch.cat([y[:, :2] * 0.1 + self.centres, 4 + y[:, 2:4].sigmoid(), scores.sigmoid()], 1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Explainer, Explainer]]:
    """Backend -> the detector, and the classifier whose class 2 is the score of the detection."""
    folder, paths = tmp_path_factory.mktemp("every"), []
    graphs = {"input_gradient": True, "guided": True, "full_gradient": True, "preprocess": "none", "split": "second"}
    for alone in (False, True):
        file = folder / f"{alone}.onnx"
        onnx.save(both_ways(randomise(Detector(alone), 3), False, (3, *SIZE)), file)
        more = {} if alone else {"decoder": "yolov8"}
        paths.append(export(Request(file, output_path=file.with_suffix(".xai"), **graphs, **more)).path)  # type: ignore[arg-type]
    return {name: (Explainer(paths[0], name), Explainer(paths[1], name)) for name in ("onnxruntime", "openvino")}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in method_names()
        if name not in ELSEWHERE and not any("relevance" in role for role in create(name, {}).roles)
    ],
)
def test_its_map(pairs: dict[str, tuple[Explainer, Explainer]], name: str, backend: str) -> None:
    detector, classifier = pairs[backend]
    options = few(name)
    if "score" in {field.name for field in dataclasses.fields(create(name, {}))}:  # type: ignore[arg-type]
        options["score"] = "logit"
    x = 6 * images(2) - 2
    want = classifier.explain(x, name, 2, **options).raw
    got = detector.explain(x, name, "box 0", **options).raw
    assert np.abs(want).max() > 0
    np.testing.assert_allclose(got, want, atol=2e-4 * float(np.abs(want).max()))
