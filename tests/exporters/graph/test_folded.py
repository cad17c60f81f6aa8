"""Module names in ONNX files: what was merged away is refused, what is there as a whole is given."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from torch import nn
from xai_exporters import list_layers
from xai_exporters.errors import LayerError

from .. import cut_nets as c
from ..checks import check_bundle, hooked
from ..running import both_ways, export_onnx, onnx_request


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


@pytest.fixture(scope="module")
def dynamo(network: nn.Module) -> onnx.ModelProto:
    return both_ways(network, True, c.SHAPE)


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
    model = both_ways(network, False, c.SHAPE)
    for name in ("a.0", "a"):  # in the file, "a" could as well be a container of the convolution alone
        with pytest.raises(
            LayerError, match=rf"the output of the module '{name}' is no longer .* was merged into its convolution"
        ):
            export_onnx(tmp_path, model, split=name)
    done = export_onnx(tmp_path, model, split="f", overwrite=True)  # where nothing merges ReLU and Clip
    assert done.manifest.target.tensor.endswith("Relu_output_0")
    assert done.layer_note is None


class Merging(c.Pooled):
    """A ReLU in front of a bound, a BatchNorm, and a scale and a shift behind convolutions: what optimisers merge."""

    def __init__(self) -> None:
        super().__init__(c.GeM())
        self.a = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
        self.bound = Bound()
        self.b = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False))
        self.norm = nn.BatchNorm2d(3)
        self.e = nn.Sequential(nn.Conv2d(3, 3, 1))
        self.shift = Shift()
        self.g = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False))
        self.offset = Offset()
        self.many = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.b(self.bound(self.a(x)))))
        x = torch.relu(self.offset(self.g(torch.relu(self.shift(self.e(x))))))
        return super().forward(self.many(x))


class Bound(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(0, 1000)


class Offset(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor([0.5, -0.25, 1]).reshape(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.by


class Shift(Offset):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x * 2)


@pytest.fixture(scope="module")
def merging() -> nn.Module:
    torch.manual_seed(0)
    made = Merging()
    for parameter in made.norm.parameters():
        nn.init.normal_(parameter)
    return made.eval()


@pytest.fixture(scope="module")
def optimised(merging: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """Written by the older exporter as for training, and optimised by ONNX Runtime as far as standard operators go."""
    folder = tmp_path_factory.mktemp("optimised")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            merging, (torch.rand(2, *c.SHAPE),), folder / "plain.onnx", dynamo=False, input_names=["image"],
            dynamic_axes={"image": {0: "N"}}, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(folder / "plain.onnx", options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a", "an activation, which may be its last operator, was merged into .* .Clip.; the nearest"),
        ("b", "what follows it was merged into its convolution; the nearest tensors are .*norm/Batch"),
        ("e", "what follows it was merged into its convolution; the nearest tensors are '/shift/Add"),
        ("g", "what follows it was merged into its convolution"),
        ("e.0", "what follows it was merged into its convolution"),
    ],
)  # fmt: skip
def test_merged_by_an_optimiser_is_refused(tmp_path: Path, optimised: onnx.ModelProto, name: str, says: str) -> None:
    with pytest.raises(LayerError, match=f"the output of the module '{name}' is no longer in the graph: {says}"):
        export_onnx(tmp_path, optimised, split=name)
    assert name not in {n for row in list_layers(onnx_request(tmp_path, optimised)) for n in row.names}


@pytest.mark.parametrize("name", ["a.0", "bound", "norm", "shift", "offset", "many.0", "many.1"])
def test_whole_module_of_an_optimised_file(
    tmp_path: Path, optimised: onnx.ModelProto, merging: nn.Module, name: str
) -> None:
    """A convolution that has taken in a BatchNorm or a shift gives what that module gives."""
    done = export_onnx(tmp_path, optimised, split=name)
    assert done.layer_note is None

    def forward(x: Any) -> dict[str, Any]:
        with torch.no_grad():
            return {done.manifest.outputs[0].name: merging(torch.from_numpy(x)).numpy()}

    check_bundle(done.path, forward, hooked(merging, name, 0))


def test_optimised_file_is_told_of(
    tmp_path: Path, optimised: onnx.ModelProto, caplog: pytest.LogCaptureFixture
) -> None:
    done = export_onnx(tmp_path, optimised, split="many")
    assert done.layer_note == (
        "'many' is taken to be the tensor '/many/many.1/Relu_output_0', but ONNX Runtime has optimised this file, and may have "
        "merged the module's last operator into what follows; compare it with the network, or name a tensor"
    )
    assert done.layer_note in caplog.text


def test_merged_convolution_of_a_larger_module_is_told_of(tmp_path: Path) -> None:
    """What was merged may lie in the module, as here, or behind it."""
    torch.manual_seed(0)
    network = c.Pooled(c.GeM())
    blocks = [nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3)]
    named = OrderedDict(stem=nn.Sequential(*blocks), act=nn.SiLU(), rest=network)
    done = export_onnx(tmp_path, both_ways(nn.Sequential(named).eval(), False, c.SHAPE), split="stem")
    assert done.layer_note is not None
    assert (
        "into whose convolution a BatchNormalization, a scale or a sum was merged, which may lie after"
        in done.layer_note
    )


def test_convolution_that_the_next_of_a_sequence_reads_is_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3))
    model = both_ways(nn.Sequential(block, nn.SiLU(), c.Pooled(c.GeM())).eval(), False, c.SHAPE)
    assert export_onnx(tmp_path, model, split="0").layer_note is None


def test_activation_merged_into_quantisation(tmp_path: Path) -> None:
    """QLinearConv whose zero point is the smallest number cuts off what is negative: the ReLU behind it is gone."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    onnx.save(both_ways(nn.Sequential(block, head).eval(), False, c.SHAPE), tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Images(), quant_format=QuantFormat.QOperator)
    model = onnx.load(tmp_path / "int8.onnx")
    with pytest.raises(
        LayerError, match=r"'0\.0' is no longer in the graph: its quantisation cuts off what is negative"
    ):
        export_onnx(tmp_path, model, split="0.0")
    assert export_onnx(tmp_path, model, split="0").manifest.target.shape == (4, *c.SHAPE[1:])


class Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self) -> None:
        self._left = 4

    def get_next(self) -> dict[str, Any] | None:
        self._left -= 1
        return None if self._left < 0 else {"image": torch.rand(1, *c.SHAPE).numpy()}
