"""To opset 18 and back: the numbers stay, the module paths stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from xai_exporters.errors import GraphError
from xai_exporters.passes.opset import to_common_opset

from .. import nets
from .. import onnx_nets as o
from ..checks import close, onnxruntime, reference
from ..running import dynamo_onnx

IMAGES = np.random.default_rng(3).standard_normal((2, *nets.SHAPE)).astype(np.float32)


def opset(model: onnx.ModelProto) -> int:
    return int(model.opset_import[0].version)


@pytest.mark.parametrize("version", [8, 9, 11, 13, 16, 17, 18, 19, 20, 21, 22])
def test_numbers_stay(version: int) -> None:
    b = o.Build(version)
    x = b("Softmax", b.linear(b.pooled(b.features())), axis=1, out="out")
    model = b.model(x)
    before = model.SerializeToString()
    got = to_common_opset(model)
    assert model.SerializeToString() == before
    assert opset(got) == 18
    images = {"image": IMAGES}
    close(reference(got, images)["out"], onnxruntime(before, images)["out"], 1e-6)


@pytest.mark.parametrize(("version", "axes"), [(11, "attribute"), (17, "attribute"), (18, "input")])
def test_axes_become_an_input(version: int, axes: str) -> None:
    b = o.Build(version)
    if axes == "attribute":
        b("ReduceMean", "image", axes=[1, 2], keepdims=0, out="out")
    else:
        b("ReduceMean", "image", b.weight([1, 2]), keepdims=0, out="out")
    got = to_common_opset(b.model("out"))
    close(reference(got, {"image": IMAGES})["out"], IMAGES.mean((1, 2)))


@pytest.mark.parametrize("version", [20, 21])
def test_an_operator_without_an_older_form_keeps_the_opset(version: int) -> None:
    b = o.Build(version)
    b("Gelu", "image", out="out")
    model = b.model("out", ranks={"out": (o.FLOAT, ("n", *nets.SHAPE))})
    assert to_common_opset(model) is model


def test_opset_18_is_returned_as_it_is() -> None:
    model = o.classifier()
    assert to_common_opset(model) is model


def test_an_old_operator_that_can_not_be_converted() -> None:
    b = o.Build(8)
    b("Upsample", "image", b.weight(np.array([1, 1, 2, 2], np.float32)), mode="nearest", out="out")
    model = b.model("out")
    with pytest.raises(GraphError, match="the model has opset 8, and ONNX's converter can't bring it to 18 "):
        to_common_opset(model)


def test_module_paths_are_carried_over(tmp_path: Path) -> None:
    model = dynamo_onnx(nets.randomise(nets.Residual()), tmp_path, opset=20)
    assert opset(model) == 20
    got = to_common_opset(model)
    assert opset(got) == 18
    before = {n.output[0]: sorted(str(p) for p in n.metadata_props) for n in model.graph.node}
    after = {n.output[0]: sorted(str(p) for p in n.metadata_props) for n in got.graph.node}
    assert any(before.values())
    assert after == before


OLD = {  # opset, operator, mode, factors
    "Upsample 7, linear": (7, "Upsample", "linear", (2, 3)),
    "Upsample 9, linear": (9, "Upsample", "linear", (2, 1.5)),
    "Upsample 9, nearest": (9, "Upsample", "nearest", (2.5, 1.3)),
    "Resize 10, linear": (10, "Resize", "linear", (0.6, 1.7)),
    "Resize 10, nearest": (10, "Resize", "nearest", (1.7, 2.2)),
    "Resize 10, nearest, smaller": (10, "Resize", "nearest", (0.7, 0.55)),
}


def resized(version: int, op: str, mode: str, factors: tuple[float, float]) -> onnx.ModelProto:
    b = o.Build(version)
    scales = [1.0, 1.0, *map(float, factors)]
    if version < 9:
        b(op, "image", mode=mode, scales=scales, out="out", name="resized")
    else:
        b(op, "image", b.weight(np.array(scales, np.float32)), mode=mode, out="out", name="resized")
    return b.model("out", ranks={"out": (o.FLOAT, ("n", 3, "h", "w"))})


@pytest.mark.parametrize("name", OLD)
def test_old_places_of_pixels_stay(name: str) -> None:
    """Before opset 11 pixel p of a result lies at p / scale; ONNX's converter moves it by half a pixel."""
    model = resized(*OLD[name])
    got = to_common_opset(model)
    images = {"image": IMAGES}
    close(onnxruntime(got.SerializeToString(), images)["out"], onnxruntime(model.SerializeToString(), images)["out"])


def test_whole_factors_get_no_attribute() -> None:
    """The nearest pixel is the same in both forms, so the bytes stay."""
    node = to_common_opset(resized(9, "Upsample", "nearest", (2, 3))).graph.node[-1]
    assert [a.name for a in node.attribute] == ["mode"]


def test_a_shrunk_and_a_stretched_axis_are_refused() -> None:
    with pytest.raises(
        GraphError, match=r"^node .* shrinks one axis and stretches another, in the form of an opset before 11; exp"
    ):
        to_common_opset(resized(10, "Resize", "nearest", (0.5, 2)))


@pytest.mark.parametrize(
    ("op", "axis", "nodes"),
    [(op, *case) for op in ("Softmax", "LogSoftmax") for case in ((3, 1), (-1, 1), (1, 3), (2, 3))]
    + [("Hardmax", 3, 1)],
)
def test_a_softmax_of_one_axis_stays_one_node(op: str, axis: int, nodes: int) -> None:
    """Before opset 13 it is of all axes from `axis` on, together; ONNX's converter flattens them, the last one alone, too."""
    b = o.Build(9)
    b(op, b("Relu", "image"), axis=axis, out="out")
    model = b.model("out", ranks={"out": (o.FLOAT, ("n", *nets.SHAPE))})
    got = to_common_opset(model)
    found = [node.op_type for node in got.graph.node if node.op_type in (op, "Flatten", "Reshape")]
    assert len(found) == nodes
    together = IMAGES.shape[axis:] if axis > 0 else IMAGES.shape[-1:]
    x = np.maximum(IMAGES.astype(np.float64), 0).reshape(-1, int(np.prod(together)))
    shares = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    one = np.eye(x.shape[1])[x.argmax(1)]
    want = {"Softmax": shares, "LogSoftmax": np.log(shares), "Hardmax": one}[op].reshape(IMAGES.shape)
    close(reference(got, {"image": IMAGES})["out"], want, 1e-5)
    close(onnxruntime(got.SerializeToString(), {"image": IMAGES})["out"], want, 1e-5)


def test_a_hardmax_of_several_axes_is_refused() -> None:
    """ONNX's converter leaves its axis as it is, and it would be of that axis alone."""
    b = o.Build(9)
    model = b.model(b("Hardmax", "image", axis=1, out="out", name="hard"))
    with pytest.raises(
        GraphError, match="node 'hard' is Hardmax of several axes together, in the form of an opset before 13"
    ):
        to_common_opset(model)
