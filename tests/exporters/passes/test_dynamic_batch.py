"""A fixed batch becomes symbolic: at any batch the numbers are those of single images."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import ModelProto
from xai_exporters.passes.dynamic_batch import make_batch_dynamic

from .. import nets
from .. import onnx_nets as o
from ..checks import close, reference

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


def test_only_shapes_that_start_with_the_batch_change() -> None:
    b = o.Build()
    x = b("Reshape", "image", b.weight([3, 1, 16, 20]))
    x = b("Reshape", x, b.weight([-1]))
    b("Reshape", x, b.weight([1, 960]), out="out")
    _, got = passed(b.model("out", shape=(1, *nets.SHAPE)))
    shapes = {t.name: ir.from_proto(t).numpy().tolist() for t in got.graph.initializer}
    assert [shapes[n.input[1]] for n in got.graph.node] == [[3, 1, 16, 20], [-1], [-1, 960]]
