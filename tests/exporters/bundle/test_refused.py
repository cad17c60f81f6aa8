"""Graphs that propagate back and that the engine's guard would refuse are found when they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from xai_exporters import pipeline
from xai_exporters.bundle.refused import refused
from xai_exporters.errors import ExportError

from xai_deploy.format.manifest import Manifest

from .. import onnx_nets
from ..running import export_onnx, onnx_request


def harmful(path: Path) -> bytes:
    """The graph with a division of whole numbers by 0, whose result nothing uses."""
    model = onnx.load(path)
    for name, value in (("one", 1), ("zero", 0)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    model.graph.node.insert(0, helper.make_node("Div", ["one", "zero"], ["nothing"], name="halved"))
    data: bytes = model.SerializeToString()
    return data


def test_refused_by_role(tmp_path: Path) -> None:
    manifest = export_onnx(tmp_path, onnx_nets.classifier()).manifest
    contents = {graph.file: tmp_path / "net.xai" / graph.file for graph in manifest.graphs.values()}
    assert refused(contents, manifest) == {}
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(harmful(contents["gradient.onnx"]))
    found = refused({**contents, "gradient.onnx": changed}, manifest)
    assert found.keys() == {"gradient"}
    assert found["gradient"].startswith("the engine refuses to open it: gradient.onnx: ")
    assert "divides integers by 0" in found["gradient"]


@pytest.mark.parametrize("roles", [(), ("gradient",)])
def test_left_out_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roles: tuple[str, ...]) -> None:
    def spoiled(contents: dict[str, Path], manifest: Manifest) -> dict[str, str]:
        path = tmp_path / "changed.onnx"
        path.write_bytes(harmful(contents["gradient.onnx"]))
        return refused({**contents, "gradient.onnx": path}, manifest)

    monkeypatch.setattr(pipeline, "refused", spoiled)
    request = onnx_request(tmp_path, onnx_nets.classifier(), roles=roles)
    if roles:
        with pytest.raises(ExportError, match="the gradient graph can't be used: the engine refuses to open it: "):
            pipeline.export(request)
        assert not (tmp_path / "net.xai").exists()
    else:
        manifest = pipeline.export(request).manifest
        assert "gradient" not in manifest.graphs
        assert "the engine refuses to open it" in manifest.left_out["gradient"]
