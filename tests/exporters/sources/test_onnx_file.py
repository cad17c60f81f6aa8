"""ONNX in the styles of several exporters, and external data that may not be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from xai_exporters import Request, export
from xai_exporters.errors import GraphError, RequestError, SourceError, UnknownSourceError

from .. import nets
from .. import onnx_nets as o
from ..checks import check_bundle, forward, hooked, source_reference
from ..running import HEAD_AND_TAIL, dynamo_onnx, export_onnx, left_behind, onnx_request


def one_name() -> onnx.ModelProto:
    """Every node is called `node`: ONNX allows that, and ONNX Runtime opens no such file."""
    model = o.classifier()
    for node in model.graph.node:
        node.name = "node"
    return model


STYLES: dict[str, Callable[[], onnx.ModelProto]] = {
    "opset 18": o.classifier,
    "opset 11": lambda: o.classifier(11),
    "opset 13": lambda: o.classifier(13),
    "opset 20": lambda: o.classifier(20),
    "opset 21": lambda: o.classifier(21),
    "torch's older exporter": o.residual,
    "tf2onnx": o.keras,
    "channels last": o.channels_last,
    "shape arithmetic": o.shape_flatten,
    "initializers as inputs": o.initializers_as_inputs,
    "function": o.with_function,
    "function, opset 17": lambda: o.with_function(17),
    "function, opset 20": lambda: o.with_function(20),
    "nodes of one name": one_name,
    "batch 1, Reshape": o.folded_by_batch,
    "batch 1, Reshape with -1": lambda: o.folded_by_batch(infer=True),
    "batch 1, Flatten": lambda: o.folded_by_batch(flatten=True),
    "batch 4, Flatten": lambda: o.folded_by_batch(batch=4, flatten=True),
}


@pytest.mark.parametrize("style", STYLES)
def test_style(tmp_path: Path, style: str) -> None:
    model = STYLES[style]()
    done = export_onnx(tmp_path, model, preprocess="none")
    if style == "nodes of one name":  # for the reference, which runs on ONNX Runtime
        model = o.classifier()
    assert done.kind == "ONNX"
    assert done.batch_was_fixed == style.startswith("batch")
    bundle = check_bundle(done.path, source_reference(model))
    assert {graph.opset for graph in bundle.manifest.graphs.values()} == {18}
    assert bundle.manifest.input.layout == ("NHWC" if style == "tf2onnx" else "NCHW")
    assert bundle.manifest.input.preprocess.scale == 1
    assert bundle.has("pixelwise-tail")


def test_batch_of_several_in_the_reshape(tmp_path: Path) -> None:
    model = o.folded_by_batch(batch=4)
    done = export_onnx(tmp_path, model, roles=HEAD_AND_TAIL)
    assert done.batch_was_fixed
    check_bundle(done.path, source_reference(o.folded_by_batch()))  # the same weights, at batch 1


def test_dynamo_metadata_names_the_layers(tmp_path: Path) -> None:
    net = nets.randomise(nets.Residual())
    done = export_onnx(tmp_path, dynamo_onnx(net, tmp_path), split="layer1", roles=HEAD_AND_TAIL)
    assert done.kind == "ONNX from pytorch"
    check_bundle(done.path, forward(net, done.manifest.outputs[0].name), hooked(net, "layer1"))


@pytest.mark.parametrize("opset", [20, 21])
def test_gelu_keeps_its_opset(tmp_path: Path, opset: int) -> None:
    b = o.Build(opset)
    model = b.model(b.linear(b.pooled(b("Gelu", b.features(), name="gelu")), out="scores"))
    done = export_onnx(tmp_path, model)
    assert {role: g.opset for role, g in done.manifest.graphs.items()} == {
        "head": opset,
        "tail": opset,
        "pixelwise-tail": 18,
        "gradient": opset,
        "relevance": opset,
    }
    bundle = check_bundle(done.path, source_reference(model))
    for role, graph in done.manifest.graphs.items():
        [opset_import] = onnx.load_from_string(bundle.graph(role)).opset_import
        assert (opset_import.domain, opset_import.version) == ("", graph.opset)


@pytest.mark.parametrize("opset", [13, 18])
def test_standard_domain_by_its_other_name(tmp_path: Path, opset: int) -> None:
    model = o.classifier(opset)
    model.opset_import[0].domain = "ai.onnx"
    done = export_onnx(tmp_path, model, roles=HEAD_AND_TAIL)
    [opset_import] = onnx.load(done.path / "head.onnx").opset_import
    assert (opset_import.domain, opset_import.version) == ("", 18)
    check_bundle(done.path, source_reference(o.classifier(opset)))


def test_half_precision(tmp_path: Path) -> None:
    model = o.classifier()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    done = export_onnx(tmp_path, model, roles=HEAD_AND_TAIL)
    assert (done.manifest.input.dtype, done.manifest.target.dtype) == ("float16", "float16")
    check_bundle(done.path, source_reference(model), tolerance=5e-3)  # half precision has eleven bits


def test_nodes_in_any_order(tmp_path: Path) -> None:
    """Runtimes take them so, and converters to float16 write them so; a cycle is still refused."""
    model = o.classifier()
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    check_bundle(export_onnx(tmp_path, model, roles=HEAD_AND_TAIL).path, source_reference(o.classifier()))
    (tmp_path / "cycle").mkdir()
    made, first = model.graph.node[0].output[0], model.graph.node[-1]
    first.input[0] = made
    with pytest.raises(SourceError, match="not a valid ONNX model"):
        export_onnx(tmp_path / "cycle", model)


def with_data(folder: Path, location: str = "weights.bin") -> onnx.ModelProto:
    """A network whose weights lie in `folder/weights.bin`, but say that they lie at `location`."""
    model = o.classifier()
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    saved = onnx.load(folder / "net.onnx", load_external_data=False)
    for tensor in saved.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "net.onnx").write_bytes(saved.SerializeToString())
    return saved


def test_external_data_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with_data(source)
    monkeypatch.chdir(tmp_path)
    done = export(Request(Path("source/net.onnx"), output_path=tmp_path / "net.xai", preprocess="none"))
    check_bundle(done.path, source_reference(o.classifier()))
    for file in done.path.glob("*.onnx"):
        assert all(not t.external_data for t in onnx.load(file, load_external_data=False).graph.initializer)


@pytest.mark.parametrize("where", ["absolute", "parent", "symlink", "symlink inside", "linked folder", "empty"])
def test_external_data_outside_is_refused(tmp_path: Path, where: str) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.mkdir()
    outside.mkdir()
    locations = {
        "absolute": str(outside / "weights.bin"),
        "parent": "../outside/weights.bin",
        "symlink": "link.bin",
        "symlink inside": "inside.bin",
        "linked folder": "folder/weights.bin",
        "empty": "",
    }
    with_data(source, locations[where])
    (source / "weights.bin").rename(outside / "weights.bin")
    (source / "copy.bin").write_bytes((outside / "weights.bin").read_bytes())
    (source / "inside.bin").symlink_to(source / "copy.bin")
    (source / "link.bin").symlink_to(outside / "weights.bin")
    (source / "folder").symlink_to(outside, target_is_directory=True)
    with pytest.raises(SourceError, match=r"names data at .* outside the model's folder; refused"):
        export(Request(source / "net.onnx", output_path=tmp_path / "net.xai"))
    assert not (tmp_path / "net.xai").exists()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("length", str(1 << 28), r"would read \d+ bytes of its data file, and its shape needs \d+; refused"),
        ("location", "a\0b", "the name of the data file of tensor .* holds a zero byte"),
    ],
)
def test_external_data_larger_than_its_tensor_or_badly_named(tmp_path: Path, key: str, value: str, told: str) -> None:
    with_data(tmp_path)
    model = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    entries = {entry.key: entry.value for entry in tensor.external_data} | {key: value}
    del tensor.external_data[:]
    for name, text in entries.items():
        tensor.external_data.add(key=name, value=text)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    os.truncate(tmp_path / "weights.bin", 1 << 28)  # sparse: it takes no room on the disk
    with pytest.raises(SourceError, match=told):
        export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai"))
    assert not (tmp_path / "net.xai").exists()


def test_external_data_missing_or_short(tmp_path: Path) -> None:
    with_data(tmp_path)
    os.truncate(tmp_path / "weights.bin", 10)
    with pytest.raises(SourceError, match="its external data can't be read"):
        export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai"))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(SourceError, match=r"its data file 'weights\.bin' is missing; put it beside the model"):
        export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai"))


def invalid() -> onnx.ModelProto:
    model = o.classifier()
    model.graph.node[0].op_type = "NoSuchOperator"
    return model


def not_text() -> onnx.ModelProto:
    data = o.classifier().SerializeToString()
    return onnx.load_from_string(data.replace(b"conv_0_out", b"conv\xff0_out"))


def several_inputs() -> onnx.ModelProto:
    return o.classifier(more_inputs=[helper.make_tensor_value_info("size", o.FLOAT, ("N", "K"))])


def left_out() -> onnx.ModelProto:
    """As torch 2.13 writes gemma4's vision tower: two Clips become one, and its bounds are in no list."""
    model = o.classifier()
    kept = [i for i in model.graph.initializer if i.name != model.graph.node[0].input[1]]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def unknown_size() -> onnx.ModelProto:
    return o.classifier(shape=("N", 3, "H", "W"))


