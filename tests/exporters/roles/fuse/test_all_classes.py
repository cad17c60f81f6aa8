"""`--all-classes`: each class's map in one output, against the engine's map of that class; what it costs is told, and bounded."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters import Request, export
from xai_exporters.errors import ExportError
from xai_exporters.roles.fuse import all_classes

from tests.exporters import onnx_nets as o
from tests.exporters.nets import CLASSES
from xai_deploy.format.bundle import SALIENCY

from .harness import ORT, RUNTIMES, compare, fuse_onnx
from .networks import LINEAR, OTHER, POOLED, network

AT_ONCE = ("cam", "cam:relu=false", "reciprocam", "reciprocam:score=softmax:mask=gaussian")
REPEATED = ("grad-cam", "layer-cam", "relevance-cam", "gradient")
TAILS = {**LINEAR, **POOLED, **OTHER}


def ordinal() -> onnx.ModelProto:
    """CORAL's head: one number, and a bias for each class."""
    b = o.Build()
    x = b("MatMul", b.pooled(b.features()), b.draw(o.CHANNELS, 1))
    return b.model(b("Sigmoid", b("Add", x, b.draw(CLASSES)), out="scores"))


def convolution_and_bias() -> onnx.ModelProto:
    """A 1 x 1 convolution whose bias is added after it."""
    b = o.Build()
    x = b("Conv", b("GlobalAveragePool", b.features()), b.draw(CLASSES, o.CHANNELS, 1, 1))
    return b.model(b("Flatten", b("Add", x, b.draw(CLASSES, 1, 1)), out="scores"))


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        (o.classifier(), (*AT_ONCE, *REPEATED)),
        (ordinal(), ("reciprocam", "cam:relu=false", "grad-cam")),
        (convolution_and_bias(), ("reciprocam", "cam:relu=false")),
        (network(TAILS["hidden layer, ReLU"]), ("reciprocam", "reciprocam:score=softmax", "grad-cam")),
        (network(TAILS["convolutions, then pooling"]), ("reciprocam:mask=gaussian", "grad-cam")),
    ],
    ids=["linear", "ordinal", "bias apart", "hidden", "convolutions"],
)
def test_each_class_is_the_engines(tmp_path: Path, model: onnx.ModelProto, asked: tuple[str, ...]) -> None:
    case = fuse_onnx(tmp_path, model, *asked, all_classes=True)
    for text in asked:
        for count in (1, 3):
            x = case.images(count)
            for runner, tolerance in (RUNTIMES if count == 3 and text in ("reciprocam", "grad-cam") else ORT).items():
                results = dict(case.run(text, x, None, runner))
                maps = results.pop(SALIENCY)
                assert maps.shape[:2] == (count, CLASSES)
                for index in range(CLASSES):
                    compare(maps[:, index], case.raw(text, x, [index] * count), tolerance)
                for name, own in case.plain(x).items():
                    np.testing.assert_allclose(results[name], own, rtol=1e-4, atol=1e-5)


def test_the_cost_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The tail of three convolutions of 36 positions, one after 36: in multiply-adds by hand."""
    caplog.set_level(logging.WARNING)
    fuse_onnx(tmp_path, network(TAILS["convolutions, then pooling"]), "reciprocam", all_classes=True)
    assert "--all-classes" not in caplog.text
    case = fuse_onnx(tmp_path, network(TAILS["convolutions, then pooling"]), "grad-cam", all_classes=True)
    macs = {"before": 0, "after": 0}
    shapes = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "net.onnx"))
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in shapes.graph.value_info}
    sizes |= {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in shapes.graph.output}
    weights = {w.name: list(w.dims) for w in shapes.graph.initializer}
    where = "before"
    for node in shapes.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            fixed, out = weights[node.input[1]], sizes[node.output[0]]
            macs[where] += int(np.prod(fixed) * (np.prod(out[2:]) if node.op_type == "Conv" else 1))
        where = "after" if "layer" in (node.name, *node.output) else where
    share = macs["after"] / sum(macs.values())
    times = 1 - share + 3 * CLASSES * share
    assert (
        f"runs {CLASSES} times for each image, forward and back: about {times:.1f} times the network's" in caplog.text
    )
    assert case.bundle.has("fused-grad-cam")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fixed_target": True}, "--all-classes gives a map of each class, and --fixed-target takes one map"),
        ({"web": Path("site")}, "--all-classes gives a map of each class, and --web takes one map"),
        (
            {"fuse": ("score-cam",)},
            "--fuse score-cam: --all-classes: this method runs the network once for each channel",
        ),
        (
            {"task": "numbers"},
            "--fuse grad-cam: --all-classes gives a map of each class, and the network has scores of the kind",
        ),
        ({"fuse": ()}, "--all-classes is for --fuse, which is not given"),
    ],
)
def test_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    given = {
        "fuse": ("grad-cam",),
        "preprocess": "unit",
        "split": "layer",
        "output_path": tmp_path / "net.xai",
        **options,
    }
    with pytest.raises(ExportError, match=said):
        export(Request(tmp_path / "net.onnx", all_classes=True, **given))
    assert not (tmp_path / "net.xai").exists()


def test_too_many_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_classes, "MOST_BYTES", 100)
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    request = Request(
        tmp_path / "net.onnx", fuse=("grad-cam",), preprocess="unit", split="layer", all_classes=True,
        output_path=tmp_path / "net.xai",
    )  # fmt: skip
    said = rf"repeats what follows the layer for {CLASSES} classes, and the largest tensor takes .* fuse a method that gives all"
    with pytest.raises(ExportError, match=said):
        export(request)
