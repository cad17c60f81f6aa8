"""OpenVINO IR as a source: `openvino_file.py`, `network.py`, `model_info.py`, `child.py` and `parent.py`."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters import Export, Request, export
from xai_exporters.errors import RequestError, SourceError, UnknownSourceError
from xai_exporters.sources import load_source
from xai_exporters.sources.openvino_ir import parent

from xai_deploy import Explainer
from xai_deploy.foundation import runtimes

from ... import onnx_nets
from ...running import export_onnx
from ..written import refusal
from .running import c, f32, floats, ints, o, ov

NAMES = "cat dog big_bird ant bee"


def classifier(folder: Path, info: Mapping[str, Any] | None = None, half: bool = False, before: Any = None) -> Path:
    """The tests' ONNX classifier as `folder/ir/net.xml`."""
    (folder / "ir").mkdir(exist_ok=True)
    onnx.save(onnx_nets.classifier(), folder / "net.onnx")
    model = ov.convert_model(folder / "net.onnx")
    if before is not None:
        model = before(model)
    for key, text in (info or {}).items():
        model.set_rt_info(text, ["model_info", key])
    ov.save_model(model, folder / "ir" / "net.xml", compress_to_fp16=half)
    return folder / "ir" / "net.xml"


def exported(source: Path, **options: Any) -> Export:
    return export(Request(source, **{"output_path": source.parent / "net.xai", "preprocess": "none", **options}))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("half", [False, True])
def test_explains_as_its_onnx_does(half: bool, tmp_path: Path, backend: str) -> None:
    more = {"roles": ("gradient", "relevance"), "input_gradient": True}
    want = Explainer(export_onnx(tmp_path, onnx_nets.classifier(), split="auto", **more).path, backend)
    got = Explainer(exported(classifier(tmp_path, half=half), **more).path, backend)
    spec = want.bundle.manifest.input
    x = np.random.default_rng(0).random((3, *spec.image_shape)).astype(np.float32)
    for method in ("grad-cam", "relevance-cam", "gradient", "hires-cam"):
        a, b = (e.explain(x, method, [1, 2, 0]).raw for e in (want, got))
        np.testing.assert_allclose(b, a, rtol=0, atol=(3e-3 if half else 1e-4) * np.abs(a).max())


def test_an_argmax_at_the_end(tmp_path: Path) -> None:
    """As OpenVINO's readers write TFLite's and TensorFlow's: the index of a TopK of one. The scores before it are explained."""
    x = o.parameter([1, 3, 16, 20], np.float32, name="x")
    maps = o.relu(o.convolution(x, floats(4, 3, 3, 3), [2, 2], [1, 1], [1, 1], [1, 1]))
    scores = o.convolution(maps, floats(5, 4, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])
    kinds = o.squeeze(o.topk(scores, c(np.int64(1)), 1, "max", "none").output(1), ints(1))
    ov.save_model(ov.Model([kinds], [x]), tmp_path / "net.xml")
    done = exported(tmp_path / "net.xml", split="auto", preprocess="none")
    [scored] = done.manifest.explained
    assert (scored.kind, scored.shape) == ("dense", (5, 8, 10))


def test_layer_names_of_torch(tmp_path: Path) -> None:
    """The names that OpenVINO's frontend for torch writes are module paths."""
    path = classifier(tmp_path)
    model = ov.Core().read_model(path)
    conv = [node for node in model.get_ops() if node.get_type_name() == "Convolution"][-1]
    conv.set_friendly_name("__module.layer4.1.conv2/aten::_convolution/Convolution")
    ov.save_model(model, tmp_path / "named.xml", compress_to_fp16=False)
    [node] = [
        n for n in load_source(Request(tmp_path / "named.xml")).proto.graph.node if n.name == conv.get_friendly_name()
    ]
    scopes = {p.key: p.value for p in node.metadata_props}["pkg.torch.onnx.name_scopes"]
    assert scopes == str(["", "layer4", "layer4.1", "layer4.1.conv2", "aten::_convolution/Convolution"])


