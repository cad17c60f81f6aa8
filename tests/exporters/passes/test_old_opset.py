"""Opset 1 to 6: the numbers are those written out by hand in numpy, as those operators were defined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from xai_exporters.errors import GraphError
from xai_exporters.passes.old_opset import upgrade_old
from xai_exporters.passes.opset import to_common_opset

from .. import nets
from .. import onnx_nets as o
from ..checks import Array, close, onnxruntime
from ..running import export_onnx

IMAGES = np.random.default_rng(3).standard_normal((2, *nets.SHAPE)).astype(np.float32)
V = np.array([0.5, -1.0, 2.0], np.float32)  # one number per channel
GIVEN = V[:, None, None]


def batchnorm(b: o.Build) -> str:
    scale, bias, mean, var = (b.weight(v) for v in (V, V + 1, V / 2, V * V + 1))
    return b(
        "BatchNormalization", "image", scale, bias, mean, var, is_test=1, consumed_inputs=[0, 0, 0, 1, 1], epsilon=0.1
    )


def gemm(b: o.Build) -> str:
    x = b("Reshape", "image", shape=[-1, 960])
    return b(
        "Gemm",
        x,
        b.weight(np.full((4, 960), 0.01, np.float32)),
        b.weight(np.arange(4, dtype=np.float32)),
        transB=1,
        broadcast=1,
    )


CASES: dict[str, tuple[int, Callable[[o.Build], str], Callable[[Array], Array]]] = {
    "Add along the channels": (6, lambda b: b("Add", "image", b.weight(V), broadcast=1, axis=1), lambda x: x + GIVEN),
    "Add behind others": (
        1, lambda b: b("Add", b("PRelu", b("Relu", "image", consumed_inputs=[0]), b.weight(V)), b.weight(V), broadcast=1, axis=1),
        lambda x: x.clip(0) + GIVEN,
    ),
    "Mul by a scalar": (3, lambda b: b("Mul", "image", b.weight(np.array([2], np.float32)), broadcast=1), lambda x: 2 * x),
    "Div with consumed_inputs": (1, lambda b: b("Div", "image", b.weight(V), broadcast=1, axis=1, consumed_inputs=[0, 0]),
                                 lambda x: x / GIVEN),
    "BatchNormalization": (1, batchnorm,
                           lambda x: (x - GIVEN / 2) / np.sqrt(GIVEN**2 + 1 + 0.1) * GIVEN + GIVEN + 1),
    "Gemm": (1, gemm, lambda x: x.reshape(-1, 960) @ np.full((960, 4), 0.01) + np.arange(4)),
    "Dropout": (1, lambda b: b("Relu", b("Dropout", "image", is_test=1, ratio=0.9), consumed_inputs=[0]), lambda x: x.clip(0)),
    "Pad": (1, lambda b: b("Pad", "image", paddings=[0, 0, 1, 2, 0, 0, 3, 4], value=7.0),
            lambda x: np.pad(x, ((0, 0), (0, 0), (1, 3), (2, 4)), constant_values=7)),
    "Concat": (1, lambda b: b("Concat", "image", "image"), lambda x: np.concatenate([x, x], 1)),
    "Cast": (1, lambda b: b("Cast", b("Cast", "image", to="INT32"), to="FLOAT"), np.trunc),
    "LpPool": (1, lambda b: b("LpPool", "image", kernel_shape=[2, 5], strides=[2, 5], p=3.0),
               lambda x: (np.abs(x.reshape(-1, 3, 8, 2, 4, 5)) ** 3).sum((3, 5)) ** (1 / 3)),
    "Upsample": (1, lambda b: b("Upsample", "image", height_scale=2.0, width_scale=3.0, mode="nearest"),
                 lambda x: x.repeat(2, 2).repeat(3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_numbers(case: str) -> None:
    version, build, want = CASES[case]
    b = o.Build(version)
    out = build(b)
    model = b.model(out, ranks={out: (o.FLOAT, [f"d{i}" for i in range(want(IMAGES).ndim)])}, ir_version=3)
    got = to_common_opset(upgrade_old(model))
    assert got.opset_import[0].version == 18
    close(onnxruntime(got.SerializeToString(), {"image": IMAGES})[out], want(IMAGES).astype(np.float32), 1e-5)


def test_newer_models_are_left_alone() -> None:
    model = o.classifier(7)
    assert upgrade_old(model) is model


def test_what_is_not_known_is_refused() -> None:
    b = o.Build(6)
    model = b.model(b("GivenTensorFill", "image", out="out", values=[1.0, 2.0, 3.0]))
    with pytest.raises(GraphError, match=r"GivenTensorFill of an opset before 7.*export again with a newer opset"):
        upgrade_old(model)


def test_export(tmp_path: Path) -> None:
    """pytorch 0.3's form: every initializer an input, too, and a Gemm that says broadcast."""
    b = o.Build(6)
    features = b("Add", b.conv("image", 3, 6, strides=[2, 2]), b.draw(6), broadcast=1, axis=1)
    x = b("Flatten", b("GlobalAveragePool", b("Relu", features)))
    model = b.model(b("Gemm", x, b.draw(6, 5), b.draw(5), broadcast=1, out="scores"), ir_version=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.checker.check_model(model)
    assert {"gradient", "relevance", "pixelwise-tail"} <= set(export_onnx(tmp_path, model).manifest.graphs)
