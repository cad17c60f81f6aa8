"""Half precision: gradients and relevance are those of the same weights in float32 and double, on both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from xai_deploy import Explainer
from xai_deploy.format.bundle import Bundle

from .. import nets
from .. import onnx_nets as o
from ..running import export_onnx

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
ENDS = ("float32", "float16")


def network() -> onnx.ModelProto:
    """Weights that float16 holds; the last is small, so that a gradient in float16 would be subnormal."""
    b = o.Build()
    x = b("Relu", b.conv(b("Relu", b.conv("image", 3, 8, strides=[2, 2])), 8, o.CHANNELS), name="layer")
    x = b("BatchNormalization", b.conv(x, o.CHANNELS, o.CHANNELS), *(b.draw(o.CHANNELS) for _ in range(3)),
          b.weight(np.full(o.CHANNELS, 0.7, np.float32)))  # fmt: skip
    x = b("Clip", x, b.weight(np.float32(0)), b.weight(np.float32(6)))
    small = (b.rng.standard_normal((o.CHANNELS, nets.CLASSES)) * 1e-3).astype(np.float32)
    model = b.model(b("MatMul", b.pooled(x), b.weight(small), out="scores"))
    for weight in model.graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype == np.float32:
            weight.CopyFrom(numpy_helper.from_array(array.astype(np.float16).astype(np.float32), weight.name))
    return model


def halved(model: onnx.ModelProto, ends: str) -> onnx.ModelProto:
    """The same network in float16, its ends in float16 or kept in float32 behind Casts, as converters do."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    for weight in graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype == np.float32:
            weight.CopyFrom(numpy_helper.from_array(array.astype(np.float16), weight.name))
    if ends == "float16":
        graph.input[0].type.tensor_type.elem_type = graph.output[0].type.tensor_type.elem_type = HALF
        return half
    for node in graph.node:
        node.input[:] = ["image/half" if name == "image" else name for name in node.input]
        node.output[:] = ["scores/half" if name == "scores" else name for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", ["image"], ["image/half"], to=HALF))
    graph.node.append(helper.make_node("Cast", ["scores/half"], ["scores"], to=FLOAT))
    return half


def in_double(model: onnx.ModelProto, x: Any) -> tuple[Any, Any]:
    """Logits and the gradient of the predicted class at the image, by torch in float64."""
    w = [torch.from_numpy(numpy_helper.to_array(i).astype(np.float64)) for i in model.graph.initializer]
    image = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    y = torch.relu(torch.nn.functional.conv2d(image, w[0], w[1], stride=2, padding=1))
    y = torch.relu(torch.nn.functional.conv2d(y, w[2], w[3], padding=1))
    y = torch.nn.functional.conv2d(y, w[4], w[5], padding=1)
    y = torch.nn.functional.batch_norm(y, w[8], w[9], w[6], w[7], eps=1e-5)
    logits = torch.clamp(y, 0, 6).mean((2, 3)) @ w[12]
    logits.max(1).values.sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    return logits.detach().numpy(), image.grad.numpy()


@pytest.mark.parametrize("ends", ENDS)
def test_maps_of_half_precision(tmp_path: Path, ends: str) -> None:
    model = network()
    options: Any = {"input_gradient": True, "pixel_relevance": True, "split": "layer", "fuse": ("gradient", "lrp")}
    folders = {}
    for name, source in (("float", model), ("half", halved(model, ends))):
        (tmp_path / name).mkdir()
        folders[name] = export_onnx(tmp_path / name, source, **options)
    spec = folders["half"].manifest.input
    x = np.random.default_rng(3).standard_normal((3, *nets.SHAPE)).astype(spec.dtype)
    logits, gradient = in_double(model, x)
    wanted = Explainer(folders["float"].path, backend="onnxruntime")
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(folders["half"].path, backend=backend)
        for rows in (x[:1], x):
            found = explainer.explain_many(
                rows, [("gradient", {"channels": "sum"}), "lrp", "grad-cam", "relevance-cam"]
            )
            n = len(rows)
            assert np.abs(found[0].logits - logits[:n]).max() < 2e-2 * np.abs(logits).max()
            near(found[0].raw, gradient[:n].sum(1), backend)
            plain = wanted.explain_many(rows.astype(np.float32), ["lrp"])
            near(found[1].raw, plain[0].raw, backend)
        # behind the cut the head's activation is a half; the same half, in float32
        between = explainer._network.run("head", {spec.name: x}, ["activation"])["activation"]
        feeds: Any = {"target": np.full(3, -1, np.int64), "seed": np.zeros((3, nets.CLASSES), np.float32)}
        for role in ("gradient", "relevance"):
            half = explainer._network.run(role, {"activation": between, **feeds}, [role])[role]
            single: Any = {"activation": np.asarray(between, np.float32), **feeds}
            near(np.asarray(half), np.asarray(wanted._network.run(role, single, [role])[role]), role)
            assert np.asarray(half).dtype == np.float32


def near(got: Any, want: Any, what: str) -> None:
    assert np.abs(want).max() > 0
    assert np.abs(got - want).max() < 1e-3 * np.abs(want).max(), what


def test_weights_stay_halves(tmp_path: Path) -> None:
    """The big ones: a file of the gradient holds no weight of float32 but small constants."""
    b = o.Build()
    x = b("Relu", b.conv(b.features(), o.CHANNELS, 64), name="last")
    model = b.model(b("MatMul", b.pooled(x), b.draw(64, 5), out="scores"))
    bundle = Bundle.open(export_onnx(tmp_path, halved(model, "float32"), split="layer").path)
    for role in ("gradient", "relevance"):
        kinds = {
            (w.data_type, int(np.prod(w.dims)) > 256)
            for w in onnx.load_from_string(bundle.graph(role)).graph.initializer
        }
        assert (HALF, True) in kinds
        assert (FLOAT, True) not in kinds
