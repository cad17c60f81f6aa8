"""Networks that are cut at several layers: against torch's hooks, and against bundles that are cut at one of them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from xai_exporters import Request, export
from xai_exporters.errors import ExportError, LayerError

from xai_deploy import Explainer, Explanation, write_image
from xai_deploy.cli.check import main as check
from xai_deploy.cli.evaluate import main as evaluate
from xai_deploy.cli.explain import main as explain
from xai_deploy.errors import ManifestError, NotApplicableError, OptionError
from xai_deploy.format.bundle import Bundle, parse_manifest

from ..exporters import nets, onnx_nets
from ..exporters.checks import Runner, close, onnxruntime, open_vino
from ..exporters.running import both_ways, export_torch, onnx_request
from ..networks.outputs import nets as outputs

Array = NDArray[np.float32]
LAYERS = ("a", "b", "c", "d", "e")
CAMS = (
    *("grad-cam", "grad-cam++", "hires-cam", "layer-cam", "xgrad-cam", "relevance-cam", "reciprocam", "score-cam"),
    *("ablation-cam", "eigen-cam", "eigen-grad-cam", "group-cam"),
)
X = np.random.default_rng(3).standard_normal((3, *nets.SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def net() -> nets.Branched:
    module = nets.randomise(nets.Branched(), seed=4)
    assert isinstance(module, nets.Branched)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, net: nets.Branched) -> Path:
    """`all.xai`, cut at all layers, which are named in another order than the graph's; and one bundle for each layer."""
    folder = tmp_path_factory.mktemp("layers")
    request = onnx_request(folder, both_ways(net, False, nets.SHAPE))
    for name, split in (("all", "c,a, d,b,e"), *((layer, layer) for layer in LAYERS)):
        export(Request(request.source, split=split, output_path=folder / f"{name}.xai", preprocess="none"))
    return folder


def hooked(net: nets.Branched, x: Array, seed: Array) -> dict[str, tuple[Array, Array]]:
    """Layer -> activation and d(seed . logits)/d(activation), by autograd in float64."""
    double = nets.Branched().double().eval()
    double.load_state_dict(net.state_dict())
    seen: dict[str, torch.Tensor] = {}
    for layer in LAYERS:

        def keep(_module: object, _given: object, out: torch.Tensor, layer: str = layer) -> None:
            out.retain_grad()
            seen[layer] = out

        getattr(double, layer).register_forward_hook(keep)
    logits = double(torch.from_numpy(x).double())
    (logits * torch.from_numpy(seed)).sum().backward()
    return {layer: (out.detach().numpy(), np.asarray(out.grad)) for layer, out in seen.items()}


@pytest.mark.parametrize("runtime", [onnxruntime, open_vino])
@pytest.mark.parametrize("batch", [1, 3])
def test_gradients_in_one_pass(folder: Path, net: nets.Branched, runtime: Runner, batch: int) -> None:
    bundle, seed = Bundle.open(folder / "all.xai"), np.random.default_rng(5).standard_normal((batch, nets.CLASSES))
    assert [layer.name for layer in bundle.manifest.layers] == list(LAYERS)
    between = runtime(bundle.graph("head"), {bundle.manifest.input.name: X[:batch]})
    graph = bundle.manifest.graphs["gradient"]
    assert [port.name for port in graph.takes] == ["activation", "target", "seed"]  # all others lie after the first one
    feeds = {"activation": between["activation"], "target": np.full(batch, -2), "seed": seed.astype(np.float32)}
    back = runtime(bundle.graph("gradient"), feeds)
    for level, (activation, gradient) in enumerate(hooked(net, X[:batch], seed.astype(np.float32)).values()):
        suffix = f"_{level}" if level else ""
        close(between[f"activation{suffix}"], activation)
        close(back[f"gradient{suffix}"], gradient)


