"""TensorFlow as a source: `tensorflow_file.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from xai_exporters import Request
from xai_exporters.cli import main
from xai_exporters.errors import RequestError, SourceError
from xai_exporters.sources import load_source
from xai_exporters.sources.openvino_ir import child, parent
from xai_exporters.sources.openvino_ir.given import Given
from xai_exporters.sources.openvino_ir.unread import why_unread
from xai_exporters.sources.tensorflow import exposed
from xai_exporters.sources.tensorflow.messages import CLASSES

from .written import NET, agree, images, refusal, tensorflow, wire


def test_frozen_graph(tmp_path: Path) -> None:
    """A file is known by its content, not by its name."""
    (tmp_path / "net.bin").write_bytes(tensorflow.graph(NET))
    network = load_source(Request(tmp_path / "net.bin"))
    assert network.kind == "TensorFlow graph"
    agree(network, images(3), NET.scores(images(3)))


def test_inputs_that_nothing_reads(tmp_path: Path) -> None:
    """A frozen graph keeps those of its training: names of files (type 7, text) and a switch (type 10)."""
    unread = b""
    for name, kind in (("files", 7), ("training", 10)):
        dtype = wire.field(1, "dtype") + wire.field(2, wire.field(6, kind))
        shape = wire.field(1, "shape") + wire.field(2, wire.field(7, b""))
        unread += wire.field(
            1, wire.field(1, name) + wire.field(2, "Placeholder") + wire.field(5, dtype) + wire.field(5, shape)
        )
    for place, graph in enumerate((unread + tensorflow.graph(NET), tensorflow.graph(NET) + unread)):
        (tmp_path / f"{place}.pb").write_bytes(graph)
        network = load_source(Request(tmp_path / f"{place}.pb"))
        assert [value.name for value in network.proto.graph.input] == ["image:0"]
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
    assert "\nrelu " in capsys.readouterr().out


def layers(source: Path) -> list[str]:
    """The nodes' names, and the modules that they lie in."""
    nodes = load_source(Request(source)).proto.graph.node
    scopes = [prop.value for node in nodes for prop in node.metadata_props if prop.key == "pkg.torch.onnx.name_scopes"]
    return [node.name for node in nodes if node.op_type != "Transpose"] + scopes


def test_names(tmp_path: Path) -> None:
    """OpenVINO's reader has lost those of the first two nodes; in a SavedModel they lie in functions."""
    (tmp_path / "net.pb").write_bytes(tensorflow.graph(NET))
    assert {"conv", "relu"} < {*layers(tmp_path / "net.pb")}
    folder = tensorflow.save(NET, tmp_path / "net", function=True)
    agree(load_source(Request(folder)), images(3), NET.scores(images(3)))
    assert {"net/conv", "net/relu", "['', 'conv']"} < {*layers(folder)}


def test_names_of_functions_that_call_functions() -> None:
    """A function that is called twice gives what it holds twice; 2^40 calls are not followed."""
    model = CLASSES["SavedModel"].FromString(tensorflow.saved_model(NET, function=True))
    [meta] = model.meta_graphs
    inner = meta.graph_def.library.function[0]
    for i in range(40):
        outer = meta.graph_def.library.function.add()
        outer.CopyFrom(inner)
        outer.signature.name = f"level_{i}"
        del outer.node_def[:]
        for half in range(2):
            call = outer.node_def.add(name=f"call_{half}", op="StatefulPartitionedCall", input=["image"])
            call.attr.add(key="f").value.func.name = f"level_{i - 1}" if i else "network"
            call.attr.add(key="Tout").value.list.type.append(1)
    [called] = [entry.value for node in meta.graph_def.node for entry in node.attr if entry.key == "f"]
    called.func.name = "level_1"
    _, names = exposed.expose(model.SerializeToString())
    assert sorted(names.values()).count("net/relu") == 4
    called.func.name = "level_39"
    _, names = exposed.expose(model.SerializeToString())
    assert [*names.values()] == ["scores"]
    called.func.name = "level_18"
    with pytest.raises(ValueError, match="its functions hold more than 20000 tensors"):
        exposed.expose(model.SerializeToString())


