"""Every method for every kind of output: its map is that for a class of a classifier that computes the same number.

A region's mean score, one number, a cosine with a reference: each is a class of another network, made in torch. Methods of
relevance are in test_every_relevance: their rules divide a sum by its terms, so they see where a sum stands in the graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from xai_exporters import Request, export

from xai_deploy import Explainer, Like, method_names
from xai_deploy.errors import NotApplicableError
from xai_deploy.methods import create

from ...exporters.nets import randomise
from ...exporters.running import both_ways
from ...few import few
from .nets import SIZE, Embedding, UNet, images

REFERENCE = np.random.default_rng(9).standard_normal(6).astype(np.float32)
BOX = (4, 3, 15, 11)  # x, y, width, height
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "region": ("2@4,3,15,11", {"split": "network.middle"}),
    "number": ("#2", {"split": "network.second", "task": "numbers"}),
    "similarity": (Like(REFERENCE), {"split": "network.second", "task": "embedding"}),
}
GRAPHS = {"input_gradient": True, "guided": True, "full_gradient": True, "preprocess": "none"}


class Through(nn.Module):
    """A network, and what is computed of its output."""

    def __init__(self, network: nn.Module, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.end = network, end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.network(x))


def mean_in_box(y: Tensor) -> Tensor:
    x, top, width, height = BOX
    return y[:, :, top : top + height, x : x + width].mean((2, 3))


def cosines(y: Tensor) -> Tensor:
    references = torch.from_numpy(np.stack([-REFERENCE, np.roll(REFERENCE, 1), REFERENCE]))
    return functional.normalize(y, dim=1) @ functional.normalize(references, dim=1).T


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Explainer, Explainer]]:
    """Kind and backend -> the network itself, and the classifier whose class 2 is the number explained."""
    folder, made = tmp_path_factory.mktemp("every"), {}
    ends = {"region": mean_in_box, "number": lambda y: y * 1.0, "similarity": cosines}
    for kind, (_, options) in KINDS.items():
        network = randomise(UNet("bilinear") if kind == "region" else Embedding(), 3)
        paths = []
        for name, end, more in (
            ("own", lambda y: y + 0.0, options),
            ("classes", ends[kind], {**options, "task": "classes"}),
        ):
            file = folder / f"{kind}-{name}.onnx"
            onnx.save(both_ways(Through(network, end), False, (3, *SIZE)), file)
            paths.append(export(Request(file, output_path=file.with_suffix(".xai"), **GRAPHS, **more)).path)  # type: ignore[arg-type]
        for backend in ("onnxruntime", "openvino"):
            made[kind, backend] = Explainer(paths[0], backend), Explainer(paths[1], backend)
    return made


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", [name for name in method_names() if name not in ("own-map", "class-map")])
def test_its_map(pairs: dict[tuple[str, str], tuple[Explainer, Explainer]], name: str, kind: str, backend: str) -> None:
    own, classifier = pairs[kind, backend]
    if any("relevance" in role for role in create(name, {}).roles):
        return
    options = few(name)
    if "score" in {field.name for field in dataclasses.fields(create(name, {}))}:  # type: ignore[arg-type]
        options["score"] = "logit"
    x, target = 6 * images(2) - 2, KINDS[kind][0]
    if name == "cam":
        with pytest.raises(NotApplicableError, match=r"^cam: this bundle has no .* or take reciprocam$"):
            own.explain(x, name, target, **options)
        return
    want, got = classifier.explain(x, name, 2, **options).raw, own.explain(x, name, target, **options).raw
    np.testing.assert_allclose(got, want, atol=2e-4 * max(float(np.abs(want).max()), 1e-12))