@pytest.mark.parametrize("name", ["same", "layer/\t<b>\n" + 5000 * "x"])
def test_names_that_are_not_unique(name: str, tmp_path: Path) -> None:
    """Nor printable, nor short: a manifest holds no control characters, and 4,096 characters of a text."""
    path = classifier(tmp_path)
    model = ov.Core().read_model(path)
    for node in model.get_ops():
        node.set_friendly_name(name)
    ov.save_model(model, tmp_path / "same.xml", compress_to_fp16=False)
    done = exported(tmp_path / "same.xml", output_path=tmp_path / "same.xai", roles=("gradient",))
    assert done.manifest.target.tensor.startswith(name[:5])


def saved_model(folder: Path, result: Any, x: Any) -> Path:
    ov.save_model(ov.Model([result], [x], "net"), folder / "net.xml", compress_to_fp16=False)
    return folder / "net.xml"


def test_an_operator_without_a_rule(tmp_path: Path) -> None:
    x = o.parameter([1, 3, 5, 7], np.float32, name="x")
    node = ov.opset14.inverse(o.slice(x, ints(0), ints(5), ints(1), ints(3)), adjoint=False)
    node.set_friendly_name("mine")
    text = refusal(saved_model(tmp_path, node, x))
    assert "the node 'mine' (Inverse): xai-export has no rule" in text
    assert "exporters/xai_exporters/sources/openvino_ir/rules" in text


