"""Layouts, element types, side tensors, odd sizes and names: what a network's tensors can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from xai_exporters.errors import ExportError, LayerError

from tests.exporters import nets
from tests.exporters import onnx_nets as o
from tests.exporters.cut.test_tokens import Vit, request
from tests.exporters.running import torch_request
from xai_deploy.format.bundle import SALIENCY

from .harness import IMAGES, METHODS, ORT, RUNTIMES, TARGETS, Fused, check, fuse, fuse_onnx, min_max, onnxruntime
from .networks import LINEAR, OTHER, POOLED, C, K, mlp, network

NOT_CAM = tuple(name for name in METHODS if name != "cam")
KINDS = ("reciprocam", "score-cam", "grad-cam++", "xgrad-cam", "integrated-gradients", "lrp")
"""One method of each kind of graph. The others differ from one of these by the formula on the same gradient or relevance."""
MIXED = TARGETS[2:]
SOFTMAX = ("reciprocam:score=softmax", "reciprocam:mask=gaussian", "reciprocam:score=softmax:mask=gaussian-centre")


def check_all(case: Fused, epsilon: float = 2.0**-21) -> None:
    for asked in case.files:
        check(case, asked, MIXED, RUNTIMES if asked == "reciprocam" else ORT, epsilon)


@pytest.mark.parametrize("layer", ["layer1.0.conv1", "layer1.0.conv2"])
def test_side_tensors(tmp_path: Path, layer: str) -> None:
    case = fuse_onnx(tmp_path, o.residual(), *KINDS, *SOFTMAX, split=layer)
    assert case.bundle.manifest.side
    check_all(case)


def test_several_side_tensors(tmp_path: Path) -> None:
    case = fuse(
        torch_request(tmp_path, nets.randomise(nets.Dense()), split="convs.1", preprocess_fields=IMAGES), *KINDS
    )
    assert len(case.bundle.manifest.side) == 2
    check_all(case)


def test_side_tensor_behind_the_pooling(tmp_path: Path) -> None:
    """Pooling comes first, and yet the logits depend on more than what it gives."""
    b = o.Build()
    stem = b("Relu", b.conv("image", 3, 4, strides=[2, 2]))
    layer = b("Relu", b.conv(stem, 4, K), name="layer")
    beside = b("Gemm", b("Flatten", b("GlobalAveragePool", stem)), b.draw(4, K))
    model = b.model(b("Identity", mlp(b, b("Add", b.pooled(layer), beside)), out="scores"))
    case = fuse_onnx(tmp_path, model, "reciprocam", *SOFTMAX, "grad-cam")
    assert case.bundle.manifest.side
    check_all(case)


def test_outputs_before_the_last_layer(tmp_path: Path) -> None:
    """The pooled features, and the hidden ones, beside the scores; and the activation itself."""
    b = o.Build()
    pooled = b.pooled(b.features())
    hidden = b("Relu", b("Gemm", pooled, b.draw(K, 7), b.draw(7)))
    scores = b("Gemm", hidden, b.draw(7, C), b.draw(C), out="scores")
    for ends in ((scores, hidden), (scores, pooled), (scores, "layer_out")):
        model = b.model(*ends, ranks={"layer_out": (o.FLOAT, ("n", K, 8, 10))})
        case = fuse_onnx(tmp_path, model, "reciprocam", "grad-cam", output="scores")
        check_all(case)


def test_side_tensor_of_booleans(tmp_path: Path) -> None:
    b = o.Build()
    x = b.features()
    positive = b("Greater", b.conv("image", 3, K, strides=[2, 2]), b.weight(np.float32(0)))
    x = b("Where", positive, x, b.weight(np.float32(0)))
    model = b.model(b.linear(b.pooled(b("Relu", b.conv(x, K, K))), out="scores"))
    case = fuse_onnx(tmp_path, model, "reciprocam", "grad-cam", "score-cam")
    assert [side.dtype for side in case.bundle.manifest.side] == ["bool"]
    check_all(case)


def test_nhwc_input(tmp_path: Path) -> None:
    case = fuse_onnx(tmp_path, o.keras(), *METHODS, split="auto")
    assert case.bundle.manifest.input.layout == "NHWC"
    check_all(case)


@pytest.mark.parametrize("layer", ["norm", "tokens"])
def test_channels_last(tmp_path: Path, layer: str) -> None:
    case = fuse_onnx(
        tmp_path, o.channels_last(), *(METHODS if layer == "tokens" else NOT_CAM), *SOFTMAX[:2], split=layer
    )
    assert case.bundle.manifest.target.layout == "NHWC"
    check_all(case)


def test_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    case = fuse(request(tmp_path, Vit(1).eval(), preprocess_fields=IMAGES), *NOT_CAM, "reciprocam:mask=gaussian")
    assert case.bundle.manifest.target.prefix_tokens == 1
    # normalised channels sum to nothing, and so nearly does Score-CAM's sum of them: what is left is closer to its rounding
    check(case, "score-cam", MIXED, {onnxruntime: 1e-3})
    del case.files["score-cam"]
    check_all(case, epsilon=2.0**-20)  # attention's sums are longer than a convolution's


def test_float16(tmp_path: Path) -> None:
    """A map of a half precision network is as far from its engine's as rounding puts it: 4 units of 2^-11 of the magnitude."""
    for tail in (POOLED["hidden layer, ReLU"], OTHER["flattened"]):
        model = halved(network(tail))
        case = fuse_onnx(tmp_path, model, *(name for name in KINDS if name != "integrated-gradients"))
        assert case.bundle.manifest.target.dtype == "float16"
        for asked in case.files:
            got = case.run(asked, case.images(3), TARGETS[2])
            raw = case.raw(asked, case.images(3), TARGETS[2])
            spread, most = np.ptp(raw, axis=(1, 2)), np.abs(raw).max(axis=(1, 2))
            away = np.abs(got[SALIENCY] - min_max(raw)).max(axis=(1, 2))
            assert got["scores"].dtype == np.float16
            assert (away * spread <= 2.0**-9 * most).all(), asked
            assert not got[SALIENCY][most == 0].any()


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network in float16."""
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def test_mixed_precision(tmp_path: Path) -> None:
    """A float16 activation beside a float32 side tensor; and one that is pooled in float16 and classified in float32."""
    b = o.Build()

    def half(*shape: int) -> str:
        return b.weight(np.asarray(b.rng.standard_normal(shape) / 6, np.float16))

    stem = b("Relu", b.conv("image", 3, 4, strides=[2, 2]))
    inner = b("Conv", b("Cast", stem, to=TensorProto.FLOAT16), half(4, 4, 3, 3), pads=[1] * 4)
    back = b("Cast", b("Conv", b("Relu", inner, name="layer"), half(4, 4, 3, 3), pads=[1] * 4), to=TensorProto.FLOAT)
    x = b("Relu", b("Add", back, stem))
    sides = b.model(b.linear(b.pooled(b("Relu", b.conv(x, 4, K))), out="scores"))
    b = o.Build()
    b.features()
    pooled = b("GlobalAveragePool", b("Cast", "layer_out", name="half", to=TensorProto.FLOAT16))
    apart = b.model(b("Identity", mlp(b, b("Flatten", b("Cast", pooled, to=TensorProto.FLOAT))), out="scores"))
    for model, layer in ((sides, "layer"), (apart, "half")):
        case = fuse_onnx(tmp_path, model, "reciprocam", *SOFTMAX, "score-cam", split=layer)
        assert case.bundle.manifest.target.dtype == "float16"
        for asked in case.files:
            check(case, asked, MIXED, {onnxruntime: 2e-3}, epsilon=2.0**-9)


def test_uint8_input(tmp_path: Path) -> None:
    b = o.Build()
    x = b("Mul", b("Cast", "image", to=TensorProto.FLOAT), b.weight(np.float32(1 / 64)))
    x = b.features(b("Transpose", x, perm=[0, 3, 1, 2]))
    model = b.model(b.linear(b.pooled(x), out="scores"), dtype=o.UINT8, shape=("N", *nets.SIZE, 3))
    asked = [name for name in KINDS if name != "integrated-gradients"]
    case = fuse_onnx(tmp_path, model, *asked, preprocess_fields={})
    assert case.bundle.manifest.input.dtype == "uint8"
    check_all(case)


@pytest.mark.parametrize("end", ["softmax", ""])
def test_quantised(tmp_path: Path, end: str) -> None:
    """QDQ, uint8 in and out: its logits move in steps of 0.02, so that rounding could turn a map into another."""
    asked = [name for name in KINDS if name != "integrated-gradients"]
    case = fuse_onnx(tmp_path, o.quantised(end), *asked, split="auto", preprocess_fields={})
    for text in asked:
        x, target = case.images(3), TARGETS[2]
        got, raw = case.run(text, x, target), case.raw(text, x, target)
        np.testing.assert_array_equal(got["out"], case.plain(x)["out"])
        assert np.abs(got[SALIENCY] - min_max(raw)).max() < 1e-4, text


def test_one_class(tmp_path: Path) -> None:
    weights = np.linspace(0.1, 1, K, dtype=np.float32)[:, None]  # positive, so that no ReLU leaves zeros
    for end in ("Identity", "Sigmoid"):
        b = o.Build()
        model = b.model(b(end, b("Gemm", b.pooled(b.features()), b.weight(weights), b.draw(1)), out="scores"))
        asked = [name for name in KINDS if name != "score-cam"]
        case = fuse_onnx(tmp_path, model, *asked, "score-cam:score=logit")
        for text in case.files:
            check(case, text, ((-1,), (0, -1)))


@pytest.mark.parametrize("name", ["reciprocam", "score-cam"])
def test_softmax_of_one_class_is_refused(tmp_path: Path, name: str) -> None:
    b = o.Build()
    model = b.model(b("Gemm", b.pooled(b.features()), b.draw(K, 1), b.draw(1), out="scores"))
    with pytest.raises(ExportError, match=f"--fuse {name}: .*a single class"):
        fuse_onnx(tmp_path, model, f"{name}:score=softmax")
    assert not (tmp_path / "net.xai").exists()


def test_one_position(tmp_path: Path) -> None:
    """One position is no map."""
    b = o.Build()
    x = b("Relu", b("Conv", b.features(), b.draw(K, K, 8, 10), b.draw(K)), name="dot")
    with pytest.raises(
        LayerError, match=r"'dot', shape \['N', 6, 1, 1\], is no feature map: .* brings the image's positions tog"
    ):
        fuse_onnx(tmp_path, b.model(b.linear(b.pooled(x), out="scores")), *KINDS, split="dot")


def test_dead_layer(tmp_path: Path) -> None:
    """Zeros, not NaN, and not the rounding of a constant."""
    b = o.Build()
    x = b("Relu", b("Sub", b.features(), b.weight(np.float32(1e6))), name="dead")
    case = fuse_onnx(tmp_path, b.model(b.linear(b.pooled(x), out="scores")), *METHODS, *SOFTMAX, split="dead")
    for asked in case.files:
        for runner in RUNTIMES if asked in ("reciprocam", "score-cam", "grad-cam++") else ORT:
            got = case.run(asked, case.images(2), (1, -1), runner)[SALIENCY]
            assert got.dtype == np.float32
            assert not got.any(), asked


def test_constant_channel_among_others(tmp_path: Path) -> None:
    """Score-CAM leaves it out: below a ReLU it would shift the others' sum."""
    b = o.Build()
    varying = np.array([0, 1, -1, 1, -1, 1], np.float32).reshape(1, K, 1, 1)
    x = b("Add", b("Mul", b.features(), b.weight(varying)), b.weight(np.float32(-4) * (varying == 0)), name="mixed")
    case = fuse_onnx(tmp_path, b.model(b.linear(b.pooled(x), out="scores")), "score-cam", "xgrad-cam", split="mixed")
    check_all(case)


