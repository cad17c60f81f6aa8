"""Files that run code when they are read: refused before torch sees them, unless the user trusts them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from xai_exporters import Request, export, list_layers
from xai_exporters.cli import main
from xai_exporters.errors import ExportError, SourceError, UntrustedSourceError
from xai_exporters.graph.reading import STRAIGHT
from xai_exporters.sources import SourceFile, load_source, torch_file

from .. import nets
from .. import onnx_nets as o
from ..running import program, trace


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def rewritten(source: Path, target: Path, change: Any) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def poisoned(folder: Path, mark: Path) -> Path:
    """A `.pt2` whose symbolic size is an expression that leaves a file."""
    good = program(nets.plain(), folder / "good.pt2")

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("model.json"):
            return data
        evil = f"__import__('pathlib').Path({str(mark)!r}).touch() or 2"
        text, count = re.subn(r'"expr_str": "[^"]*"', lambda _: f'"expr_str": {json.dumps(evil)}', data.decode())
        assert count
        return text.encode()

    return rewritten(good, folder / "net.pt2", change)


def scripted(folder: Path, mark: Path) -> Path:
    """A TorchScript archive whose forward writes a file."""

    class Writer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mark = str(mark)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.save(x, self.mark)
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive: Any = torch.jit.script(Writer())
        archive.save(str(folder / "net.pt"))
    return folder / "net.pt"


def pickled(folder: Path, mark: Path) -> Path:
    torch.save(Evil(mark), folder / "net.pth")
    return folder / "net.pth"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (poisoned, r"net\.pt2: a torch\.export program \(\.pt2\), and loading it runs code .*--trust-code"),
        (scripted, r"net\.pt: a TorchScript archive, and running it runs code .*--trust-code"),
        (pickled, r"net\.pth: holds Python objects \(\S+\), and loading them runs code .*--trust-code"),
    ],
)
def test_nothing_runs_without_consent(tmp_path: Path, make: Any, says: str) -> None:
    mark = tmp_path / "PWNED"
    source = make(tmp_path, mark)
    request = Request(source, input_shape=(3, 16, 20), output_path=tmp_path / "net.xai")
    for step in (export, list_layers):
        with pytest.raises(UntrustedSourceError, match=says):
            step(request)
    assert not mark.exists()
    assert not request.output_path or not request.output_path.exists()
    with contextlib.suppress(ExportError):  # the same file does run, once it is trusted
        list_layers(dataclasses.replace(request, trust_code=True))
    assert mark.exists()


@pytest.mark.parametrize("option", ["--trust-code", "--trust-pickle"])
def test_both_spellings(tmp_path: Path, option: str) -> None:
    source = trace(nets.randomise(nets.Plain()), tmp_path / "net.pt")
    arguments = [str(source), "--input-shape", "3,16,20", "--list-layers", "--json", "-"]
    assert main(arguments) == 2
    assert main([*arguments, option]) == 0


def test_the_old_keyword() -> None:
    assert Request(Path("x"), trust_pickle=True) == Request(Path("x"), trust_code=True)
    assert dataclasses.replace(Request(Path("x"), trust_pickle=True), split="y").trust_code


def test_help_names_the_safe_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "safetensors, state dicts (torch.save of model.state_dict()), ONNX, OpenVINO IR, TFLite, " in said
    assert "TensorFlow and PaddlePaddle run no code" in said
    assert "TorchScript and .pt2 can do whatever you can" in said


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_takes_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    """`bytearray(2 ** 44)`, which torch's weights_only reading would try."""
    bomb = b"\x80\x02c__builtin__\nbytearray\n\x8a\x06" + (1 << 44).to_bytes(6, "little") + b"\x85R."
    source = tmp_path / "net.pt"
    if legacy:
        magic = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
        source.write_bytes(b"".join(magic) + bomb)
    else:
        torch.save({"w": torch.zeros(2)}, tmp_path / "good.pt")
        rewritten(tmp_path / "good.pt", source, lambda name, data: bomb if name.endswith("data.pkl") else data)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch has read it"))
    with pytest.raises(UntrustedSourceError, match=r"holds Python objects \(bytearray\)"):
        torch_file.load(SourceFile.open(source), Request(source))


def test_a_shape_larger_than_the_file(tmp_path: Path) -> None:
    """A tensor of stride 0 is any size in a few bytes; as a number of classes it would be built."""
    weights = dict(nets.randomise(nets.Plain()).state_dict())
    last = list(weights)[-1]
    weights[last] = torch.zeros(1).expand(1 << 40)
    torch.save(weights, tmp_path / "net.pt")
    with pytest.raises(SourceError, match=r"net\.pt: its weights would take 4398\d+ bytes, .* refused"):
        list_layers(Request(tmp_path / "net.pt", arch=nets.arch(nets.Plain), input_shape=nets.SHAPE))


@pytest.mark.parametrize("kind", ["sparse", "meta", "complex", "integer"])
def test_weights_that_are_no_plain_numbers(tmp_path: Path, kind: str) -> None:
    weights = dict(nets.randomise(nets.Plain()).state_dict())
    name, value = next((k, v) for k, v in weights.items() if v.ndim == 4)
    weights[name] = {
        "sparse": value.to_sparse, "meta": lambda: value.to("meta"), "complex": lambda: value * 1j,
        "integer": lambda: value.to(torch.int8),
    }[kind]()  # fmt: skip
    torch.save(weights, tmp_path / "net.pt")
    with pytest.raises(SourceError, match=rf"{name} is (stored sparse|on the device meta|of (complex64|int8))"):
        list_layers(Request(tmp_path / "net.pt", arch=nets.arch(nets.Plain), input_shape=nets.SHAPE))


def test_the_mark_of_a_quantiser(tmp_path: Path) -> None:
    """A stranger's file can't mark a node, here or in a branch, as one that gradients pass straight through."""
    b = o.Build()
    x = b.features()
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", [x], ["y"])], "b", [], [onnx.ValueInfoProto(name="y")]
    )
    x = b("If", b.weight(np.array(True)), then_branch=branch, else_branch=branch)
    model = b.model(b.linear(b.pooled(x), out="scores"), ir_version=10)
    for node in (*model.graph.node, *model.graph.node[-4].attribute[0].g.node):
        node.metadata_props.add(key=STRAIGHT, value="yes")
    onnx.save(model, tmp_path / "net.onnx")
    proto = load_source(Request(tmp_path / "net.onnx")).proto
    assert len(proto.graph.node) == len(model.graph.node)
    assert not any(node.metadata_props for node in (*proto.graph.node, *proto.graph.node[-4].attribute[0].g.node))
