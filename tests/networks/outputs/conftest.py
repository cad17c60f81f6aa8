"""Small networks of every kind of output, each beside one of slightly other weights, as bundles; and photographs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from xai_exporters import Request, export

from xai_deploy import write_image

from .nets import SIZE, Embedding, UNet, saved

NETWORKS = {
    "dense": UNet("bilinear", "softmax"), "one": UNet("transposed", "sigmoid", 1), "argmax": UNet("bilinear", "argmax"),
    "embedding": Embedding(unit=True), "numbers": Embedding(),
}  # fmt: skip
COUNT = 3


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each network NAME.onnx and NAME.xai, and NAME-near of slightly other weights; `photos`."""
    folder, rng = tmp_path_factory.mktemp("nets"), np.random.default_rng(7)
    for name, network in NETWORKS.items():
        model = onnx.load(saved(network, folder / f"{name}.onnx"))
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor)
                moved = (values * rng.normal(1, 0.05, values.shape)).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        onnx.save(model, folder / f"{name}-near.onnx")
        for one in (name, f"{name}-near"):
            request = Request(
                folder / f"{one}.onnx", output_path=folder / f"{one}.xai", preprocess="none", roles=("gradient",)
            )
            export(replace(request, task="numbers") if name == "numbers" else request)
    (folder / "photos").mkdir()
    for i in range(COUNT):
        coarse = rng.integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), dtype=np.uint8)
        write_image(folder / "photos" / f"{i}.png", coarse.repeat(8, axis=0).repeat(8, axis=1))
    return folder


@pytest.fixture
def here(nets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(nets)
    return nets
