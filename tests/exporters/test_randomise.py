"""Bundles with random weights: which weights, which numbers, what stays; that all appear or none.

Looked at from outside: the arrays of the written graphs against the source's, by the names that these have there.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from onnx import numpy_helper
from xai_exporters import Export, Request, export
from xai_exporters.bundle import places
from xai_exporters.bundle.verify import verify
from xai_exporters.cli import main
from xai_exporters.errors import OutputError, RequestError, VerificationError

from tests.support.smaller import thin
from xai_deploy import Explainer
from xai_deploy.format.bundle import Bundle
from xai_deploy.format.randomised import Randomised

from . import nets
from . import onnx_nets as o
from .running import HEAD_AND_TAIL, export_onnx, export_torch, left_behind, onnx_request

Arrays = dict[str, NDArray[Any]]


def arrays_of(*models: onnx.ModelProto | bytes) -> Arrays:
    """All initializers by name."""
    loaded = [onnx.load_from_string(m) if isinstance(m, bytes) else m for m in models]
    return {t.name: numpy_helper.to_array(t) for m in loaded for t in m.graph.initializer}


def weights_of(bundle: Path, names: set[str]) -> Arrays:
    """What head and tail hold of the source's initializers."""
    opened = Bundle.open(bundle)
    found = arrays_of(opened.graph("head"), opened.graph("tail"))
    assert names <= found.keys()
    return {name: found[name] for name in names}


def changed(before: Mapping[str, NDArray[Any]], after: Mapping[str, NDArray[Any]]) -> set[str]:
    return {name for name in before if not np.array_equal(before[name], after[name])}


def bytes_of(bundle: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(bundle.iterdir())}


def run_onnx(model: onnx.ModelProto | bytes, images: NDArray[Any]) -> NDArray[Any]:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


# By hand: the layers' initializers from the output to the input, as `onnx_nets` numbers them.
CASCADES: dict[str, tuple[Callable[[], onnx.ModelProto], list[set[str]]]] = {
    "classifier": (o.classifier, [{"w4", "w5"}, {"w2", "w3"}, {"w0", "w1"}]),
    "residual": (o.residual, [{"w8", "w9"}, {"w6", "w7"}, {"w4", "w5"}, {"w2", "w3"}, {"w0", "w1"}]),
    "keras": (o.keras, [{"w5", "w6"}, {"w2", "w3"}, {"w0", "w1"}]),
    "channels_last": (o.channels_last, [{"w9"}, {"w6", "w7"}, {"w4", "w5"}, {"w2", "w3"}, {"w0", "w1"}]),
}


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("which", CASCADES)
def test_cascade(tmp_path: Path, which: str, steps: int) -> None:
    """Each step: the layers nearest the logits changed, all others bit by bit the source's; as before what was random before."""
    build, layers = CASCADES[which]
    source = arrays_of(build())
    names = set().union(*layers)
    done = export_onnx(tmp_path, build(), randomise=steps, roles=HEAD_AND_TAIL)
    assert changed(source, {**source, **weights_of(done.path, names)}) == set()
    earlier: Arrays = {}
    for step, one in enumerate(done.randomised, 1):
        assert one.path == tmp_path / f"net.randomised-{step}-of-{steps}.xai"
        count = math.ceil(step * len(layers) / steps)
        got = weights_of(one.path, names)
        assert changed({n: source[n] for n in names}, got) == set().union(*layers[:count])
        assert changed(earlier, got) == set()
        earlier = {n: got[n] for layer in layers[:count] for n in layer}
        random = Bundle.open(one.path).manifest.randomised
        assert random is not None
        assert (random.step, random.of, random.seed, len(random.layers)) == (step, steps, 0, count)
    assert earlier.keys() == names
    assert left_behind(tmp_path) == sorted(p.name for p in (done.path, *(one.path for one in done.randomised)))


