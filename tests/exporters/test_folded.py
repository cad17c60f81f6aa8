"""Module names in ONNX files: what was merged away is refused, what is there as a whole is given."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from xai_exporters import list_layers
from xai_exporters.errors import LayerError

from . import cut_nets as c
from .checks import check_bundle, hooked
from .running import export_onnx, onnx_request


class Blocks(c.Pooled):
    """BatchNorm and Dropout at the end of one module, a convolution whose BatchNorm is another module's at the end of the next."""

    def __init__(self) -> None:
        super().__init__(c.GeM())
        self.a = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.Dropout())
        self.b = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))
        self.norm = nn.BatchNorm2d(3)
        self.plain = nn.Sequential(nn.Conv2d(3, 3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.plain(torch.relu(self.norm(self.b(self.a(x))))))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    made = Blocks()
    for norm in (made.a[1], made.norm):
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
    return made.eval()


def save(network: nn.Module, dynamo: bool) -> onnx.ModelProto:
    image = torch.rand(2, *c.SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("N")},)
            program = torch.onnx.export(
                network, (image,), dynamo=True, opset_version=18, dynamic_shapes=shapes, verbose=False
            )
            assert program is not None
            return program.model_proto
        file: Any = io.BytesIO()  # which torch takes, though its types do not say so
        torch.onnx.export(
            network, (image,), file, dynamo=False, input_names=["image"], dynamic_axes={"image": {0: "N"}}
        )
        return onnx.load_from_string(file.getvalue())


@pytest.fixture(scope="module")
def dynamo(network: nn.Module) -> onnx.ModelProto:
    return save(network, True)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("f", "the output of the module 'f' is no longer in the graph: 'relu_3', which may be its last operator, was merged into "
              "'clamp' .Clip.; the nearest tensors are 'conv2d_4', 'clamp'"),
        ("b", "the output of the module 'b' is no longer .*: 'conv2d_1', which may be its last operator, was merged into"),
        ("a.0", "no layer 'a.0' in this network; the nearest are"),
        ("a.2", "no layer 'a.2' in this network; the nearest are"),
    ],
)  # fmt: skip
def test_merged_module_is_refused(tmp_path: Path, dynamo: onnx.ModelProto, name: str, says: str) -> None:
    with pytest.raises(LayerError, match=says):
        export_onnx(tmp_path, dynamo, split=name)
    assert name not in {n for row in list_layers(onnx_request(tmp_path, dynamo)) for n in row.names}


@pytest.mark.parametrize("name", ["a", "a.1", "norm", "plain", "f.0", "f.1", "f.2"])
def test_whole_module_is_what_it_gives(tmp_path: Path, dynamo: onnx.ModelProto, network: nn.Module, name: str) -> None:
    done = export_onnx(tmp_path, dynamo, split=name)

    def forward(x: Any) -> dict[str, Any]:
        with torch.no_grad():
            return {done.manifest.outputs[0].name: network(torch.from_numpy(x)).numpy()}

    check_bundle(done.path, forward, hooked(network, name, 0))


def test_older_exporter(tmp_path: Path, network: nn.Module) -> None:
    """It names a convolution that holds its BatchNorm as if it were the convolution alone."""
    model = save(network, False)
    with pytest.raises(
        LayerError, match=r"the output of the module 'a\.0' is no longer .* the BatchNormalization behind it was merged"
    ):
        export_onnx(tmp_path, model, split="a.0")
    assert export_onnx(tmp_path, model, split="a").manifest.target.shape == (3, 16, 24)
    done = export_onnx(tmp_path, model, split="f", overwrite=True)  # where nothing merges ReLU and Clip
    assert done.manifest.target.tensor.endswith("Relu_output_0")
