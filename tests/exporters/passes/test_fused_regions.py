"""Regions, 4-bit weights, embeddings and grouped queries of ONNX Runtime's: against its own kernels, on both runtimes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from xai_exporters.errors import GraphError
from xai_exporters.passes.decompose import decompose

from ..vjp.harness import RUNTIMES, Array, check_graph, graph_model, onnxruntime_function, weights

OURS = "com.microsoft"
RNG = np.random.default_rng(4)
W = weights(3)


def network(
    op: str,
    inputs: list[str],
    shape: tuple[int | str, ...],
    constants: dict[str, Array],
    after: list[Any] | None = None,
    outputs: tuple[str, ...] = ("y",),
    **attributes: Any,
) -> onnx.ModelProto:
    node = helper.make_node(op, inputs, list(outputs), domain=OURS, name="node", **attributes)
    model = graph_model([node, *(after or [])], {"x": list(shape)}, constants)
    model.opset_import.append(helper.make_opsetid(OURS, 1))
    return model


def crop(size: tuple[int, int], **attributes: Any) -> onnx.ModelProto:
    """Regions inside, beyond the image, and turned over."""
    rois = np.array([[0.1, 0.2, 0.8, 0.9], [-0.4, 0.1, 1.3, 1.2], [0.9, 0.7, 0.2, 0.1]], np.float32)
    given = {"rois": rois, "images": np.array([2, 0, 2], np.int32), "size": np.array(size, np.int32)}
    return network("CropAndResize", ["x", *given], (3, 2, 5, 7), given, **attributes)


def pooled(shape: tuple[int, int], scale: float) -> onnx.ModelProto:
    """MaxRoiPool of regions inside, partly and wholly beyond the image, turned over, and on halves of pixels."""
    rois = [[2, 1, 2, 9, 7], [0, -4.5, 0.5, 30, 4.5], [2, 9, 7, 2, 1], [1, 40, 40, 60, 60], [0, 2.5, 1.5, 8.5, 9.5]]
    options: dict[str, Any] = {"pooled_shape": list(shape), "spatial_scale": scale}
    node = helper.make_node("MaxRoiPool", ["x", "rois"], ["y"], name="node", **options)
    return graph_model([node], {"x": [3, 2, 8, 7]}, {"rois": np.array(rois, np.float32)})


def bnb(kind: int, block: int, rows: int = 6, columns: int = 32) -> onnx.ModelProto:
    given: dict[str, Array] = {
        "codes": RNG.integers(0, 256, rows * columns // 2).astype(np.uint8),
        "largest": RNG.uniform(0.5, 2, -(-rows * columns // block)).astype(np.float32),
    }
    options: dict[str, Any] = {"K": columns, "N": rows, "block_size": block, "quant_type": kind}
    return network("MatMulBnb4", ["x", *given], ("N", 3, columns), given, **options)


def embedding(quantised: bool, segments: bool = True, places: bool = False) -> onnx.ModelProto:
    tables = {"words": W(9, 8), "places": W(6, 8), "kinds": W(2, 8), "gamma": W(8), "beta": W(8)}
    given: dict[str, Array] = {"ids": RNG.integers(0, 9, (1, 5)).astype(np.int32)}
    if segments:
        given["segment"] = RNG.integers(0, 2, (1, 5)).astype(np.int32)
    names = ["ids", "segment" * segments, "words", "places", "kinds" * segments, "gamma", "beta", ""]
    if quantised:
        used = {name for name in tables if segments or name != "kinds"}
        given |= {name: RNG.integers(0, 256, t.shape).astype(np.uint8) for name, t in tables.items() if name in used}
        given |= {f"{name}_scale": np.array(RNG.uniform(0.01, 0.02), np.float32) for name in used}
        given |= {f"{name}_zero": np.array(RNG.integers(90, 150), np.uint8) for name in used}
        names += [f"{name}_{what}" * (name in used) for what in ("scale", "zero") for name in tables]
    else:
        given |= {name: t for name, t in tables.items() if segments or name != "kinds"}
        if places:
            given["at"] = RNG.integers(0, 6, (1, 5)).astype(np.int32)
            names.append("at")
    op = "QEmbedLayerNormalization" if quantised else "EmbedLayerNormalization"
    add = [helper.make_node("Mul", ["x", "e"], ["y"])]
    constants = {name: np.asarray(value) for name, value in given.items()}
    return network(op, names, ("N", 5, 8), constants, add, ("e", "mask_index"), epsilon=1e-5)


def grouped(heads: int, shared: int, packed: bool = False, rotary: int = 0, **attributes: Any) -> onnx.ModelProto:
    """Tokens [3,5,width] of one input; keys and values are made of it."""
    size = 16
    given: dict[str, Array] = {"lengths": np.full(3, 4, np.int32), "total": np.array(5, np.int32)}
    makes, widths = [], {"q": heads * size, "k": shared * size, "v": shared * size}
    if packed:
        widths = {"q": (heads + 2 * shared) * size}
    for name, width in widths.items():
        given[f"w{name}"] = W(6, width)
        makes.append(helper.make_node("MatMul", ["x", f"w{name}"], [name]))
    names = ["q", "k" * (not packed), "v" * (not packed), "", "", "lengths", "total"]
    if rotary:
        angles = RNG.uniform(0, 3, (8, rotary // 2)).astype(np.float32)
        given |= {"cos": np.cos(angles), "sin": np.sin(angles)}
        names += ["cos", "sin"]
        attributes["do_rotary"] = 1
    options = {"num_heads": heads, "kv_num_heads": shared, **attributes}
    node = helper.make_node("GroupQueryAttention", names, ["y", "pk", "pv"], domain=OURS, name="node", **options)
    model = graph_model([*makes, node], {"x": [3, 5, 6]}, given)
    model.opset_import.append(helper.make_opsetid(OURS, 1))
    return model


CASES = {
    "bilinear": crop((3, 4), extrapolation_value=0.7),
    "nearest": crop((4, 3), mode="nearest"),
    "one position": crop((1, 2)),
    "maxima": pooled((3, 2), 0.5),
    "more bins than pixels": pooled((5, 7), 0.3),
    "NF4": bnb(1, 16),
    "FP4, a block across rows": bnb(0, 64),
    "words": embedding(False),
    "words at places": embedding(False, segments=False, places=True),
    "words in codes": embedding(True),
    "words in codes, no segments": embedding(True, segments=False),
    "grouped": grouped(4, 2),
    "as many keys": grouped(2, 2, scale=0.3),
    "packed, turned": grouped(4, 1, packed=True, rotary=16),
    "turned in pairs": grouped(2, 1, rotary=16, rotary_interleaved=1),
    "capped": grouped(2, 1, softcap=0.5),
}


def written(model: onnx.ModelProto) -> onnx.ModelProto:
    rewritten = ir.from_proto(model)
    assert decompose(rewritten)
    assert all(not node.domain for node in rewritten.graph)
    return ir.to_proto(rewritten)


@pytest.mark.parametrize("name", CASES)
def test_same_result(name: str) -> None:
    model = CASES[name]
    own, again = onnxruntime_function(model, "y"), written(model)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    for batch in (1, 3) if not shape[0] else (shape[0],):
        feeds = {"x": W(batch, *shape[1:])}
        want = own(feeds)
        assert want.any()
        for runtime, function in RUNTIMES.items():
            got = function(again, "y")(feeds)
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max(), err_msg=runtime)


@pytest.mark.parametrize("name", ["bilinear", "maxima", "NF4", "words", "packed, turned"])
def test_gradient(name: str) -> None:
    model = CASES[name]
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    check_graph(written(model), batches=(fixed,) if fixed else (1, 3))


REFUSED = {
    "computed codes": (
        network("MatMulBnb4", ["x", "x", "x"], ("N", 3, 4), {}, K=4, N=4, block_size=4, quant_type=1),
        "its weights are computed; give the file before it was quantised",
    ),
    "padding": (
        network(
            "GroupQueryAttention",
            ["x", "x", "x", "", "", "lengths"],
            (1, 5, 8),
            {"lengths": np.array([2], np.int32)},
            num_heads=1,
            kv_num_heads=1,
        ),
        "its seqlens_k are no constants that name the last token; export the network without padding",
    ),
    "window": (
        network("GroupQueryAttention", ["x"], (1, 5, 9), {}, num_heads=1, kv_num_heads=1, local_window_size=2),
        "it has local_window_size; export the network without it",
    ),
    "crop": (
        network("CropAndResize", ["x", "r", "i", "x"], (1, 2, 5, 5), {"r": W(1, 4), "i": np.zeros(1, np.int32)}),
        "its crop_size is computed; export the network for a fixed size",
    ),
    "tables": (
        network("QEmbedLayerNormalization", ["x", "", "x", "x", "", "x", "x"], (1, 5), {}),
        "its tables are computed; give the file before it was quantised",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    model, message = REFUSED[name]
    with pytest.raises(GraphError, match=f"^node 'node' is com.microsoft.*, which can't be written .*: {message}$"):
        decompose(ir.from_proto(model))


def test_the_graph_is_walked_as_often_however_many_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    def walks(count: int) -> int:
        nodes = [
            helper.make_node("QuickGelu", [f"t{i}" if i else "x"], [f"t{i + 1}"], domain=OURS) for i in range(count)
        ]
        model = graph_model(nodes, {"x": ["N", 3]}, output=f"t{count}")
        model.opset_import.append(helper.make_opsetid(OURS, 1))
        graph, seen, walk = ir.from_proto(model), [0], ir.Graph.__iter__

        def counted(self: ir.Graph) -> Any:
            seen[0] += 1
            return walk(self)

        with monkeypatch.context() as patch:
            patch.setattr(ir.Graph, "__iter__", counted)
            assert decompose(graph)
        return seen[0]

    assert walks(40) == walks(2)