@pytest.mark.parametrize(("backend", "batch"), [("onnxruntime", 1), ("onnxruntime", 3), ("openvino", 3)])
def test_each_layer_as_alone(folder: Path, backend: str, batch: int) -> None:
    """Every method gives at each layer what it gives in a bundle that is cut there alone."""
    every = Explainer(folder / "all.xai", backend)
    together = every.explain_many(X[:batch], CAMS, [2, "1 vs 3"])
    for level, layer in enumerate(LAYERS):
        alone = Explainer(folder / f"{layer}.xai", backend).explain_many(X[:batch], CAMS, [2, "1 vs 3"])
        for got, want in zip(together, alone, strict=True):
            assert [one.layer.name for one in got.layers] == list(LAYERS)
            assert got.layers[level].raw.shape == want.raw.shape
            scale = np.abs(want.raw).max()
            np.testing.assert_allclose(got.layers[level].raw, want.raw, rtol=0, atol=2e-5 * scale, err_msg=got.method)
            np.testing.assert_allclose(got.layers[level].heatmaps(*nets.SIZE), want.heatmap, rtol=0, atol=1e-3)
            assert got.layers[level].constant == want.constant
            np.testing.assert_allclose(got.logits, want.logits, rtol=0, atol=1e-5)
    [chosen] = every.explain_many(X[:batch], [("grad-cam", {"layer": "c"})], [2])
    np.testing.assert_array_equal(chosen.raw, together[0].layers[2].raw)
    assert (chosen.network.layer.name, chosen.layers) == ("c", ())


def resized(raw: Array) -> Array:
    return interpolate(torch.from_numpy(raw)[:, None], nets.SIZE, mode="bilinear")[:, 0].numpy()


@pytest.mark.parametrize("combine", ["max", "mean", "sum"])
@pytest.mark.parametrize("method", ["grad-cam", "hires-cam"])
def test_put_together(folder: Path, method: str, combine: str) -> None:
    """Each map scaled by itself, then the maximum (of signed maps the value farthest from 0), mean or sum."""
    e = Explainer(folder / "all.xai").explain(X, method, 1, combine=combine)
    assert e.options["combine"] == combine
    scaled = []
    for one in e.layers:
        values = resized(one.raw)
        if not e.signed[0]:
            values = values - values.min(axis=(1, 2), keepdims=True)
        largest = np.abs(values).max(axis=(1, 2), keepdims=True)
        scaled.append(values / np.where(largest > 0, largest, 1))
    stack = np.stack(scaled)
    flat = stack.reshape(len(stack), -1)
    farthest = flat[np.abs(flat).argmax(axis=0), np.arange(flat.shape[1])].reshape(stack.shape[1:])
    want = {"max": farthest, "mean": stack.mean(axis=0), "sum": stack.sum(axis=0)}[combine]
    np.testing.assert_allclose(e.raw, want, rtol=0, atol=1e-5)
    low, high = want.min(axis=(1, 2), keepdims=True), want.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(e.heatmap, (want - low) / (high - low), rtol=0, atol=1e-4)


FUSED = (
    *(
        "grad-cam",
        "reciprocam:combine=mean",
        "score-cam",
        "relevance-cam",
        "layer-cam:combine=sum",
        "hires-cam:layer=c",
    ),
    "xgrad-cam:layer=3",
)


@pytest.fixture(scope="module")
def fused_bundle(tmp_path_factory: pytest.TempPathFactory, net: nets.Branched) -> Path:
    folder = tmp_path_factory.mktemp("fused")
    request = onnx_request(folder, both_ways(net, False, nets.SHAPE))
    source = Request(request.source, split="e,a,c", fuse=FUSED, output_path=folder / "n.xai", preprocess="none")
    return export(source).path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("given", FUSED)
def test_fused(fused_bundle: Path, backend: str, given: str) -> None:
    """The map of all layers, or of one, is the engine's; a layer is named by its number, in the network's order, too."""
    explainer = Explainer(fused_bundle, backend)
    method, _, option = given.partition(":")
    key, _, value = option.partition("=")
    named: dict[str, object] = {key: int(value) if value.isdigit() else value} if key else {}
    for count in (1, 3):
        want = explainer.explain(X[:count], method, [2, 1, 0][:count], **named)
        assert want.raw.shape[1:] == (nets.SIZE if key != "layer" else want.raw.shape[1:])
        feeds = {explainer.bundle.manifest.input.name: X[:count], "target": np.array([2, 1, 0][:count])}
        got = outputs.fused(fused_bundle / f"fused-{method}.onnx", feeds, backend)
        np.testing.assert_allclose(got, outputs.stretched(want.raw), rtol=0, atol=1e-4)
    notes = {note.key: note.value for note in onnx.load(fused_bundle / f"fused-{method}.onnx").metadata_props}
    assert json.loads(notes["xai_options"]).get(key) == (value if key else None)


