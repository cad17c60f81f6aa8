"""Sessions of ONNX Runtime: `measure.py`."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from xai_exporters.bundle import installed
from xai_exporters.errors import GraphError
from xai_exporters.graph.measure import open_session, run

from .. import onnx_nets as o


def test_a_file_of_any_name_is_opened(tmp_path: Path) -> None:
    """Linux allows names that are no text; both runtimes take text only."""
    name = os.fsdecode(b"\xff.onnx") if sys.platform == "linux" else "\u00e9.onnx"
    path = tmp_path / name
    b = o.Build()
    b("Relu", "image", out="y")
    model = b.model("y", shape=("N", 3))
    path.write_bytes(model.SerializeToString())
    x = np.array([[-1, 0, 2]], np.float32)
    for given in (path, path.read_bytes()):
        np.testing.assert_array_equal(run(open_session(given, "a file"), {"image": x}, "it")["y"], [[0, 0, 2]])
        np.testing.assert_array_equal(installed._openvino(given, "a file")({"image": x})["y"], [[0, 0, 2]])


def test_a_message_names_no_temporary_folder(tmp_path: Path) -> None:
    path = tmp_path / "head.onnx"
    path.write_bytes(b"\x08\x08no graph")
    for opened in (open_session, installed._openvino):
        with pytest.raises(GraphError, match="can't open the head") as caught:
            opened(path, "the head")
        assert str(tmp_path) not in str(caught.value)


def test_an_opset_that_the_runtime_does_not_know_yet_is_named() -> None:
    b = o.Build()
    b("Relu", "image", out="y")
    model = b.model("y", shape=("N", 3))
    model.opset_import[0].version = 99
    with pytest.raises(
        GraphError, match=r"^the source has opset 99; ONNX Runtime \S+ knows opset \d+ and older ones; export "
    ):
        open_session(model.SerializeToString(), "the source")
