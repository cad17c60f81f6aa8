"""A small residual network of volumes, exported once for each layout of its input."""

from __future__ import annotations

from typing import Any

import pytest
from xai_exporters import Request, export

from .exported import Exported
from .nets import SIZE, ResNet, saved


@pytest.fixture(scope="package", params=["first", "last"])
def resnet(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The channels first or last in its input."""
    last = request.param == "last"
    folder, network = tmp_path_factory.mktemp("resnet"), ResNet(last)
    source = saved(network, folder / "net.onnx", (*SIZE, 3) if last else (3, *SIZE))
    done = export(Request(source, preprocess="unit", input_gradient=True, output_path=folder / "net.xai"))
    assert done.manifest.input.layout == ("NDHWC" if last else "NCDHW")
    assert done.manifest.input.size == SIZE
    assert done.manifest.target.shape == (8, 3, 5, 6)  # `auto`: before the pooling
    assert done.manifest.target.title.endswith(", 3 x 5 x 6")
    return Exported(network, done.path, source)