def test_saved(folder: Path, tmp_path: Path) -> None:
    e = Explainer(folder / "all.xai").explain(X, "layer-cam")
    assert "max of 5 layers" in repr(e)
    e.save(tmp_path / "saved")
    again = Explanation.load(tmp_path / "saved")
    assert [one.layer for one in again.layers] == [one.layer for one in e.layers]
    for one, other in zip(again.layers, e.layers, strict=True):
        np.testing.assert_array_equal(one.raw, other.raw)


def test_channels_last(tmp_path: Path) -> None:
    """Layers in another layout: inside the graph, each is made as the head gives it. Bundles with random weights have them all."""
    request = onnx_request(tmp_path, onnx_nets.channels_last(), split="norm,tokens", randomise=1)
    done = export(request)
    assert done.randomised[0].manifest.layers == done.manifest.layers
    both = Explainer(tmp_path / "net.xai").explain(X, "hires-cam", 1)
    for level, layer in enumerate(("norm", "tokens")):
        export(Request(request.source, split=layer, output_path=tmp_path / f"{layer}.xai", preprocess="none"))
        alone = Explainer(tmp_path / f"{layer}.xai").explain(X, "hires-cam", 1)
        np.testing.assert_allclose(both.layers[level].raw, alone.raw, rtol=0, atol=1e-5 * np.abs(alone.raw).max())


def test_refused_by_methods(folder: Path) -> None:
    every, one = Explainer(folder / "all.xai"), Explainer(folder / "e.xai")
    with pytest.raises(NotApplicableError, match=r"^cam: this bundle has no 'pixelwise-tail' graph at a; "):
        every.explain(X, "cam")
    assert every.explain(X, "cam", layer="e").raw.shape == (3, 4, 5)
    with pytest.raises(OptionError, match=r"^no layer 'f': the bundle has a, b, c, d, e"):
        every.explain(X, "grad-cam", layer="f")
    with pytest.raises(OptionError, match=r"^grad-cam: layer=a gives one map; leave combine out"):
        every.explain(X, "grad-cam", layer="a", combine="mean")
    with pytest.raises(OptionError, match=r"^grad-cam: combine is max, mean, sum, not 'min'"):
        every.explain(X, "grad-cam", combine="min")
    with pytest.raises(
        OptionError, match=r"^combine puts the maps of several layers together, and this bundle has one, e"
    ):
        one.explain(X, "grad-cam", combine="mean")


