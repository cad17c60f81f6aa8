"""Graphs that runtimes crash on, hang on, or should not be asked to run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from xai_deploy.errors import IntegrityError, UnsafeGraphError
from xai_deploy.format.guard import check_graph, messages

from .graphs import IMAGE, floats, ints, model, n


def changed(change: Callable[[onnx.ModelProto], object], proto: onnx.ModelProto | None = None) -> onnx.ModelProto:
    proto = proto or model([n("Relu", "x")])
    change(proto)
    return proto


def function(proto: onnx.ModelProto) -> None:
    proto.functions.add(name="F", domain="own")


def second_domain(proto: onnx.ModelProto) -> None:
    proto.opset_import.add(domain="com.microsoft", version=1)


def body() -> onnx.GraphProto:
    true = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    return helper.make_graph([n("Identity", "c", "d")], "b", [true], [true])


def tensor(change: Callable[[onnx.TensorProto], object]) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        proto = model([n("Add", "x w")], {"w": floats(1, 2, 3, 4)})
        change(proto.graph.initializer[0])
        return proto

    return make


def typed(values: int) -> Callable[[onnx.TensorProto], None]:
    def change(proto: onnx.TensorProto) -> None:
        proto.ClearField("raw_data")
        proto.float_data.extend([1.0] * values)

    return change


def set_dims(*dims: int) -> Callable[[onnx.TensorProto], None]:
    def change(proto: onnx.TensorProto) -> None:
        del proto.dims[:]
        proto.dims.extend(dims)

    return change


def int4(proto: onnx.TensorProto) -> None:
    proto.data_type = TensorProto.INT4
    set_dims(40)(proto)


FAULTS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "functions": (lambda: changed(function), "it holds functions"),
    "two domains": (lambda: changed(second_domain), "it imports 'ai.onnx' 18, 'com.microsoft' 1"),
    "no opset": (lambda: changed(lambda m: m.ClearField("opset_import")), "it imports none"),
    "opset 6": (lambda: model([n("Relu", "x")], opset=6), "its opset is 6"),
    "opset 99": (lambda: model([n("Relu", "x")], opset=99), "its opset is 99"),
    "private operator": (
        lambda: model([n("Attention", "x", domain="com.microsoft")]),
        r"node 'y' \('Attention'\) is of the domain 'com.microsoft'",
    ),
    "unknown operator": (lambda: model([n("Nothing", "x")]), r"node 'y' \('Nothing'\) is no operator"),
    "newer operator": (lambda: model([n("Gelu", "x")], opset=18), "is no operator .* at opset 18"),
    "older operator": (lambda: model([n("Upsample", "x s")], {"s": floats(1, 1, 2, 2)}), "is no operator .* at opset 18"),
    "Loop": (lambda: model([n("Loop", "m c x", body=body())], {"m": np.int64(1), "c": np.array(True)}), "holds a graph"),
    "Loop without a body": (lambda: model([n("Loop", "m _ x")], {"m": np.int64(1)}), "is no operator"),
    "random numbers": (lambda: model([n("RandomNormalLike", "x")]), "is no operator"),
    "sequences": (lambda: model([n("SequenceConstruct", "x x")]), "is no operator"),
    "training": (lambda: changed(lambda m: m.training_info.add()), "it holds a training graph"),
    "sparse": (lambda: changed(lambda m: m.graph.sparse_initializer.add()), "it holds a sparse tensor"),
    "cycle": (lambda: model([n("Add", "x b", "a"), n("Relu", "a", "b"), n("Relu", "b")]), "reads 'b', which no node"),
    "itself": (lambda: model([n("Add", "x y")]), "reads 'y', which no node before it computes"),
    "wrong order": (lambda: model([n("Relu", "a"), n("Relu", "x", "a")]), "reads 'a', which no node before it computes"),
    "a name twice": (lambda: model([n("Relu", "x", "a"), n("Abs", "x", "a"), n("Relu", "a")]), "the name 'a' twice"),
    "output over input": (lambda: model([n("Relu", "x", "x"), n("Relu", "x")]), "the name 'x' twice"),
    "too few inputs": (lambda: model([n("Conv", "x")]), "has 1 input; it takes 2 to 3"),
    "left out": (lambda: model([n("Conv", "x _ w")], {"w": floats(1)}), "leaves out one of the 2 inputs that it needs"),
    "too many inputs": (lambda: model([n("Relu", "x x")]), "has 2 inputs; it takes 1$"),
    "none of many inputs": (lambda: model([n("Sum", "")]), "has 0 inputs; it takes 1 or more"),
    "too many outputs": (lambda: model([n("Relu", "x", "y z")]), "has 2 outputs; it gives 1$"),
    "no output": (lambda: changed(lambda m: m.graph.ClearField("output")), "it has no output"),
    "no input": (lambda: changed(lambda m: m.graph.ClearField("input")), "it has no input"),
    "output from nowhere": (lambda: model([n("Relu", "x", "z")]), "no node computes its output 'y'"),
    "attribute twice": (
        lambda: changed(lambda m: m.graph.node[0].attribute.extend([helper.make_attribute("a", 1)] * 2)),
        "the attribute 'a' twice",
    ),
    "attribute of another type": (
        lambda: changed(lambda m: m.graph.node[0].attribute.add(name="a", i=1, type=onnx.AttributeProto.FLOAT)),
        "the attribute 'a' of a node is not of the type that it says",
    ),
    "attribute of a function": (
        lambda: changed(lambda m: m.graph.node[0].attribute.add(name="a", ref_attr_name="b", type=2)),
        "refers to a function's",
    ),
    "too few bytes": (
        tensor(lambda t: setattr(t, "raw_data", t.raw_data[:-1])),
        r"the tensor 'w' of sizes \[4\] holds 15 bytes instead of 16",
    ),
    "too many bytes": (tensor(lambda t: setattr(t, "raw_data", t.raw_data * 2)), "holds 32 bytes instead of 16"),
    "no bytes": (tensor(lambda t: t.ClearField("raw_data")), r"holds 0 elements instead of 4"),
    "too few numbers": (tensor(typed(3)), "holds 3 elements instead of 4"),
    "too many numbers": (tensor(typed(5)), "holds 5 elements instead of 4"),
    "both kinds": (tensor(lambda t: t.float_data.extend([1.0] * 4)), "holds its data twice, as bytes and as numbers"),
    "larger sizes": (tensor(set_dims(1 << 20)), "holds 16 bytes instead of 4194304"),
    "negative size": (tensor(set_dims(-4)), r"impossible sizes \[-4\]"),
    "two negative sizes": (tensor(set_dims(-2, -2)), r"impossible sizes \[-2, -2\]"),
    "overflow": (tensor(set_dims(1 << 32, 1 << 32)), "impossible sizes"),
    "overflow to four": (tensor(set_dims(4, (1 << 62) + 1)), "impossible sizes"),
    "strings": (tensor(lambda t: setattr(t, "data_type", TensorProto.STRING)), "data type 8"),
    "no type": (tensor(lambda t: setattr(t, "data_type", 0)), "data type 0"),
    "unknown type": (tensor(lambda t: setattr(t, "data_type", 99)), "data type 99"),
    "int4 too short": (
        tensor(int4),
        "holds 16 bytes instead of 20",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(fault: str) -> None:
    make, told = FAULTS[fault]
    with pytest.raises(UnsafeGraphError, match=rf"^x\.onnx: .*{told}") as refused:
        check_graph(make().SerializeToString(), "x.onnx", IMAGE)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_names_of_strangers_are_short_and_quoted() -> None:
    proto = model([n("Relu", "a\n" + "b" * 10_000)])
    with pytest.raises(UnsafeGraphError) as refused:
        check_graph(proto.SerializeToString(), "x.onnx", IMAGE)
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "bool"],
)
def test_every_way_to_hold_numbers(name: str) -> None:
    """Raw or in fields of their own: both pass, and their values decide the same sizes."""
    values = np.array([1, 2, 3]).astype(name)
    code = helper.np_dtype_to_tensor_dtype(values.dtype)
    for proto in (
        helper.make_tensor("c", code, [3], values.tobytes(), raw=True),
        helper.make_tensor("c", code, [3], values),
    ):
        total = n("ReduceSum", "t", "s"), n("Add", "x s")
        nodes = [n("Cast", "c", "i", to=TensorProto.INT64), n("Tile", "v i", "t"), *total]
        graph = model(nodes, {"v": np.ones((1, 1, 1), np.float32)})
        graph.graph.initializer.append(proto)
        check_graph(graph.SerializeToString(), "x", IMAGE)


def test_ranks_are_bounded() -> None:
    shape = ints(*[1] * 17)
    with pytest.raises(UnsafeGraphError, match="more than 16 axes"):
        check_graph(model([n("Expand", "x c", "e"), n("ReduceSum", "e")], {"c": shape}).SerializeToString(), "x", IMAGE)


def test_many_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MOST", 10)
    for count in (10, 11):
        nodes = [n("Relu", "x", f"r{i}") for i in range(count - 1)]
        data = model([*nodes, n("Relu", "x")]).SerializeToString()
        if count == 10:
            check_graph(data, "x.onnx", IMAGE)
        else:
            with pytest.raises(UnsafeGraphError, match="it has more than 10 nodes or tensors"):
                check_graph(data, "x.onnx", IMAGE)


@pytest.mark.parametrize("field", [1, 5, 11, 12, 15])
def test_numbers_in_the_place_of_messages(field: int) -> None:
    """A node, tensor, input or output that is a number 0: an empty message to who ignores the wire type."""
    graph = model([n("Relu", "x")]).graph.SerializeToString() + bytes([field << 3, 0])
    opset = helper.make_opsetid("", 18).SerializeToString()
    data = b"\x3a" + bytes([len(graph)]) + graph + b"\x42" + bytes([len(opset)]) + opset
    assert len(graph) < 128
    with pytest.raises(IntegrityError, match="is not an ONNX graph"):
        check_graph(data, "x.onnx", IMAGE)
