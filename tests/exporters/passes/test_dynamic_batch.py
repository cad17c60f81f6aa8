"""A fixed batch becomes symbolic: at any batch the numbers are those of single images."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import ModelProto
from xai_exporters.graph.reading import constant_of
from xai_exporters.passes.clean import clean
from xai_exporters.passes.dynamic_batch import make_batch_dynamic
from xai_exporters.vjp.graph import gradient_graph

from .. import nets
from .. import onnx_nets as o
from ..checks import close, onnxruntime, reference

IMAGES = np.random.default_rng(3).standard_normal((4, *nets.SHAPE)).astype(np.float32)


def passed(model: ModelProto) -> tuple[bool, ModelProto]:
    held = ir.from_proto(model)
    was_fixed = make_batch_dynamic(held)
    for value in held.graph.outputs:
        value.shape = None
    return was_fixed, ir.to_proto(held)


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("how", ["Reshape", "Reshape with -1", "Flatten"])
def test_fixed(batch: int, how: str) -> None:
    source = o.folded_by_batch(batch, flatten=how == "Flatten", infer=how == "Reshape with -1")
    was_fixed, got = passed(source)
    assert was_fixed
    assert got.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    whole = reference(got, {"image": IMAGES})["scores"]
    close(whole, np.concatenate([reference(got, {"image": IMAGES[i : i + 1]})["scores"] for i in range(4)]), 1e-6)
    close(whole[:batch], reference(source, {"image": IMAGES[:batch]})["scores"], 1e-6)


@pytest.mark.parametrize("model", [o.classifier, o.shape_flatten])
def test_symbolic_is_left_alone(model: object) -> None:
    assert callable(model)
    source = model()
    was_fixed, got = passed(source)
    assert not was_fixed
    assert [(n.op_type, n.input, n.attribute) for n in got.graph.node] == [
        (n.op_type, n.input, n.attribute) for n in source.graph.node
    ]
    close(reference(got, {"image": IMAGES})["scores"], reference(source, {"image": IMAGES})["scores"], 1e-6)


def _windows(b: o.Build) -> str:
    """As Swin folds windows into the batch, and back: [1,3,16,20] -> [4*5,3,4,4], normalised within each window."""
    x = b("Reshape", "image", b.weight([1, 3, 4, 4, 5, 4]))
    x = b("Reshape", b("Transpose", x, perm=[0, 2, 4, 1, 3, 5]), b.weight([20, 3, 4, 4]))
    x = b("Sub", x, b("ReduceMean", x, b.weight([1, 2, 3]), keepdims=1))
    x = b("Transpose", b("Reshape", x, b.weight([1, 4, 5, 3, 4, 4])), perm=[0, 3, 1, 4, 2, 5])
    return b("Reshape", x, b.weight([1, 3, 16, 20]))


def _attention(b: o.Build) -> str:
    """As torch's MultiheadAttention: tokens first, [48,1,20], the heads folded behind the batch, [48,1*4,5]."""
    x = b("Transpose", b("Reshape", "image", b.weight([1, 48, 20])), perm=[1, 0, 2])
    x = b("Reshape", b("MatMul", b("Reshape", x, b.weight([48, 20])), b.draw(20, 20)), b.weight([48, 1, 20]))
    x = b("Transpose", b("Reshape", x, b.weight([48, 4, 5])), perm=[1, 0, 2])
    x = b("MatMul", b("Softmax", b("MatMul", x, b("Transpose", x, perm=[0, 2, 1])), axis=-1), x)
    x = b("Reshape", b("Transpose", x, perm=[1, 0, 2]), b.weight([48, 20]))
    return b("Transpose", b("Reshape", x, b.weight([48, 1, 20])), perm=[1, 0, 2])


def _token(b: o.Build, expanded: bool) -> str:
    token = b.draw(1, 1, 20)
    if expanded:
        token = b("Expand", token, b.weight([1, 2, 20]))
    return b("Concat", token, b("Reshape", "image", b.weight([1, 48, 20])), axis=1)


def _grid(b: o.Build) -> str:
    grid = np.random.default_rng(5).uniform(-1, 1, (1, 6, 7, 2)).astype(np.float32)
    return b("GridSample", "image", b.weight(grid))


REGION = np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 1.1], np.float32)  # begins, then ends
CROPPED: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}