def test_a_reader_that_ends_while_names_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read without names then: the first process leaves its mark, as one that crashed does."""
    (tmp_path / "net.pb").write_bytes(tensorflow.graph(NET))
    call, tasks = parent.call, []

    def crashing(task: str, given: Given, folder: Path, *more: str) -> None:
        tasks.append(task)
        if len(tasks) == 1:
            (folder / child.NAMING).mkdir()
            raise SourceError("ended by SIGSEGV")
        call(task, given, folder, *more)

    monkeypatch.setattr(parent, "call", crashing)
    assert "Relu_1" in layers(tmp_path / "net.pb")
    assert tasks == ["translate", "translate"]


def test_an_operator_that_openvino_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "net.pb").write_bytes(tensorflow.graph(NET, last="Mine"))
    assert "the node 'scores' (Mine): OpenVINO's reader knows no operator of this type" in refusal(tmp_path / "net.pb")


def test_a_variable_that_is_not_found() -> None:
    """What OpenVINO 2026.4 says of a subclass of keras.Model that tf.saved_model.save has written; TensorFlow itself runs it."""
    error = RuntimeError(
        "Check 'is_conversion_successful' failed at src/frontends/tensorflow/src/frontend.cpp:474:\n"
        "FrontEnd API failed with OpConversionFailure:\nModel wasn't fully converted. Failed operations detailed log:\n"
        "-- VarHandleOp with a message:\n[TensorFlow Frontend] Internal error: Cannot find requested variable."
    )
    assert why_unread(error, "tf", "net").endswith("; write it with model.export(FOLDER), or freeze it")


def test_a_saved_model_without_its_variables(tmp_path: Path) -> None:
    """The whole folder is missing; this is how OpenVINO 2026.4 says it."""
    error = RuntimeError(
        "Model wasn't fully converted. Failed operations detailed log:\n-- VarHandleOp with a message:\n"
        "Variable or resource `conv2d/kernel` is not initialized, model is inconsistent\n"
    )
    said = "the value of its variable 'conv2d/kernel' is missing; copy the whole SavedModel, with its folder variables"
    assert why_unread(error, "tf", str(tmp_path)) == said


def test_draws(tmp_path: Path) -> None:
    """Keras 3 leaves its augmentation (RandomFlip) in what model.export saves: it flips at random."""
    (tmp_path / "net.pb").write_bytes(tensorflow.graph(NET, last="StatelessRandomGetKeyCounter"))
    message = "the node 'scores' (StatelessRandomGetKeyCounter): draws random numbers: each run gives other scores"
    assert message in refusal(tmp_path / "net.pb")


def test_an_image_of_unknown_dimensions(tmp_path: Path) -> None:
    """A placeholder without a shape; TensorFlow's images are NHWC."""
    kind = wire.field(5, wire.field(1, "dtype") + wire.field(2, wire.field(6, 1)))
    shape = wire.field(5, wire.field(1, "shape") + wire.field(2, wire.field(7, wire.field(3, True))))
    image = wire.field(1, wire.field(1, "image") + wire.field(2, "Placeholder") + kind + shape)
    (tmp_path / "net.pb").write_bytes(image + tensorflow.graph(NET, image=False))
    assert "sizes are not known; give the image's size with --input-shape C,H,W" in refusal(tmp_path / "net.pb")
    network = load_source(Request(tmp_path / "net.pb", input_shape=(3, NET.height, NET.width)))
    agree(network, images(3), NET.scores(images(3)))


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
    (folder / "variables" / "variables.data-00000-of-00001").unlink()
    (folder / "saved_model.pb").unlink()
    (folder / "saved_model.pb").symlink_to(folder / "saved_model.pb")
    assert "saved_model.pb lies outside the folder; refused" in refusal(folder)
    (folder / "saved_model.pb").unlink()
    (folder / "saved_model.pb").mkdir()
    assert "saved_model.pb is no plain file; refused" in refusal(folder)


def test_arch_is_refused(tmp_path: Path) -> None:
    folder = tensorflow.save(NET, tmp_path / "net")
    assert "a TensorFlow model holds its own network" in refusal(folder, RequestError, arch="resnet50")