def test_all_graphs_have_the_random_weights(tmp_path: Path) -> None:
    """Gradient and relevance graphs are cut from the same network: they give its logits, and hold its weights."""
    options = {"input_gradient": True, "guided": True, "pixel_relevance": True}
    done = export_onnx(tmp_path, o.residual(), randomise=1, **options)
    [one] = done.randomised
    own = arrays_of(o.residual())
    bundle = Bundle.open(one.path)
    assert {"gradient", "relevance", "input-gradient", "guided-gradient", "pixel-relevance"} <= set(
        bundle.manifest.graphs
    )
    for role in bundle.manifest.graphs:
        held = arrays_of(bundle.graph(role)).values()
        assert not any(np.array_equal(a, b) for a in own.values() for b in held), role
    assert bundle.manifest.randomised == Randomised(
        1, 1, 0, ("fc", "layer2.conv", "layer1.0.conv2", "layer1.0.conv1", "stem"), done.manifest.network
    )
    assert bundle.manifest.name == "net (randomised 1 of 1)"


@pytest.mark.parametrize("which", ["residual", "keras", "channels_last"])
def test_predictions(tmp_path: Path, which: str) -> None:
    """The bundle gives what the source gives with the bundle's weights in the place of its own."""
    build, layers = CASCADES[which]
    done = export_onnx(tmp_path, build(), randomise=2, roles=HEAD_AND_TAIL)
    own = run_onnx(build(), images := images_of(done))
    for one in done.randomised:
        whole = build()
        new = weights_of(one.path, set().union(*layers))
        for tensor in whole.graph.initializer:
            if tensor.name in new:
                tensor.CopyFrom(numpy_helper.from_array(new[tensor.name], tensor.name))
        want = run_onnx(whole, images)
        explainer = Explainer(one.path, "onnxruntime")
        logits = explainer.predict(list(pixels(one)))
        got = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) if which == "keras" else logits
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
        assert np.abs(got - own).max() > 1e-3 * np.abs(own).max()
        assert one.verified.source < 1e-5
        assert np.isfinite(explainer.explain(pixels(one)[0]).raw).all()


def pixels(done: Export) -> NDArray[Any]:
    spec = done.manifest.input
    return np.random.default_rng(3).integers(0, 256, (4, spec.height, spec.width, 3), dtype=np.uint8)


def images_of(done: Export) -> NDArray[Any]:
    """The same pixels as the network gets them, without preprocessing."""
    x = pixels(done).astype(np.float32)
    return x if done.manifest.input.layout == "NHWC" else x.transpose(0, 3, 1, 2)


def test_the_same_bytes_and_another_seed(tmp_path: Path) -> None:
    request = onnx_request(tmp_path, o.residual(), randomise=2, randomise_seed=5)
    first = [bytes_of(one.path) for one in export(request).randomised]
    again = dataclasses.replace(request, output_path=tmp_path / "again.xai", name="net")
    assert [bytes_of(one.path) for one in export(again).randomised] == first
    other = export(dataclasses.replace(request, randomise_seed=6, overwrite=True)).randomised
    for one, before in zip(other, first, strict=True):
        held, was = bytes_of(one.path), arrays_of(before["head.onnx"], before["tail.onnx"])
        now = arrays_of(held["head.onnx"], held["tail.onnx"])
        assert {"w8", "w9"} <= changed(was, now)
        assert json.loads(held["manifest.json"])["randomised"]["seed"] == 6


def test_quantised(tmp_path: Path) -> None:
    """uint8 in and out, int8 within: the random network quantised is what is compared."""
    [one] = export_onnx(tmp_path, o.quantised(), randomise=1, roles=HEAD_AND_TAIL).randomised
    assert one.verified.source == 0
    assert one.manifest.randomised is not None
    assert len(one.manifest.randomised.layers) == 3


def test_the_plain_bundle_is_as_without(tmp_path: Path) -> None:
    plain = export_onnx(tmp_path, o.residual())
    assert plain.randomised == ()
    with_others = export_onnx(tmp_path, o.residual(), randomise=3, overwrite=True)
    assert json.loads((with_others.path / "manifest.json").read_bytes())["randomised"] is None
    assert bytes_of(export_onnx(tmp_path, o.residual(), output_path=tmp_path / "b.xai").path) == bytes_of(
        with_others.path
    )


