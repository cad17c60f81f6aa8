"""The logits behind an output: before its probability function, whatever views and codes stand between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from xai_exporters.bundle.beside import noise_images
from xai_exporters.errors import GraphError, RequestError

from ... import nets
from ... import onnx_nets as o
from ...checks import RUNNERS, check_bundle, close, forward, recompose, source_reference
from ...running import HEAD_AND_TAIL, export_onnx, export_torch


def ending(*ops: str, out: str = "result") -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A network that ends with these operators, and the same one without them."""
    models = []
    for with_end in (True, False):
        b = o.Build()
        x = b.linear(b.pooled(b.features()), name="fc", out="" if with_end else "plain")
        for i, op in enumerate(ops if with_end else ()):
            more = [b.weight([0, 5])] if op == "Reshape" else []
            x = b(op, x, *more, out=out if i == len(ops) - 1 else "")
        models.append(b.model(x))
    return models[0], models[1]


@pytest.mark.parametrize("name", ["result", "activation", "logits", "side_0", "image_2"])
@pytest.mark.parametrize(
    ("ops", "kind"),
    [
        (("Softmax",), "probabilities"),
        (("Sigmoid",), "probabilities"),
        (("LogSoftmax",), "logits"),
        (("Softmax", "Reshape", "Identity"), "probabilities"),
    ],
)
def test_probability_functions(tmp_path: Path, ops: tuple[str, ...], kind: str, name: str) -> None:
    whole, plain = ending(*ops, out=name)
    done = export_onnx(tmp_path, whole, roles=HEAD_AND_TAIL)
    [output] = done.manifest.outputs
    assert (output.name, output.kind, done.manifest.classes) == (name, kind, 5)
    bundle = check_bundle(done.path, source_reference(whole))
    x = noise_images(bundle.manifest.input, 3)
    for run in RUNNERS:
        close(recompose(bundle, x, run).logits, source_reference(plain)(x)["plain"])


@pytest.mark.parametrize("name", ["scores", "activation", "logits"])
def test_plain_logits_under_any_name(tmp_path: Path, name: str) -> None:
    b = o.Build()
    model = b.model(b.linear(b.pooled(b.features()), out=name))
    done = export_onnx(tmp_path, model, roles=HEAD_AND_TAIL)
    assert [(x.name, x.tensor, x.kind) for x in done.manifest.outputs] == [(name, "logits", "logits")]
    check_bundle(done.path, source_reference(model))


@pytest.mark.parametrize("name", ["activation", "logits", "side_0"])
def test_input_under_any_name(tmp_path: Path, name: str) -> None:
    b = o.Build()
    model = b.model(b.linear(b.pooled(b.features(name)), out="scores"), image=name)
    check_bundle(export_onnx(tmp_path, model, roles=HEAD_AND_TAIL).path, source_reference(model))


@pytest.mark.parametrize("softmax", [False, True])
def test_scores_of_shape_n_c_1_1(tmp_path: Path, softmax: bool) -> None:
    b = o.Build()
    x = b.conv(b("GlobalAveragePool", b.features()), 6, 5, 1, name="fc")
    x = b("Softmax", x, axis=1) if softmax else x
    model = b.model(x, ranks={x: (o.FLOAT, ("n", 5, 1, 1))})
    done = export_onnx(tmp_path, model, roles=HEAD_AND_TAIL)
    bundle = check_bundle(done.path, source_reference(model))
    assert (done.manifest.classes, done.manifest.outputs[0].shape) == (5, (5, 1, 1))
    parts = recompose(bundle, noise_images(bundle.manifest.input, 2))
    assert parts.logits.shape == (2, 5)
    if not softmax:
        close(parts.logits, parts.outputs[x][:, :, 0, 0])


@pytest.mark.parametrize("end", ["softmax", "none"])
def test_quantised_output(tmp_path: Path, end: str) -> None:
    """The logits are floats, whether a Softmax or nothing stands before the last QuantizeLinear."""
    model = o.quantised(end)
    done = export_onnx(tmp_path, model)
    assert done.manifest.input.dtype == "uint8"
    assert done.manifest.outputs[0].kind == ("probabilities" if end == "softmax" else "logits")
    assert "pixelwise-tail" not in done.manifest.graphs
    bundle = check_bundle(done.path, source_reference(model, by_runtime=True))
    parts = recompose(bundle, noise_images(bundle.manifest.input, 3))
    assert (parts.logits.dtype.name, parts.outputs["out"].dtype.name) == ("float32", "uint8")
    codes = parts.outputs["out"].astype(np.float64)
    if end == "softmax":
        e = np.exp(parts.logits.astype(np.float64))
        assert np.abs(codes - e / e.sum(1, keepdims=True) * 256).max() <= 1
    else:
        assert np.abs(codes - (parts.logits / 0.02 + 128).clip(0, 255)).max() <= 1