@pytest.mark.parametrize(
    ("split", "options", "says"),
    [
        ("a,f", {}, "no layer 'f'"),
        ("a,b,a", {}, "--split a,b,a: 'a' twice; name each layer once"),
        ("a,/a/a.1/Relu", {}, "'a' and '/a/a.1/Relu', which are one tensor; name each layer once"),
        ("a,,b", {}, "--split a,,b: a layer without a name; name each layer"),
        ("auto,a", {}, "auto, which is one layer, beside others; name each layer"),
        ("a,fc", {}, "'fc'"),
        ("a,e", {"fuse": ("grad-cam:layer=b",)}, "--fuse grad-cam: no layer 'b': --split names a, e (or their numbers"),
        (
            "a",
            {"fuse": ("grad-cam:combine=mean",)},
            "combine puts the maps of several layers together, and --split names one",
        ),
        ("a,e", {"fuse": ("grad-cam:combine=min",)}, "grad-cam: combine is max, mean, sum, not 'min'"),
        ("a,e", {"fuse": ("grad-cam:combine=max:layer=a",)}, "grad-cam: layer=a gives one map; leave combine out"),
        ("a,e", {"fuse": ("lrp:combine=max",)}, "combine"),
    ],
)
def test_refused(folder: Path, tmp_path: Path, split: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(ExportError) as error:
        export(Request(folder / "net.onnx", split=split, output_path=tmp_path / "x.xai", preprocess="none", **options))  # type: ignore[arg-type]
    assert says in str(error.value)
    assert not list(tmp_path.iterdir())


def test_comma_in_a_name(tmp_path: Path) -> None:
    r"""A tensor may be called "x,y": alone it is itself; among others its comma is written "\,"."""
    model = onnx_nets.residual()
    text = model.SerializeToString()
    for node in model.graph.node:
        node.output[:] = ["lay,er" if name == "/layer2/conv/Conv_out" else name for name in node.output]
        node.input[:] = ["lay,er" if name == "/layer2/conv/Conv_out" else name for name in node.input]
    assert model.SerializeToString() != text
    request = onnx_request(tmp_path, model, split="lay,er")
    assert export(request).manifest.target.tensor == "lay,er"
    several = Request(
        request.source, split=r"lay\,er,/layer1/layer1.0/Add_out", output_path=tmp_path / "two.xai", preprocess="none"
    )
    assert [layer.tensor for layer in export(several).manifest.layers] == ["/layer1/layer1.0/Add_out", "lay,er"]
    with pytest.raises(LayerError, match="no layer 'lay'"):
        export(Request(request.source, split="lay,er,stem", output_path=tmp_path / "x.xai", preprocess="none"))


def test_manifest(folder: Path) -> None:
    """Bundles of one layer say nothing of levels; those of several require a reader that knows them."""
    one, several = (json.loads((folder / f"{name}.xai/manifest.json").read_text()) for name in ("a", "all"))
    assert "levels" not in one
    assert one["requires"] == []
    assert several["requires"] == ["levels"]
    assert (folder / "all.xai/tail.onnx").read_bytes() == (folder / "a.xai/tail.onnx").read_bytes()


@pytest.mark.parametrize(
    ("net", "target"),
    [(outputs.UNet("transposed"), "0@4,4,8,8"), (outputs.Embedding(unit=True), np.ones(6, np.float32))],
)
def test_regions_and_embeddings(tmp_path: Path, net: torch.nn.Module, target: Any) -> None:
    """Beside a skip connection, with regions, and with a vector as target: at each layer as alone."""
    source, x = outputs.saved(net, tmp_path / "net.onnx"), outputs.images(2)
    layers = ["/Relu", "/Relu_1", "/Relu_2"][: 3 if isinstance(net, outputs.UNet) else 2]
    size = (3, *outputs.SIZE)
    together = Request(source, ",".join(layers), tmp_path / "all.xai", preprocess="none", input_shape=size)
    methods = ("grad-cam", "relevance-cam", "reciprocam")
    all_layers = Explainer(export(together).path).explain_many(x, methods, [target])
    for level, layer in enumerate(layers):
        one = Request(source, layer, tmp_path / f"{level}.xai", preprocess="none", input_shape=size)
        for got, want in zip(
            all_layers,
            Explainer(export(one).path).explain_many(x, methods, [target]),
            strict=True,
        ):
            scale = np.abs(want.raw).max()
            np.testing.assert_allclose(got.layers[level].raw, want.raw, rtol=0, atol=2e-5 * scale, err_msg=got.method)


def test_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture per layer, or of all together; rows for each layer and for all together; the commands' reports name every layer."""
    photos, bundle = tmp_path / "photos", str(folder / "all.xai")
    photos.mkdir()
    for i in range(2):
        write_image(photos / f"{i}.png", np.random.default_rng(i).integers(0, 256, (24, 30, 3), dtype=np.uint8))
    given = [bundle, str(photos), "-t", "1", "--no-report"]
    assert explain([*given, "-m", "layer-cam,occlusion", "--combine", "each", "-o", str(tmp_path / "each")]) == 0
    pictures = [path.name for path in (tmp_path / "each").glob("0--*.png")]
    assert sorted(pictures) == [*(f"0--layer-cam+layer={layer}--1.png" for layer in LAYERS), "0--occlusion--1.png"]
    assert explain([*given, "-m", "layer-cam", "--combine", "mean", "-o", str(tmp_path / "mean")]) == 0
    report = json.loads((tmp_path / "mean/results.json").read_text())
    assert report["bundle"]["layer"] == "a, 8 x 10; b, 8 x 10; c, 4 x 5; d, 4 x 5; e, 4 x 5"
    capsys.readouterr()
    one = str(folder / "a.xai")
    assert explain([one, str(photos), "--combine", "mean", "-o", str(tmp_path / "x")]) == 2
    assert "this bundle has one, a" in capsys.readouterr().err
    given = ["-m", "grad-cam,cam,occlusion", "--metrics", "complexity"]
    assert evaluate([bundle, str(photos), *given, "-o", str(tmp_path / "scores")]) == 0
    told = capsys.readouterr().out
    rows = [line.split()[0] for line in told.splitlines() if line.startswith(("grad-cam", "cam", "occlusion"))]
    assert rows == [
        *(f"grad-cam+layer={layer}" for layer in LAYERS),
        "grad-cam+combine=max",
        "cam+layer=e",
        "occlusion",
    ]
    assert check([bundle, bundle, str(photos), "-m", "grad-cam"]) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["graphs"].pop("tail-2"), "the graph 'tail-2' is missing"),
        (lambda d: d["levels"][0]["layer"].update(shape=[4, 8, 11]), "the tensors that the head gives differ"),
        (lambda d: d["levels"][0]["layer"].update(shape=[4, 0, 10]), "sizes must be positive"),
        (lambda d: d["levels"][1].update(side=[]), "the tensors that the head gives differ"),
        (lambda d: d.update(levels=d["levels"] * 20), "manifest.levels: 81 layers are more than the 32"),
        (lambda d: d["graphs"]["gradient"]["gives"][-1].update(shape=[1, 1, 1]), "has 'gradient_4' of shape"),
        (lambda d: d["graphs"]["tail-1"]["takes"].pop(0), "the graph 'tail-1' takes no 'activation_1'"),
    ],
)
def test_wrong_levels(folder: Path, change: Any, says: str) -> None:
    """A manifest whose layers contradict its graphs is refused."""
    document = json.loads((folder / "all.xai/manifest.json").read_text())
    change(document)
    blank = json.dumps({**document, "digest": ""}, indent=1)
    digest = hashlib.sha256(blank.encode()).hexdigest()
    with pytest.raises(ManifestError, match=re.escape(says)):
        parse_manifest(blank.replace('"digest": ""', f'"digest": "{digest}"').encode())


