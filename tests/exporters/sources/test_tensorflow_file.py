"""TensorFlow as a source: `tensorflow_file.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from xai_exporters import Request
from xai_exporters.cli import main
from xai_exporters.errors import RequestError
from xai_exporters.sources import load_source

from .written import NET, agree, images, refusal, tensorflow, wire


def test_frozen_graph(tmp_path: Path) -> None:
    """A file is known by its content, not by its name."""
    (tmp_path / "net.bin").write_bytes(tensorflow.graph(NET))
    network = load_source(Request(tmp_path / "net.bin"))
    assert network.kind == "TensorFlow graph"
    agree(network, images(3), NET.scores(images(3)))


def test_saved_model(tmp_path: Path) -> None:
    """By its folder, or by the file in it."""
    folder = tensorflow.save(NET, tmp_path / "net")
    network = load_source(Request(folder))
    assert network.kind == "TensorFlow SavedModel"
    assert folder / "saved_model.pb" in network.files
    agree(network, images(3), NET.scores(images(3)))
    assert load_source(Request(folder / "saved_model.pb")).proto == network.proto


def test_commands_take_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tensorflow.save(NET, tmp_path / "net")
    assert main([str(folder), "--list-layers"]) == 0
    assert "Relu_1 " in capsys.readouterr().out  # OpenVINO has lost the name


def test_an_operator_that_openvino_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "net.pb").write_bytes(tensorflow.graph(NET, last="Mine"))
    assert "the node 'scores' (Mine): OpenVINO's reader knows no operator of this type" in refusal(tmp_path / "net.pb")


def test_a_graph_that_is_not_frozen(tmp_path: Path) -> None:
    variable = wire.field(1, wire.field(1, "w") + wire.field(2, "VarHandleOp"))
    read = wire.field(1, wire.field(1, "r") + wire.field(2, "ReadVariableOp") + wire.field(3, "w"))
    (tmp_path / "net.pb").write_bytes(variable + read + tensorflow.graph(NET).replace(b"filters", b"missing"))
    assert "freeze it, or name the folder of the SavedModel" in refusal(tmp_path / "net.pb")


def test_truncated(tmp_path: Path) -> None:
    data = tensorflow.graph(NET)
    (tmp_path / "net.pb").write_bytes(data[: len(data) // 2])
    assert "damaged or truncated" in refusal(tmp_path / "net.pb")


def test_missing_weights(tmp_path: Path) -> None:
    folder = tensorflow.save(NET, tmp_path / "net")
    (folder / "variables" / "variables.index").write_bytes(b"x")
    assert "weights are missing in its folder variables; copy the whole SavedModel" in refusal(folder)
    (folder / "variables" / "variables.data-00000-of-00002").write_bytes(b"x")
    assert "weights are missing in its folder variables" in refusal(folder)
    (folder / "variables" / "variables.index").unlink()
    assert "variables.index is missing" in refusal(folder)


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    folder = tensorflow.save(NET, tmp_path / "net")
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "variables" / "variables.data-00000-of-00001").symlink_to(tmp_path / "secret")
    assert "lies outside the folder; refused" in refusal(folder)


def test_arch_is_refused(tmp_path: Path) -> None:
    folder = tensorflow.save(NET, tmp_path / "net")
    assert "a TensorFlow model holds its own network" in refusal(folder, RequestError, arch="resnet50")
