"""A Triton repository says of each model what the model is: read with Triton's own definition, run as the config says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
from onnx import TensorProto, helper
from xai_exporters.deliver.repositories.repository import write_repository
from xai_exporters.deliver.repositories.served import Served
from xai_exporters.errors import GraphError

from .reading import TYPES, feed, received, sent, triton_config, triton_type

FORMS = ["digits", "grad-cam", "bytes", "any-size"]

GOLDEN = """\
name: "net-grad-cam"
backend: "onnxruntime"
max_batch_size: 8
input [
  {
    name: "image"
    data_type: TYPE_FP32
    dims: [ 3, 64, 64 ]
  },
  {
    name: "target"
    data_type: TYPE_INT64
    dims: [ 1 ]
    reshape: { shape: [ ] }
  }
]
output [
  {
    name: "logits"
    data_type: TYPE_FP32
    dims: [ 10 ]
    label_filename: "labels.txt"
  },
  {
    name: "saliency_map"
    data_type: TYPE_FP32
    dims: [ 8, 8 ]
  }
]
dynamic_batching { }
"""


def identity(*tensors: tuple[str, int, list[Any]]) -> bytes:
    """A graph that hands each input on as `out_NAME`."""
    nodes = [helper.make_node("Identity", [name], [f"out_{name}"]) for name, _, _ in tensors]
    inputs = [helper.make_tensor_value_info(*tensor) for tensor in tensors]
    outputs = [helper.make_tensor_value_info(f"out_{name}", type_, shape) for name, type_, shape in tensors]
    graph = helper.make_graph(nodes, "net", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def small(model: bytes, labels: tuple[str, ...] = (), **further: Any) -> Served:
    return Served(**{"name": "net", "model": model, "labels": labels, "openvino": None, "logits_output": "", **further})


def test_the_config_of_a_fused_model(models: dict[str, Served], tmp_path: Path) -> None:
    served = models["grad-cam"]
    named = Served("net-grad-cam", served.model, served.labels, None, "logits")
    write_repository("triton", tmp_path / "repo", [named], overwrite=False)
    assert (tmp_path / "repo" / "net-grad-cam" / "config.pbtxt").read_text(encoding="utf-8") == GOLDEN


def test_the_folders(models: dict[str, Served], tmp_path: Path) -> None:
    write_repository("triton", tmp_path / "repo", list(models.values()), overwrite=False)
    files = {p.relative_to(tmp_path / "repo").as_posix() for p in (tmp_path / "repo").rglob("*") if p.is_file()}
    each = ("config.pbtxt", "labels.txt", "1/model.onnx")
    assert files == {f"{m.name}/{file}" for m in models.values() for file in each} | {"xai-repository.json"}
    for served in models.values():
        folder = tmp_path / "repo" / served.name
        assert (folder / "1" / "model.onnx").read_bytes() == served.model
        assert (folder / "labels.txt").read_text(encoding="utf-8").split("\n") == [*served.labels, ""]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 3])
def test_onnxruntime_runs_what_the_config_says(
    models: dict[str, Served], form: str, batch: int, tmp_path: Path
) -> None:
    write_repository("triton", tmp_path / "repo", [models[form]], overwrite=False)
    folder = tmp_path / "repo" / models[form].name
    config = triton_config(folder)
    assert (config.name, config.backend, config.max_batch_size) == (folder.name, "onnxruntime", 8)
    assert config.HasField("dynamic_batching")
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
    assert [io.name for io in config.input] == [value.name for value in session.get_inputs()]
    assert [io.name for io in config.output] == [value.name for value in session.get_outputs()]
    results = session.run(None, {io.name: feed(config, io, batch) for io in config.input})
    for io, value, result in zip(config.output, session.get_outputs(), results, strict=True):
        assert result.dtype == TYPES[triton_type(io)]
        assert list(result.shape) == [batch, *received(config, io)[1:]]
        assert [d if isinstance(d, int) else -1 for d in value.shape] == received(config, io)
        assert np.ptp(result.astype(float)) > 0
        assert (io.label_filename == "labels.txt") is (io.name == "logits")
    for io in config.input:  # Triton allows no tensor without dims: [N] is sent as [N,1]
        assert len(sent(config, io)) >= 2
        assert (sent(config, io) == [-1, 1]) is (io.name == "target")


@pytest.mark.parametrize("form", FORMS)
def test_openvino_runs_what_the_config_says(
    models: dict[str, Served], as_ir: Callable[[Served], Served], form: str, tmp_path: Path
) -> None:
    """The backend finds tensors by OpenVINO's `any_name`, and compares every dim: fixed with fixed, open with -1."""
    served = as_ir(models[form])
    write_repository("triton", tmp_path / "repo", [served], overwrite=False)
    folder = tmp_path / "repo" / served.name
    assert sorted(p.name for p in (folder / "1").iterdir()) == ["model.bin", "model.xml"]
    config = triton_config(folder)
    assert (config.name, config.backend, config.max_batch_size) == (folder.name, "openvino", 0)
    assert not config.HasField("dynamic_batching")
    assert [group.Kind.Name(group.kind) for group in config.instance_group] == ["KIND_CPU"]
    model = ov.Core().read_model(folder / "1" / "model.xml")
    values = [*model.inputs, *model.outputs]
    for io, value in zip([*config.input, *config.output], values, strict=True):
        assert io.name == value.any_name
        dims = [-1 if dim.is_dynamic else dim.get_length() for dim in value.partial_shape]
        assert sent(config, io) == received(config, io) == dims
        assert value.element_type.to_dtype() == TYPES[triton_type(io)]
        assert all(dim.is_static or dim.get_max_length() == -1 for dim in value.partial_shape)  # no ranges
    results = ov.compile_model(model, "CPU")({io.name: feed(config, io, 3) for io in config.input})
    for io in config.output:
        assert list(results[io.name].shape) == [3, *io.dims[1:]]


