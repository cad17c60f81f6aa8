"""The way from a source's graph to one that can be cut, and what can't go it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from xai_exporters.errors import GraphError, RequestError
from xai_exporters.passes.clean import clean

from .. import nets
from .. import onnx_nets as o
from ..checks import check_bundle, close, reference, source_reference
from ..running import export_onnx

IMAGES = np.random.default_rng(3).standard_normal((3, *nets.SHAPE)).astype(np.float32)


@pytest.mark.parametrize(
    "build", [o.classifier, o.residual, o.shape_flatten, o.with_function, o.initializers_as_inputs, o.channels_last]
)
def test_numbers_stay(build: object) -> None:
    assert callable(build)
    source: onnx.ModelProto = build()
    before = [(n.op_type, list(n.input), list(n.output)) for n in source.graph.node]
    cleaned = clean(source, None)
    assert [(n.op_type, list(n.input), list(n.output)) for n in source.graph.node] == before
    [(_, got)] = reference(ir.to_proto(cleaned.model), {"image": IMAGES}).items()
    [(_, want)] = source_reference(source)(IMAGES).items()
    close(got, want, 1e-6)
    assert cleaned.image_shape == nets.SHAPE
    assert not any(n.op_type in ("Constant", "Identity") for n in cleaned.graph)
    assert all(n.name for n in cleaned.graph)


def test_class_token_of_a_fixed_batch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A constant that is joined to one image's patches is joined to those of every image."""
    done = export_onnx(tmp_path, o.class_token())
    assert done.batch_was_fixed
    check_bundle(done.path, source_reference(o.class_token()))
    assert capfd.readouterr().err == ""


def test_sum_over_a_fixed_batch_of_one(tmp_path: Path) -> None:
    """A sum over the first axis, exported at batch 1, is of one image at any batch."""
    b = o.Build()
    layer = b.features()
    x = b("Add", layer, b("ReduceSum", layer, b.weight([0]), keepdims=1))
    model = b.model(b.linear(b.pooled(b("Tanh", x, name="tanh")), out="scores"), shape=(1, *nets.SHAPE))
    check_bundle(export_onnx(tmp_path, model, split="tanh").path, source_reference(model))


def test_network_that_does_not_run(tmp_path: Path) -> None:
    b = o.Build()
    x = b("Gemm", b("Flatten", b.features()), b.draw(7, 5), out="scores")
    with pytest.raises(GraphError, match=r"ONNX Runtime can't (run|open) the network"):
        export_onnx(tmp_path, b.model(x))


def test_operator_unknown_to_the_runtime(tmp_path: Path) -> None:
    b = o.Build()
    x = b("Conv", b.features(), b.draw(6, 6, 1, 1), name="conv", auto_pad="NOTSET", dilations=[0, 0])
    with pytest.raises(GraphError, match=r"the network is not run, .*has windows that do not fit its input"):
        export_onnx(tmp_path, b.model(b.linear(b.pooled(x), out="scores")))


def test_an_output_given_twice(tmp_path: Path) -> None:
    """Identity elimination must not lose an output's name."""
    b = o.Build()
    scores = b.linear(b.pooled(b.features()), out="scores")
    model = b.model(scores, b("Identity", scores, out="again"))
    done = export_onnx(tmp_path, model, output="again")
    assert {x.name for x in done.manifest.outputs} == {"scores", "again"}
    check_bundle(done.path, source_reference(model))


def test_no_inputs(tmp_path: Path) -> None:
    b = o.Build()
    model = b.model(b("Identity", b.draw(1, 5), out="scores"))
    del model.graph.input[:]
    with pytest.raises(GraphError, match=r"the network has 0 inputs \(none\)"):
        export_onnx(tmp_path, model)


def test_sizes_of_negative_or_no_dimensions(tmp_path: Path) -> None:
    model = o.classifier(shape=("N", 3, -1, 0))
    with pytest.raises(RequestError, match="--input-shape C,H,W"):
        export_onnx(tmp_path, model)


def test_an_unknown_size_is_a_question_mark(tmp_path: Path) -> None:
    model = o.classifier(shape=("N", 3, None, "width"))
    with pytest.raises(RequestError, match=r"the input 'image' has shape \[N,3,\?,width\]; give the image's size"):
        export_onnx(tmp_path, model)


def test_what_a_pass_raises_on_a_damaged_graph() -> None:
    """A product of two weights, which is folded, and of which one is shorter than its shape says."""
    b = o.Build()
    weight = b("MatMul", b.draw(o.CHANNELS, 7), b.draw(7, 5), out="folded")
    model = b.model(b("MatMul", b.pooled(b.features()), weight, out="scores"))
    tensor = next(t for t in model.graph.initializer if list(t.dims) == [7, 5])
    tensor.dims[0] = 8
    with pytest.raises(GraphError, match=r"the graph can't be brought into a common form \(ValueError: cannot reshape"):
        clean(model, None)


def test_no_output(tmp_path: Path) -> None:
    model = o.classifier()
    del model.graph.output[:]
    with pytest.raises(GraphError, match="the network has no output"):
        export_onnx(tmp_path, model)