def test_constant_activation(tmp_path: Path) -> None:
    """A positive constant, resized by thirds: its rounding must not be stretched to [0,1]."""
    b = o.Build()
    x = b("AveragePool", b.features(), kernel_shape=[2, 3], strides=[2, 3])
    x = b("Add", b("Mul", x, b.weight(np.float32(0))), b.weight(np.float32(0.7)), name="constant")
    model = b.model(b.linear(b.pooled(x), out="scores"))
    case = fuse_onnx(tmp_path, model, *METHODS, *SOFTMAX, split="constant", map_size="input")
    for asked in case.files:
        if asked in ("reciprocam:mask=gaussian", SOFTMAX[2]):
            continue  # the kernel is cut at the borders
        for runner in RUNTIMES if asked in ("reciprocam", "xgrad-cam") else ORT:
            assert not case.run(asked, case.images(1), (1,), runner)[SALIENCY].any(), asked


@pytest.mark.parametrize("tail", [LINEAR["Gemm"], POOLED["hidden layer, ReLU"], OTHER["flattened"]])
def test_no_class(tmp_path: Path, tail: Any) -> None:
    """A target that is no class gives zeros, and the other images of the batch their maps."""
    methods = METHODS if tail is LINEAR["Gemm"] else NOT_CAM
    case = fuse_onnx(
        tmp_path, network(tail), *methods, *SOFTMAX, "relevance-cam:contrast=false", "gradient:channels=sum"
    )
    x = case.images(3)
    for asked in case.files:
        for runner, tolerance in (RUNTIMES if asked in ("relevance-cam", "reciprocam") else ORT).items():
            known = case.run(asked, x[1:2], (1,), runner)[SALIENCY]
            got = case.run(asked, x, (C, 1, -2), runner)[SALIENCY]
            assert not got[[0, 2]].any(), asked
            assert np.abs(got[1] - known[0]).max() < 10 * tolerance
    assert not case.run("grad-cam", x, (2**40, -(2**40), -7))[SALIENCY].any()


