"""Exports from networks in memory, for the tests."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from xai_exporters import Export, Request, export, list_layers
from xai_exporters.cut.costs import Candidate

from . import nets

HEAD_AND_TAIL = ("head", "tail")
"""The roles of a test that asks no gradient and no relevance: half of the time of an export."""


def onnx_request(folder: Path, model: onnx.ModelProto, **options: Any) -> Request:
    """A request for an ONNX source, saved as `folder/net.onnx`, that takes pixels as they are unless `options` say otherwise."""
    onnx.save(model, folder / "net.onnx")
    return Request(folder / "net.onnx", **{"output_path": folder / "net.xai", "preprocess": "none", **options})


def export_onnx(folder: Path, model: onnx.ModelProto, **options: Any) -> Export:
    """Export an ONNX source."""
    return export(onnx_request(folder, model, **options))


def torch_request(folder: Path, module: torch.nn.Module, **options: Any) -> Request:
    """A request for a state dict, whose architecture is the module's class in `nets`. Preprocessing is assumed."""
    source = nets.save(module, folder / "net.pt")
    defaults = {"output_path": folder / "net.xai", "arch": nets.arch(type(module)), "input_shape": nets.SHAPE,
                "preprocess": "assume"}  # fmt: skip
    return Request(source, **{**defaults, **options})


def export_torch(folder: Path, module: torch.nn.Module, **options: Any) -> Export:
    """Export a state dict."""
    return export(torch_request(folder, module, **options))


def layers_of(folder: Path, module: torch.nn.Module) -> list[Candidate]:
    """The cuts of a state dict's network."""
    return list_layers(torch_request(folder, module))


def dynamo_onnx(module: torch.nn.Module, folder: Path, opset: int = 18) -> onnx.ModelProto:
    """The module as torch's exporter writes it, module paths in the nodes' metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (torch.rand(2, *nets.SHAPE),),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
        assert program is not None
        program.save(folder / "dynamo.onnx")
    return onnx.load(folder / "dynamo.onnx")


def both_ways(module: torch.nn.Module, dynamo: bool, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The module as torch's exporter writes it, or its older one, which names nodes after modules; for images [N, *shape]."""
    images = torch.rand(2, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("N")},)
            program = torch.onnx.export(
                module, (images,), dynamo=True, opset_version=18, dynamic_shapes=shapes, verbose=False
            )
            assert program is not None
            return program.model_proto
        file: Any = io.BytesIO()  # which torch takes, though its types do not say so
        torch.onnx.export(
            module, (images,), file, dynamo=False, input_names=["image"], dynamic_axes={"image": {0: "N"}}
        )
        return onnx.load_from_string(file.getvalue())


def trace(module: torch.nn.Module, path: Path) -> Path:
    """A traced TorchScript archive."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive: Any = torch.jit.trace(module, torch.rand(2, *nets.SHAPE))  # type: ignore[no-untyped-call]
        archive.save(str(path))
    return path


def program(module: torch.nn.Module, path: Path, batch: int | None = None) -> Path:
    """A torch.export program, of a fixed batch or a symbolic one."""
    shapes = None if batch is not None else ({0: torch.export.Dim("N")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (torch.rand(batch or 2, *nets.SHAPE),), dynamic_shapes=shapes)
        with open(path, "wb") as file:
            torch.export.save(exported, file)
    return path


def left_behind(folder: Path) -> list[str]:
    """What an export left in a folder beside its source."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith(("net.onnx", "net.pt")))