def test_an_extension(tmp_path: Path) -> None:
    """A layer of an operator that only a library of its author knows."""
    path = classifier(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(
        re.sub(r'type="Relu?" version="opset1"|type="ReLU" version="opset1"', 'type="Mine" version="extension"', text),
        encoding="utf-8",
    )
    assert re.search(r"OpenVINO can't read it .*Mine", refusal(path))


def test_constants_that_unfold(tmp_path: Path) -> None:
    x = o.parameter([1, 3, 5, 7], np.float32, name="x")
    big = o.broadcast(f32(1), ints(3000, 1000, 1000))
    path = saved_model(tmp_path, o.add(x, o.reduce_max(o.multiply(big, f32(2)), ints(0, 1, 2), False)), x)
    assert "the constants up to here would take more than" in refusal(path)


def test_weights_missing_or_short(tmp_path: Path) -> None:
    path = classifier(tmp_path)
    weights = path.with_suffix(".bin")
    assert "name its graph, net.xml" in refusal(weights, UnknownSourceError)
    os.truncate(weights, weights.stat().st_size // 2)
    assert "its weights (.bin) are too short for it: cut off, or of another network" in refusal(path)
    weights.unlink()
    assert "its weights, net.bin, are missing; put the file beside it" in refusal(path)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_truncated_graph(keep: float, tmp_path: Path) -> None:
    path = classifier(tmp_path)
    os.truncate(path, int(path.stat().st_size * keep))
    assert "OpenVINO can't read it" in refusal(path)


@pytest.mark.parametrize(
    ("version", "message"), [("7", "an IR of version 7, .* with a newer OpenVINO"), ("12", "can't read it")]
)
def test_another_version(version: str, message: str, tmp_path: Path) -> None:
    path = classifier(tmp_path)
    path.write_text(
        path.read_text(encoding="utf-8").replace('version="11"', f'version="{version}"', 1), encoding="utf-8"
    )
    assert re.search(message, refusal(path))


def test_damaged_graphs_give_one_line(tmp_path: Path) -> None:
    path = classifier(tmp_path)
    good, rng = path.read_bytes(), np.random.default_rng(5)
    for _ in range(4):
        bad = bytearray(good)
        for place in rng.integers(100, len(bad), 20):
            bad[place] = rng.integers(32, 127)
        path.write_bytes(bytes(bad))
        with contextlib.suppress(SourceError):  # any other error, or a crash, fails the test
            load_source(Request(path))


def test_arch_is_refused(tmp_path: Path) -> None:
    assert "OpenVINO IR holds its own network" in refusal(classifier(tmp_path), RequestError, arch="resnet50")


def test_time_and_crashes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = classifier(tmp_path)
    monkeypatch.setattr(parent, "subprocess", subprocess)  # Python itself, not a fork of it
    assert load_source(Request(path)).proto.graph.node
    monkeypatch.setattr(parent, "_SECONDS", 0.01)
    assert "took more than" in refusal(path)
    monkeypatch.setattr(parent, "_SECONDS", 1800)
    monkeypatch.setattr(parent, "_READING", 1)
    for name, value in (("PYTHONPYCACHEPREFIX", str(tmp_path / "none")), ("PYTHONDONTWRITEBYTECODE", "1")):
        monkeypatch.setenv(name, value)  # a process that compiles all that it imports takes more
    assert "needs more than 1 s of processor time, far more than for a network of its size; stopped" in refusal(path)
    monkeypatch.setattr(parent, "_READING", 60)
    monkeypatch.setattr(parent, "_ROOM", (100 << 20) - (1 << 31))  # 100 MB of addresses: OpenVINO does not fit
    assert re.search(r"needs more memory|reader failed|was ended by", refusal(path))


def test_open_size(tmp_path: Path) -> None:
    def build(shape: list[int]) -> Path:
        x = o.parameter(shape, np.float32, name="x")
        y = o.convolution(x, c(np.ones((4, 3, 3, 3), np.float32)), [2, 2], [0, 0], [0, 0], [1, 1], "same_upper")
        return saved_model(tmp_path, o.reshape(o.reduce_mean(o.relu(y), ints(2, 3), True), ints(0, -1), True), x)

    assert "give the image's size with --input-shape C,H,W" in refusal(build([-1, 3, -1, -1]))
    network = load_source(Request(build([-1, 3, -1, -1]), input_shape=(3, 9, 11)))
    dims = network.proto.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims][1:] == [3, 9, 11]


def test_a_fixed_batch_of_several(tmp_path: Path) -> None:
    """OpenVINO runs each image as often; the bundle takes one."""

    def four(model: Any) -> Any:
        model.reshape([4, *list(model.inputs[0].get_partial_shape())[1:]])
        return model

    done = exported(classifier(tmp_path, before=four))
    assert done.batch_was_fixed
    assert done.verified.framework is not None
    assert done.verified.framework < 1e-4


def test_real_files(shared_data: Path) -> None:
    """The same network as ONNX and as IR."""
    [path] = (shared_data / "weights" / "openvino_ir").glob("*.xml")
    network = load_source(Request(path))
    assert network.reference is not None
    session = runtimes.onnxruntime().InferenceSession(network.proto.SerializeToString())
    x = np.random.default_rng(0).normal(size=(3, 3, 224, 224)).astype(np.float32)
    [want] = network.reference(x).values()
    [got] = session.run(None, {"input": x})
    assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()


def test_a_real_int8_network(shared_data: Path, tmp_path: Path) -> None:
    """Its output has few steps, in which OpenVINO and ONNX Runtime differ; the translation computes what the source does."""
    source = shared_data / "weights" / "mobilenet_v1_0.25_128_int8qdq_tf2onnx.onnx"
    ov.save_model(ov.convert_model(source), tmp_path / "net.xml")
    done = exported(tmp_path / "net.xml", roles=("gradient",))
    assert "gradient" in done.manifest.graphs
    network = load_source(Request(tmp_path / "net.xml"))
    x = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3)).astype(np.uint8)
    options = runtimes.onnxruntime().SessionOptions()
    options.graph_optimization_level = runtimes.onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    results = []
    for model in (source.read_bytes(), network.proto.SerializeToString()):
        session = runtimes.onnxruntime().InferenceSession(model, options)
        results.append(session.run(None, {session.get_inputs()[0].name: x})[0])
    np.testing.assert_array_equal(*results)