def test_layers_of_a_dense_network(tmp_path: Path) -> None:
    """From torch, the BatchNorms kept, module paths as names."""
    module = nets.randomise(nets.Dense())
    done = export_torch(tmp_path, module, split="convs.1", keep_batchnorm=True, randomise=2)
    names = [one.manifest.randomised.layers for one in done.randomised if one.manifest.randomised is not None]
    want = ("fc", "convs.2", "norms.2", "convs.1", "norms.1", "convs.0", "norms.0", "conv0")
    assert names == [want[:4], want]
    images = torch.from_numpy(np.float32(np.random.default_rng(1).standard_normal((3, *nets.SHAPE))))
    with torch.no_grad():
        own = module(images).numpy()
    for one in done.randomised:
        bundle = Bundle.open(one.path)
        assert {"gradient", "relevance"} <= set(bundle.manifest.graphs)
        held = arrays_of(bundle.graph("head"), bundle.graph("tail"))
        first = next(a for a in held.values() if a.shape == (4, 3, 3, 3))
        last = next(a for a in held.values() if a.shape in ((5, 10), (10, 5)))
        state = {key: value.numpy() for key, value in module.state_dict().items()}
        assert np.array_equal(first, state["conv0.weight"]) == (one is done.randomised[0])
        assert not np.isin(last, state["fc.weight"]).any()
        session = ort.InferenceSession(bundle.graph("head"))
        names_out = [v.name for v in session.get_outputs()]
        between = dict(zip(names_out, session.run(None, {session.get_inputs()[0].name: images.numpy()}), strict=True))
        [logits] = ort.InferenceSession(bundle.graph("tail")).run(["logits"], between)
        assert np.isfinite(logits).all()
        assert (logits.std(0) > 0).all()
        assert np.abs(logits - own).max() > 0.01
        assert one.verified.framework is None