def test_modules_of_a_live_network(tmp_path: Path) -> None:
    """Each module's output is tapped, and its tensor is called after it."""
    done = export_torch(tmp_path, nets.randomise(nets.Residual()), split="layer2,stem,layer1.0.bn2")
    names = ["stem", "layer1.0.bn2", "layer2"]
    assert [(layer.asked, layer.tensor) for layer in done.manifest.layers] == list(zip(names, names, strict=True))
    assert done.manifest.outputs[0].name == "output"
    assert len(done.manifest.outputs) == 1
    assert "relevance" in done.manifest.graphs


def test_relevance_that_asks_which_input_leads_to_the_layer(folder: Path, tmp_path: Path) -> None:
    """A rule may give all relevance to the first input on the path to the layer: layers whose paths differ have own walks."""
    (tmp_path / "first.toml").write_text('base = "none"\n[ops]\nConv = "z-plus"\nGemm = "z-plus"\nAdd = "pass"\n')
    raw = []
    for split in ("a,b", "b"):
        path = tmp_path / f"{split}.xai"
        composite = (str(tmp_path / "first.toml"),)
        export(
            Request(
                folder / "net.onnx", split, path, preprocess="none", roles=("relevance-first",), composite=composite
            )
        )
        raw.append(Explainer(path).explain(X, "relevance-cam", 2, composite="first", layer="b").raw)
    assert np.abs(raw[1]).max() > 0
    np.testing.assert_allclose(raw[0], raw[1], rtol=0, atol=2e-5 * np.abs(raw[1]).max())
