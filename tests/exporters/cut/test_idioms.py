"""Networks as exporters write them: what a reviewer found refused, wrong or crashing, once each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from xai_exporters import Request, export
from xai_exporters.errors import VerificationError
from xai_exporters.export_result import Export

from xai_deploy import Explainer

from ..running import HEAD_AND_TAIL

RNG = np.random.default_rng(0)
CONV, LINEAR = (RNG.standard_normal(s).astype(np.float32) / 5 for s in ((6, 3, 3, 3), (6, 5)))
STEP = 1e-2


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs, [output], name=f"{op}_{output}", **attributes)


FIRST = node("Conv", ["x", "conv"], "c", pads=[1] * 4)
LAST = [node("GlobalAveragePool", ["f"], "g"), node("Flatten", ["g"], "gf"), node("MatMul", ["gf", "linear"], "y")]
SMOOTH = [node("Tanh", ["d"], "f"), *LAST]


def model(nodes: list[Any], constants: dict[str, Any] | None = None, name: str = "x", kind: int = TensorProto.FLOAT,
          outputs: dict[str, int] | None = None, opset: int = 18) -> onnx.ModelProto:  # fmt: skip
    arrays: dict[str, Any] = {"conv": CONV, "linear": LINEAR, **(constants or {})}
    if kind == TensorProto.FLOAT16:
        arrays |= {k: arrays[k].astype(np.float16) for k in ("conv", "linear")}
    used = {i for n in nodes for i in n.input}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, kind, ["N", 3, 8, 8])],
        [
            helper.make_tensor_value_info(o, kind, ["N", *(f"{o}{i}" for i in range(1, rank))])
            for o, rank in (outputs or {"y": 2}).items()
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in arrays.items() if k in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def exported(folder: Path, proto: onnx.ModelProto, **options: Any) -> Export:
    onnx.save(proto, folder / "net.onnx")
    request = {"split": "c", "input_gradient": True, **options}
    return export(Request(folder / "net.onnx", output_path=folder / "net.xai", **{"preprocess": "none", **request}))


def check_gradient(done: Export, backend: str = "onnxruntime", tolerance: float = 1e-2) -> None:
    """The gradient at the pixels against central differences of the logit, in float32."""
    explainer = Explainer(done.path, backend)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    gradient = explainer.explain(x, "gradient", 0, channels="sum").raw
    direction = np.repeat(rng.standard_normal((2, 1, 8, 8)), 3, axis=1).astype(np.float32)
    ends = [explainer.predict(x + h * direction)[:, 0].astype(np.float64) for h in (STEP, -STEP)]
    numeric = (ends[0] - ends[1]) / (2 * STEP)
    analytic = (gradient * direction[:, 0]).sum(axis=(1, 2))
    assert np.abs(numeric).max() > 1e-3
    np.testing.assert_allclose(analytic, numeric, rtol=0, atol=tolerance * np.abs(numeric).max())


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


EVERYTHING = node("MaxPool", ["t"], "f", kernel_shape=[8, 8])
MODELS = {
    "pads by ConstantOfShape": model(
        [FIRST, node("ConstantOfShape", ["four"], "z", value=helper.make_tensor("v", TensorProto.INT64, [1], [0])),
         node("Concat", ["p", "z"], "p8", axis=0), node("Pad", ["c", "p8"], "d"), *SMOOTH],
        {"four": ints(4), "p": ints(0, 0, 1, 1)},
    ),
    "tf2onnx's slices": model(
        [FIRST, node("Slice", ["c", "s", "e"], "d"), *SMOOTH],
        {"s": ints(0, 0), "e": ints(2**31 - 1, 5), "linear": LINEAR[:5]},
    ),
    "tf2onnx's strided slices": model(
        [FIRST, node("Slice", ["c", "s", "e", "a", "t"], "d"), *SMOOTH],
        {"s": ints(0, 0, 1), "e": ints(10**9, 5, 10**9), "a": ints(0, 1, 2), "t": ints(1, 1, 2), "linear": LINEAR[:5]},
    ),
    "a squeezed binary head": model(
        [FIRST, node("Tanh", ["c"], "f"), *LAST[:2], node("MatMul", ["gf", "linear"], "l"), node("Squeeze", ["l", "m1"], "y")],
        {"linear": LINEAR[:, :1], "m1": ints(1)}, outputs={"y": 1},
    ),
    "AveragePool of opset 19 with dilations": model(
        [FIRST, node("AveragePool", ["c"], "d", kernel_shape=[3, 3], dilations=[1, 1]), *SMOOTH], opset=19,
    ),
    "a Gather that counts in int32": model(
        [FIRST, node("Tanh", ["c"], "t"), node("ReduceMean", ["t", "a"], "m", keepdims=0), node("Reshape", ["m", "m1"], "flat"),
         node("Shape", ["x"], "sx"), node("Gather", ["sx", "z0"], "b"), node("Mul", ["b", "six"], "b6"),
         node("Range", ["z0", "b6", "one"], "q"), node("Reshape", ["q", "r6"], "qq"),
         node("Cast", ["qq"], "qi", to=TensorProto.INT32),
         node("Gather", ["flat", "qi"], "mm"), node("MatMul", ["mm", "linear"], "y")],
        {"a": ints(2, 3), "m1": ints(-1), "z0": np.int64(0), "six": np.int64(6), "one": np.int64(1), "r6": ints(-1, 6)},
    ),
    "a weight called seed": model(
        [FIRST, node("Mul", ["c", "seed"], "d"), *SMOOTH], {"seed": np.float32(2)},
    ),
    "a weight called activation": model(
        [FIRST, node("Mul", ["c", "activation"], "d"), *SMOOTH], {"activation": np.float32(2)},
    ),
    "a pooling window over everything": model(
        # not so large that many values are exactly 1: rounding would decide which one is the largest
        [FIRST, node("Mul", ["c", "small"], "s"), node("Tanh", ["s"], "t"), EVERYTHING, *LAST],
        {"small": np.float32(0.1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("idiom", MODELS)
def test_gradient_of_an_idiom(idiom: str, tmp_path: Path) -> None:
    done = exported(tmp_path, MODELS[idiom])
    assert "gradient" in done.manifest.graphs
    assert not done.manifest.left_out
    for backend in ("onnxruntime", "openvino"):
        check_gradient(done, backend)


@pytest.mark.parametrize("name", ["activation", "gradient", "logits", "target", "seed", "side_0"])
def test_an_image_input_of_the_bundles_own_names(name: str, tmp_path: Path) -> None:
    nodes = [node("Conv", [name, "conv"], "c", pads=[1] * 4), node("Tanh", ["c"], "f"), *LAST]
    check_gradient(exported(tmp_path, model(nodes, name=name)))


def test_a_channels_last_cut_that_is_an_output_too(tmp_path: Path) -> None:
    nodes = [
        FIRST,
        node("Transpose", ["c"], "h", perm=[0, 2, 3, 1]),
        node("Tanh", ["h"], "t"),
        node("LayerNormalization", ["t", "one"], "z"),
        node("ReduceMean", ["z", "a"], "m", keepdims=0),
        node("MatMul", ["m", "linear"], "y"),
    ]
    proto = model(nodes, {"one": np.ones(6, np.float32), "a": ints(1, 2)}, outputs={"y": 2, "t": 4})
    done = exported(tmp_path, proto, split="t", output="y")
    check_gradient(done)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    e = Explainer(done.path, "onnxruntime").explain(x, "hires-cam", 1)
    assert e.outputs["t"].shape == (2, 8, 8, 6)
    assert e.raw.shape == (2, 8, 8)


def test_float32_batch_norm_parameters_beside_a_float16_image(tmp_path: Path) -> None:
    parameters = {k: np.full(6, v, np.float32) for k, v in {"s": 1.5, "b": 0.1, "m": 0.2, "v": 0.8}.items()}
    nodes = [FIRST, node("BatchNormalization", ["c", "s", "b", "m", "v"], "d"), *SMOOTH]
    done = exported(tmp_path, model(nodes, parameters, kind=TensorProto.FLOAT16), input_gradient=False)
    assert "gradient" in done.manifest.graphs


def std_pooling() -> onnx.ModelProto:
    """Its derivative is infinite where a channel is constant: sqrt at 0."""
    dead = CONV * np.array([1, 1, 1, 1, 1, 0], np.float32).reshape(6, 1, 1, 1)
    nodes = [
        FIRST,
        node("Relu", ["c"], "r"),
        node("ReduceMean", ["r", "a"], "mu"),
        node("Sub", ["r", "mu"], "d"),
        node("Mul", ["d", "d"], "dd"),
        node("ReduceMean", ["dd", "a"], "v", keepdims=0),
        node("Sqrt", ["v"], "sd"),
        node("MatMul", ["sd", "linear"], "y"),
    ]
    return model(nodes, {"a": ints(2, 3), "conv": dead})


def test_a_gradient_of_nan_is_left_out_and_said(tmp_path: Path) -> None:
    done = exported(tmp_path, std_pooling(), split="r", input_gradient=False)
    assert set(done.manifest.graphs) == {"head", "tail", "relevance"}
    assert done.manifest.left_out["gradient"].startswith("it gives NaN or infinity on noise images")
    assert {p.name for p in done.path.iterdir()} == {"manifest.json", "head.onnx", "tail.onnx", "relevance.onnx"}


def test_a_gradient_of_nan_that_was_asked_for_fails(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="the gradient graph can't be used: it gives NaN or infinity"):
        exported(tmp_path, std_pooling(), split="r", roles=("gradient",), input_gradient=False)


@pytest.mark.parametrize("steps", ["Reshape", "Transpose", "Add", "Concat"])
def test_scores_that_are_a_map_in_another_order(steps: str, tmp_path: Path) -> None:
    """The scores of anchors, as [A,h,w]: `auto` takes the map from which they are computed, not the scores themselves."""
    nodes = [FIRST, node("Relu", ["c"], "f"), node("Conv", ["f", "anchors"], "a")]
    last = {"Transpose": ["a", "t"], "Add": ["a", "s", "t"], "Concat": ["a", "d", "t"]}.get(steps, ["a"])
    if "d" in last:  # the anchors of two boxes, put together
        nodes += [node("Conv", ["f", "anchors"], "b"), node("Concat", ["a", "b"], "d", axis=1)]
    if "s" in last:
        nodes.append(node("Add", ["a", "offset"], "s"))
    if "t" in last:
        nodes.append(node("Transpose", [last[-2]], "t", perm=[0, 2, 3, 1]))
    nodes.append(node("Reshape", [last[-1], "flat"], "y"))
    constants = {
        "anchors": RNG.standard_normal((2, 6, 1, 1)).astype(np.float32),
        "offset": np.ones((2, 1, 1), np.float32),
        "flat": np.array([0, -1]),
    }
    done = exported(tmp_path, model(nodes, constants), split="auto", task="numbers", roles=HEAD_AND_TAIL)
    [layer] = done.manifest.layers
    assert (layer.name, layer.shape) == ("f", (6, 8, 8))
    check_gradient(done)


def test_a_map_that_is_all_there_is(tmp_path: Path) -> None:
    """With no map before the scores, `auto` still takes theirs."""
    nodes = [FIRST, node("Reshape", ["c", "flat"], "y")]
    done = exported(
        tmp_path, model(nodes, {"flat": np.array([0, -1])}), split="auto", task="numbers", roles=HEAD_AND_TAIL
    )
    [layer] = done.manifest.layers
    assert layer.name == "c"


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("maps", [False, True])
def test_pixels_are_the_last_choice(maps: bool, rounds: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A network without a feature map (an MLP) has only its image, scaled and rounded: `auto` says so. With a map it takes that."""
    nodes = [node("Div", ["x", "d"], "p"), *([node("Round", ["p"], "r")] if rounds else [])]
    image = "r" if rounds else "p"
    first = [node("Conv", [image, "conv"], "c", pads=[1] * 4), node("Relu", ["c"], "f"), *LAST]
    mlp = [
        node("Flatten", [image], "z"),
        node("Gemm", ["z", "w"], "h"),
        node("Relu", ["h"], "a"),
        node("MatMul", ["a", "linear"], "y"),
    ]
    constants = {"d": np.float32(0.1), "w": (RNG.standard_normal((192, 6)) / 14).astype(np.float32)}
    done = exported(
        tmp_path,
        model([*nodes, *(first if maps else mlp)], constants),
        split="auto",
        input_gradient=False,
        roles=HEAD_AND_TAIL,
    )
    [layer] = done.manifest.layers
    assert layer.name == ("f" if maps else image)
    said = "is the image itself, scaled or rounded" in caplog.text
    assert said is not maps
    assert (done.layer_note is not None) is said
