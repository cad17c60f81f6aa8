"""What a reviewer found: graphs and requests as they occur, each of which once gave something else than it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from xai_exporters import Request, export
from xai_exporters.errors import ExportError, RuleError
from xai_exporters.export_result import Export

from xai_deploy import Explainer

from .. import onnx_nets as o

Change = Callable[[onnx.ModelProto], None]


def exported(tmp_path: Path, model: onnx.ModelProto, **options: Any) -> Export:
    onnx.save(model, tmp_path / "net.onnx")
    return export(
        Request(
            tmp_path / "net.onnx", output_path=tmp_path / "net.xai", overwrite=True, **{"preprocess": "none", **options}
        )
    )


def pixels(path: Path, composite: str = "relevance-cam") -> NDArray[np.float32]:
    """Relevance at the pixels of two images, [2,H,W]."""
    explainer = Explainer(path, "onnxruntime")
    x = np.random.default_rng(0).standard_normal((2, *explainer.bundle.manifest.input.image_shape)).astype(np.float32)
    return explainer.explain(x, "lrp", 1, composite=composite).raw


def test_a_composite_called_after_gradients(tmp_path: Path) -> None:
    (tmp_path / "my-gradient.toml").write_text('base = "epsilon-plus"\n', encoding="utf-8")
    composites = (str(tmp_path / "my-gradient.toml"), "epsilon-plus")
    done = exported(tmp_path, o.classifier(), composite=composites, pixel_relevance=True)
    np.testing.assert_array_equal(pixels(done.path, "my-gradient"), pixels(done.path, "epsilon-plus"))


def test_padding_before_a_first_layer_is_not_in_the_bounds(tmp_path: Path) -> None:
    """z^B gives the same whether the convolution pads or a node before it."""

    def net(node: bool) -> onnx.ModelProto:
        b = o.Build()
        rng = np.random.default_rng(0)
        weight = b.weight(rng.standard_normal((o.CHANNELS, 3, 3, 3)).astype(np.float32))
        if node:
            inner = b("Pad", "image", b.weight(np.array([0, 0, 1, 1, 0, 0, 1, 1])))
            y = b("Conv", inner, weight)
        else:
            y = b("Conv", "image", weight, pads=[1, 1, 1, 1])
        return b.model(b.linear(b.pooled(b("Relu", y)), out="scores"))

    for preset in ("imagenet", "none"):
        maps = []
        for node in (False, True):
            options: dict[str, Any] = {
                "pixel_relevance": True,
                "composite": ("epsilon-gamma-box",),
                "preprocess": preset,
            }
            done = exported(tmp_path, net(node), **options)
            maps.append([pixels(done.path), pixels(done.path, "epsilon-gamma-box")])
        for direct, padded in zip(*maps, strict=True):
            np.testing.assert_allclose(padded, direct, atol=1e-5 * np.abs(direct).max())


def test_a_node_keeps_its_names_through_cuts_and_merges(tmp_path: Path) -> None:
    """[nodes] takes the logits' tensor, which is renamed, and a convolution's that a BatchNormalization was merged into."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    constants: dict[str, NDArray[np.float32]] = {
        "w1": weight(4, 3, 3, 3), "w2": weight(4, 4, 3, 3), "scale": weight(4), "shift": weight(4), "mean": weight(4),
        "variance": np.abs(weight(4)) + np.float32(0.5), "w3": weight(5, 4),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="conv1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2"),
        helper.make_node("BatchNormalization", ["c2", "scale", "shift", "mean", "variance"], ["n2"], name="norm2"),
        helper.make_node("Relu", ["n2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], name="dense", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", 1, ["N", 3, 10, 12])],
        [helper.make_tensor_value_info("y", 1, ["N", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    found: dict[str, NDArray[Any]] = {}
    for name in ("c2", "n2", "conv2", "norm2", "y", "dense"):
        (tmp_path / "mine.toml").write_text(f'[nodes]\n{name} = "flat"\n', encoding="utf-8")
        done = exported(tmp_path, model, split="r1", composite=(str(tmp_path / "mine.toml"),))
        a = np.abs(np.random.default_rng(1).standard_normal((2, 4, 8, 10))).astype(np.float32)
        feeds = {"activation": a, "target": np.array([1, 2]), "seed": np.zeros((2, 5), np.float32)}
        for role in ("relevance", "relevance-mine"):
            session = onnxruntime.InferenceSession((done.path / f"{role}.onnx").read_bytes())
            found[role if role == "relevance" else name] = session.run(["relevance"], feeds)[0]
    for names in (("c2", "n2", "conv2", "norm2"), ("y", "dense")):
        assert np.abs(found[names[0]] - found["relevance"]).max() > 1e-3 * np.abs(found["relevance"]).max()
        for name in names[1:]:
            np.testing.assert_array_equal(found[name], found[names[0]])


def test_only_the_roles_that_were_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("", encoding="utf-8")
    mine = str(tmp_path / "mine.toml")
    for options, roles in (
        ({"roles": ("gradient",), "composite": ("relevance-cam",)}, {"gradient", "relevance"}),
        ({"roles": ("gradient",), "composite": (mine,)}, {"gradient", "relevance-mine"}),
        ({"roles": ("pixel-relevance-mine",), "composite": (mine,)}, {"pixel-relevance-mine"}),
        ({"roles": ("relevance",)}, {"relevance"}),
        ({"roles": ("head",), "pixel_relevance": True}, {"pixel-relevance"}),
        ({"roles": ("relevance",), "pixel_relevance": True}, {"relevance", "pixel-relevance"}),
    ):
        done = exported(tmp_path, o.classifier(), **options)
        assert set(done.manifest.graphs) == {"head", "tail"} | roles
        assert set(done.manifest.composites) == {role for role in roles if "relevance" in role}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[first]\nConv = {rule = "z-box", low = 1, high = -1}', "low lies below high"),
        ('[first]\nConv = {rule = "z-box", low = [0, 0, nan], high = 1}', "low and high are finite numbers"),
        ('[ops]\nConv = {rule = "gamma", gamma = 1e39}', "gamma is a positive number"),
        ('[ops]\nConv = {rule = "gamma", gamma = ' + "9" * 400 + "}", "gamma is a number"),
        ("a = " + "[" * 3000 + "]" * 3000, "not valid TOML"),
    ],
)
def test_wild_values(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ExportError, match=message):
        exported(tmp_path, o.classifier(), composite=(str(tmp_path / "mine.toml"),))


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[ops]\nConv = "flat"\n', encoding="utf-8-sig")
    done = exported(tmp_path, o.classifier(), composite=(str(tmp_path / "mine.toml"),))
    assert done.manifest.composites["relevance-mine"] == "mine"


def test_a_refused_rule_names_its_composite(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[ops]\nConv = "winner-takes-all"\n', encoding="utf-8")
    with pytest.raises(RuleError, match=r"^composite 'mine': Conv"):
        exported(tmp_path, o.classifier(), composite=(str(tmp_path / "mine.toml"),), pixel_relevance=True, split="auto")


def test_epsilon_everywhere_is_gradient_times_input(tmp_path: Path, root: Path) -> None:
    """In a network of layers with biases and ReLUs (Ancona et al. 2018, proposition 2); the file that the docs name for Captum."""
    text = (root / "docs/coming-from/captum.md").read_text(encoding="utf-8")
    (tmp_path / "captum.toml").write_text(text.split("```toml")[1].split("```")[0], encoding="utf-8")
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> str:
        return b.weight((rng.standard_normal(shape) / 2).astype(np.float32))

    b = o.Build()
    y = b("Relu", b("Conv", "image", drawn(o.CHANNELS, 3, 3, 3), drawn(o.CHANNELS)))
    y = b("Relu", b("ConvTranspose", y, drawn(o.CHANNELS, o.CHANNELS, 2, 2), drawn(o.CHANNELS)))
    model = b.model(b.linear(b.pooled(y), out="scores"))
    composite = (str(tmp_path / "captum.toml"),)
    done = exported(tmp_path, model, composite=composite, pixel_relevance=True, input_gradient=True)
    explainer = Explainer(done.path, "onnxruntime")
    x = np.random.default_rng(1).standard_normal((2, *explainer.bundle.manifest.input.image_shape)).astype(np.float32)
    want = explainer.explain(x, "input-x-gradient", 1).raw
    found = explainer.explain(x, "lrp", 1, composite="captum").raw
    np.testing.assert_allclose(found, want, atol=2e-3 * np.abs(want).max())
    other = explainer.explain(x, "lrp", 1, composite="relevance-cam").raw
    assert np.abs(other - want).max() > 0.1 * np.abs(want).max()