def test_resnet18_stays_alive(tmp_path: Path) -> None:
    """Twenty layers without a BatchNorm that would mend their scale: finite, of a sound size, different for each image."""
    module = nets.randomise(thin(torchvision.models.resnet18(num_classes=10), 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(  # torch's older exporter, which is four times as fast; it merges BatchNorms, too
            module,
            (torch.rand(2, 3, 64, 64),),
            str(tmp_path / "net.onnx"),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            dynamic_axes={"image": {0: "N"}},
        )
    request = Request(
        tmp_path / "net.onnx", "layer4", tmp_path / "net.xai", preprocess="imagenet", randomise=2, roles=HEAD_AND_TAIL
    )
    done = export(request)
    last = done.randomised[-1].manifest.randomised
    assert last is not None
    assert len(last.layers) == 21
    assert (last.layers[0], last.layers[-1]) == ("fc", "conv1")
    trained = Explainer(done.path, "onnxruntime").predict(list(pixels(done)))
    for one in done.randomised:
        logits = Explainer(one.path, "onnxruntime").predict(list(pixels(one)))
        assert np.isfinite(logits).all()
        assert 0.01 < np.abs(logits).max() / np.abs(trained).max() < 100
        assert logits.std(0).mean() > 1e-3 * np.abs(logits).mean()


def no_weights() -> onnx.ModelProto:
    b = o.Build()
    x = b("Relu", b("Mul", "image", b.weight(np.array([[[1]], [[2]], [[3]]], np.float32))), name="layer")
    x = b("Conv", x, b.weight(np.full((5, 3, 3, 3), 0.1, np.float32)))
    return b.model(b.pooled(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--randomise 0", "--randomise takes a number of bundles, 1 to 1000; got 0"),
        ("--randomise -3", "--randomise takes a number of bundles, 1 to 1000; got -3"),
        ("--randomise 1000000000", "--randomise takes a number of bundles, 1 to 1000; got 1000000000"),
        ("--randomise two", "argument --randomise: invalid int value: 'two'"),
        ("--randomise 2 --randomise-seed -1", "--randomise-seed takes a number, 0 or more; got -1"),
        ("--randomise-seed 1", "--randomise-seed is for --randomise, which is not given"),
        ("--randomise 4", "--randomise 4: net.onnx has 3 layer(s) with weights, and each step randomises at least one more"),
        ("--randomise 1 --config text.toml", None),
        ("--config text.toml", "--randomise takes a number of bundles, 1 to 1000; got 'all'"),
    ],
)  # fmt: skip
def test_refusals(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    message: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    (tmp_path / "text.toml").write_text('randomise = "all"\n')
    try:
        status = main(["net.onnx", "--preprocess", "none", *options.split()])
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    if message is None:
        assert (status, err) == (0, "")
        return
    assert (status, out, err) == (2, "", f"xai-export: error: {message}\n")
    assert not list(tmp_path.glob("*.xai"))


def test_a_network_without_weights(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"net\.onnx has no layer with weights of more than one value"):
        export_onnx(tmp_path, no_weights(), split="layer", randomise=1)
    assert left_behind(tmp_path) == []


def test_what_is_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "net.randomised-2-of-3.xai").mkdir()
    request = Request(tmp_path / "no-such-source.onnx", output_path=tmp_path / "net.xai", randomise=3)
    with pytest.raises(OutputError, match=r"net\.randomised-2-of-3\.xai: exists already; give --overwrite"):
        export(request)
    with pytest.raises(OutputError, match="exists and is not a bundle; --overwrite replaces bundles only"):
        export(dataclasses.replace(request, overwrite=True))


def test_a_step_that_fails_takes_all_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def third_fails(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise VerificationError("head and tail differ")
        return verify(*arguments)

    monkeypatch.setattr("xai_exporters.pipeline.verify", third_fails)
    with pytest.raises(VerificationError, match=r"^randomised 2 of 3: head and tail differ$"):
        export_onnx(tmp_path, o.classifier(), randomise=3, roles=HEAD_AND_TAIL)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(13, "Permission denied"), KeyboardInterrupt()])
def test_all_old_bundles_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The last of the renames fails: those in place already are taken back."""
    request = onnx_request(tmp_path, o.classifier(), randomise=2, overwrite=True, roles=HEAD_AND_TAIL)
    done = export(request)
    paths = [done.path, *(one.path for one in done.randomised)]
    before = [bytes_of(path) for path in paths]
    put = places.put

    def last_fails(staging: Path, path: Path) -> Path | None:
        if path == paths[-1]:
            raise error
        return put(staging, path)

    monkeypatch.setattr(places, "put", last_fails)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        export(dataclasses.replace(request, randomise_seed=1, split="conv_0"))
    assert [bytes_of(path) for path in paths] == before
    assert left_behind(tmp_path) == sorted(path.name for path in paths)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(o.residual(), tmp_path / "net.onnx")
    assert (
        main(["net.onnx", "--preprocess", "none", "--roles", "head,tail", "--randomise", "2", "--randomise-seed", "3"])
        == 0
    )
    out, err = capsys.readouterr()
    assert err == ""
    assert "Wrote net.randomised-1-of-2.xai (" in out
    assert "): 3 layers are random, down to layer1.0.conv2." in out
    assert "): 5 layers are random, down to stem." in out
    arguments = [
        "net.onnx",
        "--preprocess",
        "none",
        "--roles",
        "head,tail",
        "--randomise",
        "2",
        "--json",
        "-",
        "--overwrite",
        "-o",
        "out.xai",
    ]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert [one["bundle"] for one in report["randomised"]] == [f"out.randomised-{k}-of-2.xai" for k in (1, 2)]
    assert report["randomised"][1]["manifest"]["randomised"]["layers"][-1] == "stem"
    assert report["manifest"]["randomised"] is None
    assert main(["net.onnx", "--preprocess", "none", "--roles", "head,tail", "--randomise", "1", "-o", "bare"]) == 0
    assert (tmp_path / "bare.randomised-1-of-1.xai/manifest.json").exists()


def test_progress(tmp_path: Path) -> None:
    told: list[str] = []
    export(onnx_request(tmp_path, o.classifier(), randomise=1, roles=HEAD_AND_TAIL), told.append)
    assert told[-1] == "randomised 1 of 1: writing and verifying"
    assert "cutting" in told
