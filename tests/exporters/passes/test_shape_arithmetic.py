"""Shape arithmetic becomes arithmetic on the batch, with the same numbers at every batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx import ModelProto
from xai_exporters.graph.measure import measure
from xai_exporters.passes.shape_arithmetic import reduce_shape_arithmetic

from .. import nets
from .. import onnx_nets as o
from ..checks import close, reference


def expand_by_shape() -> ModelProto:
    """A weight expanded to the batch: the shape can't be one constant."""
    b = o.Build()
    size = b("Gather", b("Shape", b.features()), b.weight([0]), axis=0)
    more = b("Expand", b.draw(1, 4), b("Concat", size, b.weight([4]), axis=0))
    mean = b("Flatten", b("ReduceMean", "image", b.weight([1, 2, 3])))
    return b.model(b("Mul", more, mean, out="scores"))


def folded_batch() -> ModelProto:
    """[N,3,H,W] -> [3N,H*W] and back by Shape: a dimension that is three times the batch."""
    b = o.Build()
    shape = b("Shape", "image")
    rows = b("Mul", b("Slice", shape, b.weight([0]), b.weight([1])), b("Slice", shape, b.weight([1]), b.weight([2])))
    x = b("Reshape", "image", b("Concat", rows, b.weight([320]), axis=0))
    x = b("ReduceMean", x, b.weight([1]), keepdims=0)
    back = b("Concat", b("Div", b("Shape", x), b.weight([3])), b.weight([3]), axis=0)
    return b.model(b("Reshape", x, back, out="scores"))


def constant_shape() -> ModelProto:
    """Height over width, from Shape: the same at every batch."""
    b = o.Build()
    size = b("Cast", b("Shape", "image", start=2, end=4), to=o.FLOAT)
    mean = b("ReduceMean", "image", b.weight([2, 3]), keepdims=0)
    return b.model(b("Div", mean, b("ReduceMean", size, b.weight([0]), keepdims=1), out="scores"))


def shape_of_a_shape() -> ModelProto:
    """As many ones as the image has dimensions, by Shape(Shape(x)); transformers' Deformable DETR asks so for a mask."""
    b = o.Build()
    shape = b("Shape", b.features())
    ones = b("Expand", b.weight([1]), b("Shape", shape))
    mean = b("Flatten", b("ReduceMean", "image", b.weight([1, 2, 3])))
    size = b("ReduceSum", b("Cast", b("Mul", shape, ones), to=o.FLOAT), b.weight([0]))
    return b.model(b("Mul", mean, size, out="scores"))


MODELS: list[Callable[[], ModelProto]] = [
    o.shape_flatten,
    expand_by_shape,
    folded_batch,
    constant_shape,
    shape_of_a_shape,
]


@pytest.mark.parametrize("build", MODELS)
def test_numbers_stay_and_one_shape_is_left(build: Callable[[], ModelProto]) -> None:
    source = build()
    model = ir.from_proto(source)
    reduce_shape_arithmetic(model, measure(model))
    got = ir.to_proto(model)
    left = [n for n in got.graph.node if n.op_type == "Shape"]
    assert [(list(n.input), {a.name: a.i for a in n.attribute}) for n in left] in (
        [],
        [(["image"], {"start": 0, "end": 1})],
    )
    for batch in (1, 2, 3, 5):
        images = {"image": np.random.default_rng(batch).standard_normal((batch, *nets.SHAPE)).astype(np.float32)}
        close(reference(got, images)["scores"], reference(source, images)["scores"], 1e-6)


def test_a_reshape_gets_a_constant() -> None:
    model = ir.from_proto(o.shape_flatten())
    reduce_shape_arithmetic(model, measure(model))
    [reshape] = [n for n in model.graph if n.op_type == "Reshape"]
    shape = ir.convenience.get_const_tensor(reshape.inputs[1]) if reshape.inputs[1] else None
    assert shape is not None
    assert shape.numpy().tolist() == [-1, o.CHANNELS]