def test_output_chosen(tmp_path: Path) -> None:
    net = nets.randomise(nets.Outputs())
    with pytest.raises(RequestError, match=r"several outputs; choose one with --output: scores, features, beside$"):
        export_torch(tmp_path, net)
    with pytest.raises(
        RequestError, match="the network has no output or inner tensor 'nothing'; it has scores, features, beside"
    ):
        export_torch(tmp_path, net, output="nothing")
    dense = export_torch(tmp_path, net, output="features", split="conv1", overwrite=True, roles=HEAD_AND_TAIL)
    assert (dense.manifest.scores.kind, dense.manifest.scores.shape) == ("dense", (6, 8, 10))  # scores at each position
    done = export_torch(tmp_path, net, output="beside", split="conv1", overwrite=True, roles=HEAD_AND_TAIL)
    assert {x.name: (x.tensor, x.kind) for x in done.manifest.outputs} == {
        "scores": ("scores", "other"),
        "features": ("features", "other"),
        "beside": ("logits", "logits"),
    }
    assert done.manifest.classes == 3
    check_bundle(done.path, forward(net))


def test_output_without_a_batch(tmp_path: Path) -> None:
    b = o.Build()
    x = b("ReduceMean", b.features(), b.weight([0, 2, 3]), keepdims=0, out="means")
    with pytest.raises(GraphError, match=r"'means' has shape \[6\]"):
        export_onnx(tmp_path, b.model(x, ranks={"means": (o.FLOAT, (6,))}))


def test_rows_that_are_no_images(tmp_path: Path) -> None:
    """The rows of RoiAlign are regions; here there is one, whatever the batch."""
    b = o.Build()
    x = b(
        "RoiAlign",
        b("Relu", b.conv("image", 3, 6)),
        b.weight(np.ones((1, 4), np.float32)),
        b.weight([0]),
        sampling_ratio=2,
    )
    model = b.model(b("Gemm", b("Flatten", b("GlobalAveragePool", x)), b.draw(6, 5), out="scores"))
    with pytest.raises(
        GraphError, match=r"'scores' has shape \[1, 5\] however many images there are: its rows are no images; ex"
    ):
        export_onnx(tmp_path, model)


def test_output_of_class_indices(tmp_path: Path) -> None:
    b = o.Build()
    x = b("ArgMax", b.linear(b.pooled(b.features())), axis=1, keepdims=0, out="best")
    with pytest.raises(
        GraphError, match=r"'best' holds the number of the class that ArgMax chose; export .* 'gemm_6_out'"
    ):
        export_onnx(tmp_path, b.model(x, ranks={"best": (onnx.TensorProto.INT64, ("n",))}))


@pytest.mark.parametrize("kind", ["number", "resized number", "above"])
def test_decisions_at_each_position(tmp_path: Path, kind: str) -> None:
    """The number of a class, as a float, was explained as the score of one class. A plain ArgMax is passed; see `find_dense`."""
    b = o.Build()
    maps = b.conv(b.features(), o.CHANNELS, 3, 1)
    scores = b("Sigmoid", maps) if kind == "above" else maps
    decided = b("Greater", scores, b.weight(np.float32(0.5))) if kind == "above" else b("ArgMax", scores, axis=1)
    floats = b("Cast", decided, to=o.FLOAT)
    if kind == "number":
        floats = b("Mul", floats, b.weight(np.float32(0.5)))
    elif kind == "resized number":
        floats = b("Resize", floats, "", b.weight(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    b("Identity", floats, out="result")
    model = b.model("result", ranks={"result": (o.FLOAT, ("N", "a", "b", "c"))})
    said = "decisions or rounded values of Greater" if kind == "above" else "the number of the class that ArgMax chose"
    with pytest.raises(GraphError, match=rf"holds {said}.*which seem to be '{scores}', or name these with --output$"):
        export_onnx(tmp_path, model)


@pytest.mark.parametrize(("stride", "said"), [(2, False), (8, True)])
def test_a_coarse_map_without_a_function(tmp_path: Path, stride: int, said: bool) -> None:
    """A YOLO's raw head [N,A(5+C),h,w] looks like a segmenter's scores; what it was taken for is told."""
    b = o.Build()
    x = b("Relu", b("Conv", "image", b.draw(6, 3, 3, 3), pads=[1] * 4, strides=[stride] * 2))
    b("Conv", x, b.draw(25, 6, 1, 1), out="result")
    model = b.model("result", shape=("N", 3, 32, 48), ranks={"result": (o.FLOAT, ("N", 25, "h", "w"))})
    done = export_onnx(tmp_path, model, roles=HEAD_AND_TAIL)
    told = "The output 'result' is read as the scores of 25 classes at 4 x 6 positions. If it is the raw head of a detector"
    assert any(note.startswith(told) for note in done.notes) == said
