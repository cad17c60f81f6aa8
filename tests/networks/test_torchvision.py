"""Torchvision networks, exported from state dicts, against the live network in float64.

Small inputs here, narrow networks and a shorter DenseNet; `scripts/check_networks` runs the same tests at
full size, Score-CAM everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.errors import NotApplicableError

from ..support import smaller
from .oracle import Oracle, calibrate, randomise

FULL = os.environ.get("XAI_FULL_SIZE") == "1"
SIZE = 224 if FULL else 64
TOLERANCE = 1e-4  # of the map's largest magnitude

# layer; the classifier's weight where CAM is defined; whether Score-CAM is affordable in the quick tests
CASES = {
    "resnet50:layer4": ("fc.weight", False),
    "resnet50:layer3": (None, False),
    "resnet50:layer3.2": (None, False),
    "resnet50:layer3.0.conv1": (None, False),
    "resnet18:layer3.0.conv1": (None, True),
    "vgg16_bn:features": (None, False),
    "mobilenet_v2:features": ("classifier.1.weight", True),
    "squeezenet1_1:features": (None, True),
    "densenet121:features": (None, True),
    "efficientnet_b0:features": ("classifier.1.weight", False),
}
# the others show the same
QUICK = [case for case in CASES if not case.startswith(("resnet50:layer3", "efficientnet_b0"))]


@dataclass
class Case:
    oracle: Oracle
    bundle: Path
    x: list[torch.Tensor]  # two images, float64 [1,3,H,W]
    cam_weight: torch.Tensor | None
    score_cam: bool

    @property
    def images(self) -> Any:
        return torch.cat(self.x).numpy().astype(np.float32)


@pytest.fixture(scope="module", params=CASES if FULL else QUICK)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    name, _, layer = request.param.partition(":")
    weight, score_cam = CASES[request.param]
    folder = tmp_path_factory.mktemp(name)
    torch.manual_seed(0)
    small = None if FULL else getattr(smaller, name, None)
    arch = f"{smaller.__file__}:{name}" if small else None
    network = randomise(small() if small else torchvision.models.get_model(name, weights=None))
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    calibrate(network, x.float())
    torch.save(network.state_dict(), folder / f"{name}.pt")
    done = export(
        Request(
            folder / f"{name}.pt",
            split=layer,
            output_path=folder / "net.xai",
            input_shape=(3, SIZE, SIZE),
            arch=arch,
            preprocess="assume",
        )
    )
    assert done.verified.framework is not None
    (folder / f"{name}.pt").unlink()
    parameters = dict(network.named_parameters())
    yield Case(
        Oracle(network, layer),
        done.path,
        list(torch.split(x, 1)),
        parameters[weight] if weight else None,
        score_cam or FULL,
    )
    for file in done.path.iterdir():
        file.unlink()  # half a gigabyte for VGG-16


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def explainer(request: pytest.FixtureRequest, case: Case) -> Explainer:
    return Explainer(case.bundle, backend=request.param, batch_size=8)


def close(got: Any, want: Any) -> None:
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max()


def test_logits_and_activation(case: Case, explainer: Explainer) -> None:
    with torch.no_grad():
        want = case.oracle.network(torch.cat(case.x)).numpy()
    close(explainer.predict(case.images), want)


@pytest.mark.parametrize("score", ["logit", "softmax"])
def test_reciprocam(case: Case, explainer: Explainer, score: str) -> None:
    for mask in ("pixel", "gaussian", "gaussian-centre"):
        targets = [7, 13] if mask == "pixel" else [7]  # side tensors must follow their image: once is enough to tell
        e = explainer.explain(case.images[: len(targets)], "reciprocam", target=targets, score=score, mask=mask)
        for i, target in enumerate(targets):
            want = case.oracle.reciprocam(case.x[i], target, score, mask)
            close(e.raw[i], want)
            # the map's own relief, which a large constant must not hide: float32 keeps 1e-7 of the constant
            relief = np.ptp(want)
            assert (
                np.abs((e.raw[i] - e.raw[i].mean()) - (want - want.mean())).max()
                <= 1e-3 * relief + 1e-6 * np.abs(want).max()
            )


def test_score_cam(case: Case, explainer: Explainer) -> None:
    if not case.score_cam:
        pytest.skip("hundreds of full passes of a large network: run by scripts/check_networks")
    e = explainer.explain(case.images[:1], "score-cam", target=7)
    close(e.raw[0], case.oracle.scorecam(case.x[0], 7, "softmax"))


def test_cam(case: Case, explainer: Explainer) -> None:
    if case.cam_weight is None:
        with pytest.raises(NotApplicableError, match="global average pooling and one linear layer"):
            explainer.explain(case.images, "cam", target=7)
        return
    for relu in (True, False):
        e = explainer.explain(case.images[:1], "cam", target=7, relu=relu)
        close(e.raw[0], case.oracle.cam(case.x[0], 7, case.cam_weight, relu))
