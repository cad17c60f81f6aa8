"""Cuts of ONNX graphs: side tensors, layouts, names; head and tail together are the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.utils import Extractor
from xai_exporters.errors import LayerError
from xai_exporters.graph.layouts import find_layout, reduced_axes

from .. import nets
from .. import onnx_nets as o
from ..checks import Array, check_bundle, reference, source_reference
from ..running import HEAD_AND_TAIL, export_onnx


def tensor_of(model: onnx.ModelProto, name: str) -> Any:
    """Images -> an intermediate tensor of a source, by the reference evaluator."""
    part = onnx.ModelProto()
    part.CopyFrom(onnx.shape_inference.infer_shapes(model))
    part = Extractor(part).extract_model(["image"], [name])
    return lambda x: reference(part, {"image": x})[name]


@pytest.mark.parametrize(
    ("layer", "tensor", "sides"),
    [
        ("layer1", "/layer1/layer1.0/Add_out", 0),
        ("layer1.0.conv1", "/layer1/layer1.0/conv1/Conv_out", 1),
        ("/layer1/layer1.0/relu/Relu", "/layer1/layer1.0/relu/Relu_out", 1),
        ("/layer1/layer1.0/conv2/Conv_out", "/layer1/layer1.0/conv2/Conv_out", 1),
        ("stem", "/stem/Conv_out", 0),
    ],
)
def test_residual_block(tmp_path: Path, layer: str, tensor: str, sides: int) -> None:
    model = o.residual()
    done = export_onnx(tmp_path, model, split=layer, roles=HEAD_AND_TAIL)
    assert done.manifest.target.tensor == tensor
    assert [side.name for side in done.manifest.side] == [f"side_{i}" for i in range(sides)]
    check_bundle(done.path, source_reference(model), tensor_of(model, tensor))


@pytest.mark.parametrize(("layer", "sides"), [("norm", 0), ("tokens", 0), ("layer", 0)])
def test_channels_last_activation(tmp_path: Path, layer: str, sides: int) -> None:
    model = o.channels_last()
    done = export_onnx(tmp_path, model, split=layer, roles=HEAD_AND_TAIL)
    target = done.manifest.target
    assert (target.shape, target.layout) == ((6, 8, 10), "NCHW" if layer == "layer" else "NHWC")
    assert len(done.manifest.side) == sides
    native = tensor_of(model, f"{layer}_out")

    def channels_first(x: Array) -> Array:
        value: Array = native(x)
        return value if layer == "layer" else value.transpose(0, 3, 1, 2)

    check_bundle(done.path, source_reference(model), channels_first)


def test_output_beside_the_cut_and_image_behind_it(tmp_path: Path) -> None:
    b = o.Build()
    layer = b.features()
    beside = b("Flatten", b("GlobalAveragePool", "image"), out="beside")
    again = b("GlobalAveragePool", b("Relu", b.conv("image", 3, o.CHANNELS)))
    scores = b.linear(b("Flatten", b("Add", b("GlobalAveragePool", layer), again)), out="scores")
    model = b.model(scores, beside)
    done = export_onnx(tmp_path, model, split="layer", output="scores", roles=HEAD_AND_TAIL)
    bundle = check_bundle(done.path, source_reference(model), tensor_of(model, layer))
    assert [side.shape for side in bundle.manifest.side] == [(3,), (6, 1, 1)]
    names = [i.name for i in onnx.load(done.path / "tail.onnx").graph.input]
    assert names == ["activation", "side_0", "side_1"]


@pytest.mark.parametrize("taken", ["activation", "logits", "side_0", "tail/batch", "head/channels_first"])
def test_inner_tensor_of_a_reserved_name(tmp_path: Path, taken: str) -> None:
    b = o.Build()
    x = b("Relu", b.conv("image", 3, 4, strides=[2, 2]), out=taken)
    x = b("Add", b.conv(x, 4, 4, name="layer"), x)
    x = b("Relu", b.conv(x, 4, o.CHANNELS))
    model = b.model(b("Softmax", b.linear(b.pooled(x)), out="out"))
    done = export_onnx(tmp_path, model, split="layer")
    check_bundle(done.path, source_reference(model), tensor_of(model, "layer_out"))


def test_batch_is_taken_from_the_activation(tmp_path: Path) -> None:
    """Behind the cut a constant is expanded to the batch: no side tensor is needed."""
    b = o.Build()
    size = b("Shape", "image", start=0, end=1)
    shape = b("Concat", size, b.weight([o.CHANNELS]), axis=0)
    bias = b("Expand", b.draw(1, o.CHANNELS), shape)
    model = b.model(b.linear(b("Add", b.pooled(b.features()), bias), out="scores"))
    done = export_onnx(tmp_path, model, roles=HEAD_AND_TAIL)
    assert done.manifest.side == ()
    check_bundle(done.path, source_reference(model))


def int_layer() -> onnx.ModelProto:
    b = o.Build()
    codes = b("Cast", b.features(), to=onnx.TensorProto.INT32, name="codes")
    return b.model(b.linear(b.pooled(b("Cast", codes, to=o.FLOAT)), out="scores"))


@pytest.mark.parametrize(
    ("model", "layer", "says"),
    [
        (o.residual, "/layer1/layer1.0/con1/Conv", "no layer .*nearest are '/layer1/layer1.0/conv1/Conv'"),
        (o.residual, "image", "'image' is the network's input; split at an activation after it"),
        (o.residual, "/Flatten", r"has shape \['N', 6\]: a layer to explain gives"),
        (o.residual, "output", r"has shape \['N', 5\]: a layer to explain gives"),
        (
            o.quantised,
            "quantizelinear_3",
            "'quantizelinear_3' holds UINT8, not floats; split after its DequantizeLinear",
        ),
        (int_layer, "codes", "'codes' holds INT32, not floats"),
    ],
)
def test_refused(tmp_path: Path, model: Any, layer: str, says: str) -> None:
    with pytest.raises(LayerError, match=says):
        export_onnx(tmp_path, model(), split=layer)
    assert not (tmp_path / "net.xai").exists()


def test_side_tensor_without_a_batch(tmp_path: Path) -> None:
    b = o.Build()
    mean = b("ReduceMean", "image", b.weight([0, 1, 2, 3]), keepdims=1, name="mean")
    scaled = b("Mul", b.features(), b("Sub", mean, mean), name="scaled")
    model = b.model(b.linear(b.pooled(scaled), out="scores"))
    with pytest.raises(LayerError, match=r"the cut at 'layer' needs .* beside it, whose shape \(1, 1, 1, 1\)"):
        export_onnx(tmp_path, model, split="layer")


def test_auto_refuses_token_networks(tmp_path: Path) -> None:
    b = o.Build()
    x = b("Reshape", b.features(), b.weight([0, o.CHANNELS, 80]))
    attention = b("Softmax", b("MatMul", b("Transpose", x, perm=[0, 2, 1]), x))
    x = b("ReduceMean", b("MatMul", x, attention), b.weight([2]), keepdims=0)
    with pytest.raises(
        LayerError,
        match="no 4-D activation leads straight to the logits, and no tokens of patches; name a layer with --split",
    ):
        export_onnx(tmp_path, b.model(b.linear(x, out="scores")))


@pytest.mark.parametrize(
    ("op", "attributes", "told"),
    [
        ("Conv", {}, "NCHW"),
        ("MaxPool", {"kernel_shape": [2, 2]}, "NCHW"),
        ("Transpose", {"perm": [0, 3, 1, 2]}, "NHWC"),
        ("Transpose", {"perm": [0, 2, 3, 1]}, "NCHW"),
        ("ReduceMean", {"axes": [2, 3]}, "NCHW"),
        ("ReduceMean", {"axes": [-2, -1]}, "NCHW"),
        ("ReduceMean", {"axes": [1, 2]}, "NHWC"),
        ("MatMul", {}, "NHWC"),
        ("LayerNormalization", {}, "NHWC"),
        ("LayerNormalization", {"axis": 1}, None),
        ("Softmax", {}, None),
    ],
)
def test_layout_is_told_by_what_reads_it(op: str, attributes: dict[str, Any], told: str | None) -> None:
    import onnx_ir as ir

    b = o.Build()
    axes = attributes.pop("axes", None)
    weights = {"Conv": (4, 3, 1, 1), "MatMul": (3, 3), "LayerNormalization": (3,)}
    more = [b.weight(axes)] if axes else [b.draw(*weights[op])] if op in weights else []
    b(op, b("Relu", "image"), *more, out="out", **attributes)
    graph = ir.from_proto(b.model("out")).graph
    assert find_layout(graph[0].outputs[0]) == told
    if axes:
        assert reduced_axes(graph[1]) == tuple(a % 4 for a in axes)


def test_reduction_over_unknown_axes() -> None:
    import onnx_ir as ir

    node = ir.from_proto(
        helper.make_model(helper.make_graph([helper.make_node("ReduceMean", ["x"], ["y"])], "g", [], []))
    )
    assert reduced_axes(node.graph[0]) is None


def test_a_region_of_the_image_is_no_map_of_it(tmp_path: Path) -> None:
    """A Resize of a region (the middle quarter) was followed as one of the whole image: its map was drawn over all of it."""
    b = o.Build()
    region, sizes = b.weight(np.array([0, 0, 0.25, 0.25, 1, 1, 0.75, 0.75], np.float32)), b.weight([1, 3, 16, 20])
    x = b("Resize", "image", region, "", sizes, mode="linear", coordinate_transformation_mode="tf_crop_and_resize")
    model = b.model(b.linear(b.pooled(b("Relu", b.conv(x, 3, o.CHANNELS), out="maps"))), shape=(1, *nets.SHAPE))
    with pytest.raises(LayerError, match=r"positions can't be followed through .* \(Resize\)"):
        export_onnx(tmp_path, model, split="maps")


def test_a_bound_that_is_none(tmp_path: Path) -> None:
    """Paddle2ONNX writes a generalised mean's Clip with the largest float as its upper bound, which counted as ReLU6."""
    b = o.Build()
    x = b.conv("image", 3, o.CHANNELS)
    clipped = b("Clip", x, b.weight(np.float32(1e-6)), b.weight(np.finfo(np.float32).max))
    pooled = b("GlobalAveragePool", b("Pow", clipped, b.weight(np.float32(3))))
    y = b.linear(b("Flatten", b("Pow", pooled, b.weight(np.float32(1 / 3)))))
    done = export_onnx(tmp_path, b.model(y), roles=HEAD_AND_TAIL)
    assert done.manifest.target.tensor == x