CASES = {
    "Reshape with allowzero": lambda b: b("Reshape", "image", b.weight([1, 3, -1]), allowzero=1),
    "Reshape with allowzero, sizes all said": lambda b: b("Reshape", "image", b.weight([1, 960]), allowzero=1),
    "Reshape that copies": lambda b: b("Reshape", "image", b.weight([1, 0, -1])),
    "Reshape by arithmetic on a shape": lambda b: b(
        "Reshape", "image", b("Concat", b.weight([1]), b("Shape", "image", start=1, end=3), b.weight([4, 5]), axis=0)
    ),
    "class token": lambda b: _token(b, False),
    "class tokens expanded": lambda b: _token(b, True),
    "windows": _windows,
    "attention": _attention,
    "channels folded in": lambda b: b("Reshape", b("Reshape", "image", b.weight([3, 1, 16, 20])), b.weight([1, 960])),
    "flat in between": lambda b: b("Reshape", b("Reshape", "image", b.weight([-1])), b.weight([1, 960])),
    "Flatten from the front": lambda b: b("Flatten", "image", axis=0),
    "Expand": lambda b: b("Expand", b("ReduceMean", "image", b.weight([3]), keepdims=1), b.weight([1, 3, 16, 5])),
    "Resize to sizes": lambda b: b("Resize", "image", "", "", b.weight([1, 3, 24, 30]), mode="linear"),
    "Resize of a region": lambda b: b("Resize", "image", b.weight(REGION), "", b.weight([1, 3, 9, 30]), **CROPPED),
    "Slice": lambda b: b("Slice", "image", b.weight([0, 2]), b.weight([1, 9]), b.weight([0, 2])),
    "Slice of everything": lambda b: b("Slice", "image", b.weight([0]), b.weight([2**63 - 1])),
    "Split in one": lambda b: b("Split", "image", b.weight([1]), axis=0),
    "Gather of the batch": lambda b: b("Gather", "image", b.weight([0]), axis=0),
    "Gather that counts": lambda b: b(
        "Gather", b("Reshape", "image", b.weight([-1])), b.weight(np.arange(960).reshape(1, 3, 320))
    ),
    "mean over a batch of one": lambda b: b("ReduceMean", "image", b.weight([0, 2]), keepdims=1),
    "mean over everything": lambda b: b("ReduceMean", "image", keepdims=1),
    "sum over the batch alone": lambda b: b("ReduceSum", "image", b.weight([0]), keepdims=1),
    "GridSample": _grid,
}


@pytest.mark.parametrize("case", CASES)
def test_cases(case: str) -> None:
    """At batch 4 the numbers are those of four runs of the source, which takes one image."""
    b = o.Build()
    source = b.model(b("Identity", CASES[case](b), out="out"), shape=(1, *nets.SHAPE), ranks={"out": (o.FLOAT, None)})  # type: ignore[dict-item]
    _, got = passed(source)
    bytes_ = source.SerializeToString()
    singles = [onnxruntime(bytes_, {"image": IMAGES[i : i + 1]})["out"] for i in range(4)]
    close(onnxruntime(got.SerializeToString(), {"image": IMAGES})["out"], np.concatenate(singles), 1e-5)


def test_a_region_has_the_axes_that_are_resized() -> None:
    """The gradient reads begin and end of an axis by its place in `axes`. R is linear: <dy, R x> = <R^T dy, x>."""
    b = o.Build()
    scores = b("Flatten", CASES["Resize of a region"](b), out="scores")
    graph = clean(b.model(scores, shape=(1, *nets.SHAPE)), None).graph
    [resize] = [node for node in graph if node.op_type == "Resize"]
    assert [constant_of(resize.inputs[i]).size for i in (1, 3)] == [6, 3]  # type: ignore[union-attr]
    graph.outputs[0].name, graph.outputs[0].shape = "logits", ir.Shape(["N", 810])
    model = ir.to_proto(ir.Model(gradient_graph(graph, 810), ir_version=10)).SerializeToString()
    seed = np.random.default_rng(1).standard_normal((4, 810)).astype(np.float32)
    got = onnxruntime(model, {"image": IMAGES, "seed": seed, "target": np.full(4, -2)})
    np.testing.assert_allclose((got["logits"] * seed).sum(), (got["gradient"] * IMAGES).sum(), 1e-4)
