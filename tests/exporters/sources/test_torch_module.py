"""Pickled modules, TorchScript archives, torch.export programs, safetensors: each told by its content."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from xai_exporters import Request, export
from xai_exporters.errors import LayerError, RequestError, SourceError, UntrustedSourceError
from xai_exporters.sources import torch_export

from .. import nets
from ..checks import check_bundle, forward, hooked
from ..running import HEAD_AND_TAIL, left_behind, program, trace


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return nets.randomise(nets.Residual())


def request(source: Path, **options: Any) -> Request:
    return Request(
        source,
        **{"input_shape": nets.SHAPE, "output_path": source.parent / "net.xai", "preprocess": "assume", **options},
        roles=HEAD_AND_TAIL,
    )


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_module_needs_trust(tmp_path: Path, net: torch.nn.Module, legacy: bool) -> None:
    source = tmp_path / "net.pt"
    torch.save(net, source, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UntrustedSourceError, match=r"nets\.Residual\), and loading them runs code .*--trust-code"):
        export(request(source))
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("key", [None, "model"])
def test_pickled_module_trusted(tmp_path: Path, net: torch.nn.Module, key: str | None) -> None:
    source = tmp_path / "net.safetensors"  # a misleading name
    torch.save({"epoch": 3, key: net} if key else net, source)
    done = export(request(source, trust_code=True, split="layer1.0.conv1"))
    assert done.kind == "torch module Residual"
    check_bundle(done.path, forward(net), hooked(net, "layer1.0.conv1"))


def test_pickled_module_of_an_absent_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "gone.py").write_text("import torch\nclass Net(torch.nn.Module):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    gone = importlib.import_module("gone")
    torch.save(gone.Net(), tmp_path / "net.pt")
    (tmp_path / "gone.py").unlink()
    monkeypatch.delitem(sys.modules, "gone")
    importlib.invalidate_caches()
    with pytest.raises(SourceError, match=r"can't be unpickled .*gone.*importable"):
        export(request(tmp_path / "net.pt", trust_code=True))


def test_file_of_something_else(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "net.pt")
    with pytest.raises(SourceError, match="holds a Tensor; a state dict or a module is needed"):
        export(request(tmp_path / "net.pt"))


def test_module_without_a_tensor_output(tmp_path: Path) -> None:
    torch.save(nets.Text(), tmp_path / "net.pt")
    with pytest.raises(SourceError, match="the network's output is not a tensor"):
        export(request(tmp_path / "net.pt", trust_code=True))


def test_module_damaged_in_memory(tmp_path: Path) -> None:
    net = nets.Plain()
    del net.__dict__["_modules"]
    torch.save(net, tmp_path / "net.pt")
    with pytest.raises(SourceError, match="not a usable module"):
        export(request(tmp_path / "net.pt", trust_code=True))


@pytest.mark.parametrize("scripted", [False, True])
def test_torchscript(tmp_path: Path, net: torch.nn.Module, scripted: bool) -> None:
    source = tmp_path / "net.pt2"  # a misleading name
    if scripted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive: Any = torch.jit.script(nets.randomise(nets.Scriptable()))
            archive.save(str(source))
        net, layer = nets.randomise(nets.Scriptable()), "conv2"
    else:
        layer = "/layer1/0/conv2/Conv_output_0"
        trace(net, source)
    done = export(request(source, split=layer, trust_code=True))
    assert done.kind == "TorchScript archive"
    assert done.verified.framework is not None
    check_bundle(done.path, forward(net), None if layer.startswith("/") else hooked(net, layer))


def test_torchscript_module_path(tmp_path: Path, net: torch.nn.Module) -> None:
    """Without a BatchNorm folded into it, the path's tensor is the module's output."""
    trace(net, tmp_path / "net.pt")
    done = export(request(tmp_path / "net.pt", split="layer1", trust_code=True))
    assert done.manifest.target.tensor.startswith("/layer1/")
    check_bundle(done.path, forward(net), hooked(net, "layer1"))


def test_torchscript_that_does_not_run(tmp_path: Path, net: torch.nn.Module) -> None:
    trace(net, tmp_path / "net.pt")
    with pytest.raises(SourceError, match="the TorchScript network can't be exported: RuntimeError"):
        export(request(tmp_path / "net.pt", input_shape=(1, 16, 20), trust_code=True))


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_exported_program(tmp_path: Path, net: torch.nn.Module, batch: int | None, capfd: Any) -> None:
    source = program(net, tmp_path / "net.bin", batch)
    done = export(request(source, split="layer1", input_shape=None, trust_code=True))
    assert done.kind == "torch.export program"
    assert done.batch_was_fixed == (batch is not None)
    assert done.verified.framework is not None
    check_bundle(done.path, forward(net, done.manifest.outputs[0].name), hooked(net, "layer1"))
    assert capfd.readouterr().err == ""


def test_exported_program_of_another_size(tmp_path: Path, net: torch.nn.Module) -> None:
    source = program(net, tmp_path / "net.bin")
    with pytest.raises(RequestError, match=r"takes images of shape \(3, 16, 20\), not \(3, 32, 32\)"):
        export(request(source, input_shape=(3, 32, 32), trust_code=True))
    with pytest.raises(LayerError, match=r"no layer 'layer3'.*nearest are.*layer1"):
        export(request(source, split="layer3", trust_code=True))


def test_exported_program_of_several_inputs(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    with open(tmp_path / "net.pt2", "wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(Two(), (torch.rand(1, 3), torch.rand(1, 3))), file)
    with pytest.raises(SourceError, match=r"none of the program.s inputs \(x \[1, 3\], y \[1, 3\]\) is an image"):
        export(request(tmp_path / "net.pt2", trust_code=True))


def test_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nets.randomise(nets.Plain(7))
    save_file(net.state_dict(), tmp_path / "net.onnx")  # a misleading name
    done = export(request(tmp_path / "net.onnx", arch=nets.arch(nets.Plain), split="bn1"))
    assert done.manifest.classes == 7
    check_bundle(done.path, forward(net), hooked(net, "bn1"))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(SourceError, match="needs safetensors; pip install"):
        export(request(tmp_path / "net.onnx", overwrite=True))


def test_module_that_torch_can_not_export(tmp_path: Path) -> None:
    nets.save(nets.Branching(), tmp_path / "net.pt")
    with pytest.raises(SourceError, match="torch can't export the network"):
        export(request(tmp_path / "net.pt", arch=nets.arch(nets.Branching)))


class Named(NamedTuple):
    scores: torch.Tensor
    aux: torch.Tensor | None


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (torch.ones(1), ["output"]),
        ((torch.ones(1), torch.ones(2)), ["output", "output_1"]),
        ({"scores": torch.ones(1), "aux": None}, ["scores"]),
        (Named(torch.ones(1), None), ["scores"]),
    ],
)
def test_named_outputs(output: Any, names: list[str]) -> None:
    assert list(torch_export.named_outputs(output)) == names


def test_program_that_torch_can_not_export(
    tmp_path: Path, net: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = program(net, tmp_path / "net.bin")

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(SourceError, match="the program can't be exported to ONNX: RuntimeError: no such operator"):
        export(request(source, input_shape=None, trust_code=True))
