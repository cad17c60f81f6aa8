"""--list-layers: shares of multiply-adds computed by hand; every cut that is listed can be exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from xai_exporters import export, list_layers
from xai_exporters.cli import main
from xai_exporters.cut.costs import multiply_adds
from xai_exporters.passes.clean import clean

from .. import nets
from .. import onnx_nets as o
from ..checks import check_bundle, forward, source_reference
from ..running import HEAD_AND_TAIL, dynamo_onnx, export_onnx, layers_of, onnx_request, torch_request


def test_shares_of_a_plain_network(tmp_path: Path) -> None:
    """conv1: 3*3*3*4 at 8x10; conv2: 4*3*3*6 at 8x10; fc: 6*5."""
    conv1, conv2, fc = 108 * 80, 216 * 80, 30
    total = conv1 + conv2 + fc
    rows = layers_of(tmp_path, nets.randomise(nets.Plain()))
    assert [(r.names, r.op, r.shape, r.sides) for r in rows] == [
        (("bn1",), "Conv", (4, 8, 10), ()),
        (("relu",), "Relu", (4, 8, 10), ()),
        (("conv2",), "Conv", (6, 8, 10), ()),
    ]
    assert [r.before for r in rows] == pytest.approx([conv1 / total, conv1 / total, (conv1 + conv2) / total], abs=1e-12)
    assert [r.after for r in rows] == pytest.approx([1 - r.before for r in rows], abs=1e-12)


def test_shares_of_a_residual_block(tmp_path: Path) -> None:
    """stem 3*9*4 at 8x10, conv1 and conv2 4*9*4 at 8x10, last 4*9*6 at 8x10, fc 6*5: what passes beside counts before."""
    stem, conv, last, fc = 108 * 80, 144 * 80, 216 * 80, 30
    total = stem + 2 * conv + last + fc
    rows = {r.names[0]: r for r in list_layers(onnx_request(tmp_path, o.residual()))}
    inner = rows["layer1.0.conv1"]
    assert inner.sides == ((4, 8, 10),)
    assert inner.before == pytest.approx((stem + conv) / total, abs=1e-12)
    assert inner.after == pytest.approx((conv + last + fc) / total, abs=1e-12)
    assert rows["layer1"].names == ("layer1", "layer1.0")
    assert rows["layer1"].tensor == "/layer1/layer1.0/Add_out"
    assert rows["layer1"].after == pytest.approx((last + fc) / total, abs=1e-12)


@pytest.mark.parametrize(
    ("op", "weight", "attributes", "image", "count"),
    [
        ("Conv", (4, 3, 3, 5), {}, (3, 7, 9), 4 * 3 * 15 * 5 * 5),
        ("Conv", (6, 1, 3, 3), {"group": 3}, (3, 7, 9), 6 * 9 * 5 * 7),
        ("ConvTranspose", (3, 4, 2, 2), {"strides": [2, 2]}, (3, 7, 9), 3 * 4 * 4 * 7 * 9),
        ("MatMul", (9, 5), {}, (3, 7, 9), 3 * 7 * 9 * 5),
    ],
)
def test_multiply_adds(op: str, weight: Any, attributes: Any, image: tuple[int, ...], count: int) -> None:
    b = o.Build()
    out = b(op, "image", b.draw(*weight), name="node", **attributes)
    flat = b("Flatten", out, out="out")
    cleaned = clean(b.model(flat, shape=("N", *image)), None)
    assert {n.op_type: multiply_adds(n, cleaned) for n in cleaned.graph} == {op: count, "Flatten": 0}


def test_products_of_integers_count() -> None:
    """Of quantize_dynamic: 4 kernels of 3*3*3 at 5x7 positions, then 140 -> 5."""
    b = o.Build()
    pixels, scale, zero = "pixels", "scale", "zero"
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", ["image"], [pixels, scale, zero]))
    kernel = b.weight(np.ones((4, 3, 3, 3), np.int8))
    seen = b("Cast", b("ConvInteger", pixels, kernel, zero), to=o.FLOAT)
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", [b("Flatten", seen)], ["flat", "scale2", "zero2"]))
    scores = b("MatMulInteger", "flat", b.weight(np.ones((140, 5), np.int8)), "zero2")
    cleaned = clean(b.model(b("Cast", scores, to=o.FLOAT, out="scores"), shape=("N", 3, 7, 9)), None)
    counts = {n.op_type: multiply_adds(n, cleaned) for n in cleaned.graph}
    assert counts["ConvInteger"] == 4 * 27 * 35
    assert counts["MatMulInteger"] == 140 * 5


def test_multiply_adds_of_gemm() -> None:
    model = o.classifier()
    cleaned = clean(model, None)
    assert [multiply_adds(n, cleaned) for n in cleaned.graph if n.op_type == "Gemm"] == [6 * 5]


def test_every_listed_cut_can_be_exported(tmp_path: Path) -> None:
    net = nets.randomise(nets.Residual())
    model = dynamo_onnx(net, tmp_path)
    request = onnx_request(tmp_path, model, overwrite=True, roles=HEAD_AND_TAIL)
    rows = list_layers(request)
    assert len(rows) == 12
    for row in rows:
        for name in (*row.names, row.tensor):
            manifest = export(replace(request, split=name)).manifest
            assert (manifest.target.tensor, manifest.target.shape) == (row.tensor, row.shape)
            assert tuple(s.shape for s in manifest.side) == row.sides
        check_bundle(tmp_path / "net.xai", forward(net, manifest.outputs[0].name))


def test_listed_names_of_a_torch_network(tmp_path: Path) -> None:
    """Tapped, so exported anew: the listed shape and side tensors are those of the cut."""
    net = nets.randomise(nets.Dense())
    for row in layers_of(tmp_path, net)[::4]:
        manifest = export(
            torch_request(tmp_path, net, split=row.names[0], overwrite=True, roles=HEAD_AND_TAIL)
        ).manifest
        assert (manifest.target.shape, tuple(s.shape for s in manifest.side)) == (row.shape, row.sides)


def test_every_cut_of_channels_last_and_quantised_networks(tmp_path: Path) -> None:
    for model in (o.channels_last(), o.quantised(), o.keras()):
        for row in list_layers(onnx_request(tmp_path, model)):
            done = export_onnx(tmp_path, model, split=row.tensor, overwrite=True, roles=HEAD_AND_TAIL)
            assert done.manifest.target.shape == row.shape
            codes = row.op == "DequantizeLinear" or model.graph.output[0].name == "out"
            check_bundle(done.path, source_reference(model, by_runtime=codes), tolerance=0.02 if codes else 1e-5)


@pytest.mark.parametrize("kind", ["a linear layer of pixels", "one position", "codes alone"])
def test_a_network_without_any_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """`auto` does not advise a list that is empty, and the list says why it is."""
    b = o.Build()
    if kind == "a linear layer of pixels":
        x = b("Gemm", b("Flatten", "image"), b.draw(960, nets.CLASSES), out="scores")
    elif kind == "one position":
        x = b.linear(b("Flatten", b("Conv", "image", b.draw(o.CHANNELS, 3, 16, 20))), out="scores")
    else:
        scale, zero = b.weight(np.float32(0.01)), b.weight(np.uint8(128))
        codes = b("QuantizeLinear", "image", scale, zero)
        flat = b(
            "DequantizeLinear", b("Flatten", b("MaxPool", codes, kernel_shape=[2, 2], strides=[2, 2])), scale, zero
        )
        x = b("Gemm", flat, b.draw(240, nets.CLASSES), out="scores")
    request = onnx_request(tmp_path, b.model(x))
    assert list_layers(request) == []
    done = export(request)
    assert list(done.manifest.graphs) == ["network"]
    assert done.layer_note is not None
    assert "the network can't be cut anywhere: " in done.layer_note
    assert "--list-layers" not in done.layer_note
    assert main([str(request.source), "--list-layers"]) == 0
    assert capsys.readouterr().out.startswith("The network can't be cut anywhere: ")