def test_the_dims_are_those_that_openvino_has(tmp_path: Path) -> None:
    """Where it knows a dim, or another one, than the ONNX file tells."""
    served = small(identity(("x", TensorProto.FLOAT, ["N", "any"])))
    (tmp_path / "net.onnx").write_bytes(served.model)
    model = ov.convert_model(tmp_path / "net.onnx")
    model.reshape({"x": [4, 3]})
    ov.save_model(model, tmp_path / "net.xml")
    ir = (tmp_path / "net.xml").read_bytes(), (tmp_path / "net.bin").read_bytes()
    write_repository("triton", tmp_path / "repo", [replace(served, openvino=ir)], overwrite=False)
    config = triton_config(tmp_path / "repo" / "net")
    assert [list(io.dims) for io in [*config.input, *config.output]] == [[4, 3], [4, 3]]


def test_every_type_has_its_name(tmp_path: Path) -> None:
    types = {
        "a": (TensorProto.FLOAT, "TYPE_FP32"),
        "b": (TensorProto.FLOAT16, "TYPE_FP16"),
        "c": (TensorProto.DOUBLE, "TYPE_FP64"),
        "d": (TensorProto.UINT8, "TYPE_UINT8"),
        "e": (TensorProto.INT8, "TYPE_INT8"),
        "f": (TensorProto.INT32, "TYPE_INT32"),
        "g": (TensorProto.INT64, "TYPE_INT64"),
        "h": (TensorProto.BOOL, "TYPE_BOOL"),
    }
    model = identity(*((name, type_, ["N", 2, "any"]) for name, (type_, _) in types.items()))
    write_repository("triton", tmp_path / "repo", [small(model)], overwrite=False)
    config = triton_config(tmp_path / "repo" / "net")
    assert {io.name: triton_type(io) for io in config.input} == {name: told for name, (_, told) in types.items()}
    assert [list(io.dims) for io in config.output] == [[2, -1]] * len(types)


def test_names_are_quoted_and_labels_may_be_absent(tmp_path: Path) -> None:
    name = 'a "b"\\c\té'
    model = identity((name, TensorProto.FLOAT, ["N"]))
    write_repository("triton", tmp_path / "repo", [small(model, logits_output=f"out_{name}")], overwrite=False)
    config = triton_config(tmp_path / "repo" / "net")
    assert config.input[0].name == name
    assert [sent(config, config.output[0]), received(config, config.output[0])] == [[-1, 1], [-1]]
    assert config.output[0].label_filename == ""
    assert not (tmp_path / "repo" / "net" / "labels.txt").exists()


def test_weights_that_are_inputs_are_none(tmp_path: Path) -> None:
    """As graphs of IR version 3 have them."""
    model = onnx.load_model_from_string(identity(("x", TensorProto.FLOAT, ["N", 2])))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]))
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0]))
    write_repository("triton", tmp_path / "repo", [small(model.SerializeToString())], overwrite=False)
    assert [io.name for io in triton_config(tmp_path / "repo" / "net").input] == ["x"]


@pytest.mark.parametrize("kind", ["triton", "ovms"])
@pytest.mark.parametrize("shape", [[2, 3, 8, 8], []])
def test_a_fixed_batch_is_refused(kind: str, shape: list[int], tmp_path: Path) -> None:
    served = small(identity(("x", TensorProto.FLOAT, shape)))
    with pytest.raises(GraphError) as error:
        write_repository(kind, tmp_path / "repo", [served], overwrite=False)
    assert str(error.value) == (
        "model 'net': 'x' has no batch in front, symbolic or 1; a server can't give it images at will"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_type_that_triton_does_not_serve_is_refused(tmp_path: Path) -> None:
    served = small(identity(("x", TensorProto.BFLOAT16, ["N", 2])))
    with pytest.raises(GraphError, match=r"^model 'net': 'x' holds BFLOAT16, which Triton does not serve$"):
        write_repository("triton", tmp_path / "repo", [served], overwrite=False)


def test_an_ir_of_another_model_is_refused(
    models: dict[str, Served], as_ir: Callable[[Served], Served], tmp_path: Path
) -> None:
    plain, fused = models["digits"], models["grad-cam"]
    served = Served("net", fused.model, (), as_ir(plain).openvino, "logits")
    with pytest.raises(GraphError, match=r"^model 'net': the OpenVINO IR has no tensor 'target'$"):
        write_repository("triton", tmp_path / "repo", [served], overwrite=False)