def vector_input() -> onnx.ModelProto:
    b = o.Build()
    return b.model(b("MatMul", "image", b.draw(6, 5), out="scores"), shape=("N", 6))


def doubles() -> onnx.ModelProto:
    b = o.Build()
    x = b("Cast", "image", to=o.FLOAT)
    return b.model(b.linear(b.pooled(b.features(x)), out="scores"), dtype=onnx.TensorProto.DOUBLE)


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        (invalid, SourceError, "not a valid ONNX model .*NoSuchOperator"),
        (left_out, SourceError, r"\(Conv\) reads '.*', which no node, input or constant of the file gives"),
        (not_text, SourceError, "damaged; a name in it is not text"),
        (
            several_inputs,
            GraphError,
            r"the input 'size' .* has open sizes; export it with fixed ones, or --input NAME=FILE.npy",
        ),
        (vector_input, GraphError, r"the input 'image' has shape \[N,6\]; an image input has four dimensions"),
        (unknown_size, RequestError, r"has shape \[N,3,H,W\]; give the image's size with --input-shape C,H,W"),
        (doubles, GraphError, "holds DOUBLE; images are float32, float16 or uint8: export the network in float32"),
        (onnx.ModelProto, UnknownSourceError, "the file is empty"),
    ],
)
def test_refused(tmp_path: Path, model: Callable[[], onnx.ModelProto], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        export_onnx(tmp_path, model())
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("style", ["opset 11", "tf2onnx", "channels last", "batch 4, Flatten"])
def test_a_stated_size_that_the_graph_does_not_need(style: str, tmp_path: Path) -> None:
    """As CenterFace, [10,3,32,32]: the source with its size left open is the reference."""
    model = STYLES[style]()
    done = export_onnx(tmp_path, model, input_shape=(3, 24, 28), roles=HEAD_AND_TAIL)
    assert sorted(done.manifest.input.image_shape) == [3, 24, 28]
    assert any("its graph takes others: it is exported for" in note for note in done.notes)
    open_size = onnx.ModelProto()
    open_size.CopyFrom(model)
    dims = open_size.graph.input[0].type.tensor_type.shape.dim
    for dim in dims[1:3] if style == "tf2onnx" else dims[2:]:
        dim.dim_param = f"side{dim.dim_value}"
    check_bundle(done.path, source_reference(open_size))


def flattened() -> onnx.ModelProto:
    """A linear layer of all positions, which fits one size. (`shape_flatten` has a shape that shows only when it is run.)"""
    b = o.Build()
    x = b("Flatten", b.features())
    return b.model(b("Gemm", x, b.draw(480, 5), out="scores"))


def added_position() -> onnx.ModelProto:
    """A constant for each position."""
    b = o.Build()
    return b.model(b.linear(b.pooled(b("Add", b.features(), b.draw(1, 6, 8, 10))), out="scores"))


def shuffled() -> onnx.ModelProto:
    """Channels in another order by a Reshape to constant sizes."""
    b = o.Build()
    x = b("Transpose", b("Reshape", b.features(), b.weight([1, 2, 3, 80])), perm=[0, 2, 1, 3])
    x = b("Reshape", x, b.weight([1, 6, 8, 10]))
    return b.model(b.linear(b.pooled(x), out="scores"), shape=(1, 3, 16, 20), ranks={"scores": (o.FLOAT, (1, 5))})


@pytest.mark.parametrize("model", [flattened, added_position, shuffled, o.shape_flatten])
def test_a_stated_size_that_the_graph_needs(model: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--input-shape 3,24,28 does not fit .* dimension 2 is fixed to 16"):
        export_onnx(tmp_path, model(), input_shape=(3, 24, 28))
    assert export_onnx(tmp_path, model(), overwrite=True, roles=HEAD_AND_TAIL).manifest.input.image_shape == (3, 16, 20)


def positions(added: bool) -> onnx.ModelProto:
    """Tokens, each with a constant of its place if `added`."""
    b = o.Build()
    x = b("Reshape", b.features(), b.weight([0, 6, -1]))
    x = b("Relu", b("Add", x, b.draw(1, 6, 80)) if added else x)
    return b.model(b.linear(b("ReduceMean", x, b.weight([2]), keepdims=0), out="scores"))


@pytest.mark.parametrize("model", [flattened, lambda: positions(True)])
@pytest.mark.parametrize("size", [(3, 20, 16), (3, 10, 32), (3, 9, 31)])
def test_as_many_positions_in_another_order(
    model: Callable[[], onnx.ModelProto], size: tuple[int, ...], tmp_path: Path
) -> None:
    """8 x 10 positions are as many as 10 x 8 or 5 x 16: the constants of the one fit the other, and are wrong there."""
    with pytest.raises(RequestError, match=r"does not fit .* dimension 2 is fixed to 16"):
        export_onnx(tmp_path, model(), input_shape=size)


def test_tokens_without_places(tmp_path: Path) -> None:
    """As many in another order are right if nothing belongs to a place: the source with its size left open is the reference."""
    model = positions(False)
    done = export_onnx(tmp_path, model, input_shape=(3, 20, 16), roles=HEAD_AND_TAIL)
    assert done.manifest.input.image_shape == (3, 20, 16)
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = f"side{dim.dim_value}"
    check_bundle(done.path, source_reference(model))


def test_size_from_the_request(tmp_path: Path) -> None:
    model = unknown_size()
    done = export_onnx(tmp_path, model, input_shape=(3, 18, 22), roles=HEAD_AND_TAIL)
    assert done.manifest.input.image_shape == (3, 18, 22)
    check_bundle(done.path, source_reference(model))
    with pytest.raises(RequestError, match=r"--input-shape 1,18,22 does not fit .* dimension 1 is fixed to 3"):
        export_onnx(tmp_path, model, input_shape=(1, 18, 22), overwrite=True)
    keras = o.keras()
    for d, name in zip(keras.graph.input[0].type.tensor_type.shape.dim[1:3], "HW", strict=True):
        d.dim_param = name
    done = export_onnx(tmp_path, keras, input_shape=(3, 18, 22), overwrite=True, roles=HEAD_AND_TAIL)
    assert done.manifest.input.image_shape == (18, 22, 3)


def test_onnx_needs_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    request = onnx_request(tmp_path, o.classifier())
    assert export(request).verified.framework is None


def test_weights_shorter_than_their_shape_in_a_network_on_integers(tmp_path: Path) -> None:
    b = o.Build(13)
    s, z = b.weight(np.float32(0.1)), b.weight(np.uint8(3))
    q = b("QuantizeLinear", "image", s, z)
    w = b.weight(np.ones((4, 3, 3, 3), np.uint8))
    model = b.model(b("QLinearConv", q, s, z, w, s, z, s, z, out="out"))
    for tensor in model.graph.initializer:
        if tensor.name == s:
            tensor.raw_data = tensor.raw_data[:3]
    with pytest.raises(SourceError, match=r"net\.onnx: (damaged|not a valid ONNX model)"):
        export_onnx(tmp_path, model)