RESERVED = ("activation", "logits", "pixel_logits", "gradient", "relevance", "seed", "side_0", "saliency/map/Relu")


def renamed(**names: str) -> onnx.ModelProto:
    """The classifier with tensors called otherwise."""
    model = o.classifier()
    assert all(old in str(model) for old in names)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = names.get(value.name, value.name)
    return model


WALKERS = ("reciprocam", "grad-cam", "integrated-gradients", "lrp")


@pytest.mark.parametrize("name", RESERVED)
def test_output_with_a_name_of_ours(tmp_path: Path, name: str) -> None:
    case = fuse_onnx(tmp_path, renamed(scores=name), *WALKERS[:3])
    for asked in WALKERS[:3]:
        check(case, asked, TARGETS[:1])


INNER = ("activation", "logits", "gradient", "seed", "target")


@pytest.mark.parametrize(("tensor", "weight"), [*zip(INNER, (*INNER[1:], INNER[0]), strict=True)])
def test_inner_tensors_and_weights_with_names_of_ours(tmp_path: Path, tensor: str, weight: str) -> None:
    case = fuse_onnx(tmp_path, renamed(relu_1_out=tensor, w0=weight), "lrp", "integrated-gradients")
    for asked in case.files:
        check(case, asked, TARGETS[:1])


