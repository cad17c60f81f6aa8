"""What is no network, and networks cut short or with wrong bytes: one clear line, never a traceback, nothing written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file
from xai_exporters import Request
from xai_exporters.cli import main
from xai_exporters.errors import SourceError, UnknownSourceError
from xai_exporters.sources import load_source

from .. import nets
from .. import onnx_nets as o
from ..running import program, trace

KINDS = ("state dict", "legacy", "module", "legacy module", "TorchScript", "program", "safetensors", "ONNX")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One whole file of each kind."""
    folder = tmp_path_factory.mktemp("files")
    net = nets.randomise(nets.Plain())
    torch.save(net.state_dict(), folder / "state dict")
    torch.save(net.state_dict(), folder / "legacy", _use_new_zipfile_serialization=False)
    torch.save(net, folder / "module")
    torch.save(net, folder / "legacy module", _use_new_zipfile_serialization=False)
    trace(net, folder / "TorchScript")
    program(net, folder / "program")
    save_file(net.state_dict(), folder / "safetensors")
    onnx.save(o.classifier(), folder / "ONNX")
    return {kind: (folder / kind).read_bytes() for kind in KINDS}


def damages(data: bytes, seed: int) -> Iterator[bytes]:
    """Truncations (at the start, near the end, anywhere), and bytes overwritten."""
    draw = random.Random(seed)
    for length in (
        1,
        9,
        40,
        len(data) // 3,
        len(data) - 30,
        len(data) - 1,
        *(draw.randrange(len(data)) for _ in range(4)),
    ):
        yield data[:length]
    for count in (1, 4, 4, 20, 20):
        damaged = bytearray(data)
        for _ in range(count):
            damaged[draw.randrange(len(data))] = draw.randrange(256)
        yield bytes(damaged)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged(tmp_path: Path, files: dict[str, bytes], kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--arch", nets.arch(nets.Plain)] if kind in ("state dict", "legacy", "safetensors") else []
    options += [] if kind in ("ONNX", "program") else ["--input-shape", "3,16,20"]
    options += ["--trust-code"] if kind in ("module", "legacy module", "TorchScript", "program") else []
    refused = 0
    for data in damages(files[kind], KINDS.index(kind)):
        (tmp_path / "net").write_bytes(data)
        status = main(
            [
                str(tmp_path / "net"),
                "-o",
                str(tmp_path / "net.xai"),
                "--overwrite",
                "--quiet",
                "--preprocess",
                "none",
                *options,
            ]
        )
        error = capfd.readouterr().err
        if status:  # a wrong byte in a weight is no damage that anyone could see
            refused += 1
            assert status == 2
            assert error.startswith("xai-export: error: ")
            assert error.count("\n") == 1
        else:
            assert error == ""
    assert refused >= 10
    assert {p.name for p in tmp_path.iterdir()} <= {"net", "net.xai"}


@pytest.mark.parametrize("content", [b"", b"PK", b"hello, world\n" * 9, b"\x08", b"\x80\x02}q\x00.", b"{}", bytes(64)])
def test_no_network(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(
        SourceError,
        match=r"net\.onnx: (damaged, or no network that xai-export reads|a damaged|the file is empty|a JSON file|a Python pickle)",
    ):
        load_source(Request(tmp_path / "net.onnx"))


def test_another_zip_archive(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    with pytest.raises(UnknownSourceError, match="damaged, or no network that xai-export reads"):
        load_source(Request(tmp_path / "net.pt"))


def test_folder_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a folder; name the network's file"):
        load_source(Request(tmp_path))
    with pytest.raises(SourceError, match=r"nothing\.pt: can't be read \(No such file or directory\)"):
        load_source(Request(tmp_path / "nothing.pt"))
