"""`--arch` and `--arch-options` beside a file that holds its network: refused, for they would be ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from xai_exporters import Request, export, list_layers
from xai_exporters.errors import RequestError

from .. import nets
from .. import onnx_nets as o
from ..running import left_behind, program, trace


def _onnx(path: Path) -> None:
    onnx.save(o.classifier(), path)


def _module(path: Path) -> None:
    torch.save(nets.plain(), path)


def _checkpoint(path: Path) -> None:
    torch.save({"epoch": 3, "model": nets.plain()}, path)


def _torchscript(path: Path) -> None:
    trace(nets.plain(), path)


def _program(path: Path) -> None:
    program(nets.plain(), path)


SOURCES = {
    "an ONNX file": _onnx,
    "a torch module": _module,
    "a TorchScript archive": _torchscript,
    r"a torch.export program \(.pt2\)": _program,
}


@pytest.mark.parametrize("what", SOURCES)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"arch": "resnet18"}, "--arch"),
        ({"arch_options": {"aux_logits": False}}, "--arch-options"),
        ({"arch": nets.arch(nets.Plain), "arch_options": {"width": 2}}, "--arch and --arch-options"),
    ],
)
def test_refused(tmp_path: Path, what: str, options: dict[str, Any], named: str) -> None:
    _refuses(tmp_path, SOURCES[what], what, options, named)


def test_a_module_inside_a_checkpoint(tmp_path: Path) -> None:
    _refuses(tmp_path, _checkpoint, "a torch module", {"arch": "resnet18"}, "--arch")


def _refuses(folder: Path, write: Callable[[Path], None], what: str, options: dict[str, Any], named: str) -> None:
    write(folder / "net.pt")
    request = Request(folder / "net.pt", output_path=folder / "net.xai", trust_code=True, **options)
    for step in (export, list_layers):
        with pytest.raises(RequestError, match=rf"net\.pt: {what} holds its own network, so {named} can't be used; "):
            step(request)
    assert left_behind(folder) == []
