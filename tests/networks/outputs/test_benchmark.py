"""Measuring networks whose output is not classes: the targets are of the kind that the network has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.benchmark import benchmark
from xai_deploy.benchmark.jobs import _targets
from xai_deploy.targets import Like

from .nets import Embedding, UNet, saved

NETS: dict[str, tuple[nn.Module, dict[str, str]]] = {
    "dense": (UNet("bilinear"), {}),
    "numbers": (Embedding(), {"task": "numbers"}),
    "embedding": (Embedding(True), {}),
}


@pytest.mark.parametrize("kind", NETS)
def test_every_kind_is_measured(kind: str, tmp_path: Path) -> None:
    network, task = NETS[kind]
    path = tmp_path / "net.xai"
    export(
        Request(saved(network, tmp_path / "net.onnx"), output_path=path, preprocess="none", roles=("gradient",), **task)  # type: ignore[arg-type]
    )
    for predicted in (False, kind == "dense"):
        report = benchmark([str(path)], ["grad-cam"], targets=[2], runs=1, warmup=1, predicted=predicted, memory=False)
        assert [(result.title, result.targets) for result in report.results] == 2 * [
            ("plain", None),
            ("grad-cam", 2),
        ]  # both runtimes
    given = _targets(Explainer(path).bundle.manifest, 2, False)
    if kind == "embedding":
        assert all(isinstance(target, Like) and np.shape(target.reference) == (6,) for target in given)
    else:
        assert given == (["0@all", "1@all"] if kind == "dense" else ["#0", "#1"])