@pytest.mark.parametrize("name", ["saliency_map", "target"])
def test_inner_tensors_called_as_the_graphs_ends(tmp_path: Path, name: str) -> None:
    case = fuse_onnx(tmp_path, renamed(relu_1_out=name), *WALKERS)
    for asked in case.files:
        check(case, asked, TARGETS[:1])


@pytest.mark.parametrize("name", ["saliency_map", "target"])
def test_output_called_as_the_graphs_ends_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=f"--fuse grad-cam: .*{name!r}"):
        fuse_onnx(tmp_path, renamed(scores=name), "grad-cam")
    assert not (tmp_path / "net.xai").exists()


def test_several_outputs(tmp_path: Path) -> None:
    """The features that the logits come from, and what is made beside the activation."""
    b = o.Build()
    scores = b.linear(b.pooled(b("Relu", b.conv(b.features(), K, K), out="features")), out="scores")
    beside = b("ReduceMean", b.conv("image", 3, 2), b.weight([2, 3]), keepdims=0, out="beside")
    model = b.model(scores, "features", beside, ranks={"features": (o.FLOAT, ("n", K, 8, 10))})
    case = fuse_onnx(tmp_path, model, *KINDS, output="scores")
    assert [out.name for out in case.bundle.manifest.outputs] == ["scores", "features", "beside"]
    check_all(case)


def test_outputs_of_one_tensor(tmp_path: Path) -> None:
    """The logits twice, the activation itself, and the image."""
    b = o.Build()
    logits = b.linear(b.pooled(b.features()))
    ends = [b("Softmax", logits, out="p"), logits, b("Identity", logits, out="again")]
    ends += ["layer_out", b("Identity", "image", out="picture")]
    ranks = {"layer_out": (o.FLOAT, ("n", K, 8, 10)), "picture": (o.FLOAT, ("n", *nets.SHAPE))}
    case = fuse_onnx(tmp_path, b.model(*ends, ranks=ranks), *KINDS, output="p")
    check_all(case)


def test_image_read_again_behind_the_cut(tmp_path: Path) -> None:
    """The image is a side tensor."""
    net = nets.randomise(nets.ImageAgain())
    check_all(fuse(torch_request(tmp_path, net, split="conv1", preprocess_fields=IMAGES), *KINDS))
