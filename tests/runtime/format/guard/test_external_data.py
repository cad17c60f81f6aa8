"""Graphs that would make a runtime read files outside the bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from xai_deploy import Bundle, Explainer
from xai_deploy.errors import BundleError, IntegrityError, UnsafePathError
from xai_deploy.format.guard import check_graph, check_self_contained

from ... import tiny


def external(location: bool = True, data: bool = True) -> onnx.TensorProto:
    """A tensor whose data lie in another file, said in either way or both."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    if location:
        tensor.data_location = TensorProto.EXTERNAL
    if data:
        tensor.external_data.add(key="location", value="../../etc/secret")
    return tensor


def model() -> onnx.ModelProto:
    proto = onnx.ModelProto(ir_version=10)
    proto.graph.name = "g"
    proto.graph.node.add(op_type="Relu", input=["x"], output=["y"])
    proto.opset_import.add(version=18)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4]))
    return proto


def node(proto: onnx.ModelProto) -> onnx.NodeProto:
    first: onnx.NodeProto = proto.graph.node[0]
    return first


def in_subgraph(proto: onnx.ModelProto) -> None:
    inner = node(proto).attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g
    for _ in range(50):
        inner = inner.node.add(op_type="If").attribute.add(name="body", type=onnx.AttributeProto.GRAPHS).graphs.add()
    inner.initializer.append(external())


PLACES: dict[str, Callable[[onnx.ModelProto], object]] = {
    "initializer": lambda m: m.graph.initializer.append(external()),
    "location alone": lambda m: m.graph.initializer.append(external(data=False)),
    "data alone": lambda m: m.graph.initializer.append(external(location=False)),
    "attribute": lambda m: node(m).attribute.add(name="value").t.CopyFrom(external()),
    "attributes": lambda m: node(m).attribute.add(name="values").tensors.append(external()),
    "sparse values": lambda m: m.graph.sparse_initializer.add().values.CopyFrom(external()),
    "sparse indices": lambda m: m.graph.sparse_initializer.add().indices.CopyFrom(external()),
    "sparse attribute": lambda m: node(m).attribute.add(name="s").sparse_tensor.values.CopyFrom(external()),
    "sparse attributes": lambda m: node(m).attribute.add(name="s").sparse_tensors.add().values.CopyFrom(external()),
    "function": lambda m: m.functions.add().node.add().attribute.add(name="v").t.CopyFrom(external()),
    "function's default": lambda m: m.functions.add().attribute_proto.add(name="v").t.CopyFrom(external()),
    "training": lambda m: m.training_info.add().algorithm.initializer.append(external()),
    "subgraph": in_subgraph,
}


@pytest.mark.parametrize("place", PLACES)
def test_external_data(place: str) -> None:
    """In a bundle, most of these places are refused whatever they hold. A model of one's own may have them."""
    proto = model()
    check_graph(proto.SerializeToString(), "head.onnx")
    check_self_contained(proto.SerializeToString(), "net.onnx")
    PLACES[place](proto)
    with pytest.raises(UnsafePathError, match=r"^net\.onnx: a tensor's data lie in another file"):
        check_self_contained(proto.SerializeToString(), "net.onnx")
    allowed = place in ("initializer", "location alone", "data alone", "attribute")
    told = "a tensor's data lie in another file" if allowed else ""
    with pytest.raises(UnsafePathError if allowed else BundleError, match=rf"^head\.onnx: {told}"):
        check_graph(proto.SerializeToString(), "head.onnx")


def test_second_graph_field() -> None:
    """Protobuf merges a field that occurs twice."""
    proto = model()
    proto.graph.initializer.append(external())
    twice = model().SerializeToString() + proto.SerializeToString()
    with pytest.raises(UnsafePathError):
        check_self_contained(twice, "x")
    with pytest.raises(IntegrityError):
        check_graph(twice, "x")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_bundle_that_points_outside(tmp_path: Path, backend: str) -> None:
    """A crafted bundle, hashes and all: what lies outside is not read."""
    np.zeros(tiny.CLASSES, np.float32).tofile(tmp_path / "secret")
    net = tiny.write(tmp_path / "good.xai")
    proto = onnx.load(net.path / "tail.onnx")
    bias = next(tensor for tensor in proto.graph.initializer if tensor.name == "bias")
    bias.ClearField("raw_data")
    bias.data_location = TensorProto.EXTERNAL
    bias.external_data.add(key="location", value="../secret")
    evil = tiny.write(tmp_path / "evil.xai", extra={"tail.onnx": proto.SerializeToString()})
    explainer = Explainer(evil.path, backend)
    with pytest.raises(UnsafePathError, match=r"evil\.xai.tail\.onnx: a tensor's data lie in another file"):
        explainer.predict(tiny.inputs("pooled", 1))


GOOD = model().SerializeToString()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<?xml version='1.0'?><net/>",
        GOOD[:-1],
        GOOD + b"\xff",
        GOOD + b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        GOOD + b"\x3b",
        GOOD + b"\x02\x00",
        b"\x08\x0a",
        GOOD[:4] + b"ORTM" + GOOD[4:],
    ],
)
def test_no_onnx_graph(data: bytes) -> None:
    for check in (check_graph, check_self_contained):
        with pytest.raises(IntegrityError, match=r"^x: is not an ONNX graph; export the network again$"):
            check(data, "x")


@pytest.mark.parametrize("kind", ["pooled", "residual", "nhwc", "uint8"])
def test_good_bundles_pass(kind: tiny.Kind, tmp_path: Path) -> None:
    opened = Bundle.open(tiny.write(tmp_path / "good.xai", kind, gradients=True).path)
    assert all(opened.graph(role) for role in opened.manifest.graphs)
