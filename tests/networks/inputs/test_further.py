"""Networks of several inputs: RGB and depth, two images to compare, an image and facts about it; against autograd."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from xai_exporters import Request, export
from xai_exporters.cli import main as xai_export
from xai_exporters.errors import GraphError, LayerError, RequestError

from xai_deploy import Explainer, write_image
from xai_deploy.agreement.recording import read
from xai_deploy.cli.bench import main as bench
from xai_deploy.cli.check import main as check
from xai_deploy.cli.evaluate import main as evaluate
from xai_deploy.cli.explain import main as explain
from xai_deploy.errors import DtypeError, NonFiniteInputError, ShapeError

from ..outputs.nets import grad_cam, stretched
from .exported import FACTS, export_all, seeded
from .nets import SIZE, Fusion, Siamese, WithFacts

BACKENDS = ["onnxruntime", "openvino"]


def pixels(count: int, channels: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, channels)).astype(np.uint8)


def prepared(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy((images / 255).astype(np.float32).transpose(0, 3, 1, 2))


RGB, OTHER, DEPTH = pixels(3, 3, 1), pixels(3, 3, 2), pixels(3, 1, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles of several inputs, each exported once."""
    folder = tmp_path_factory.mktemp("further")
    export_all(folder)
    return folder


def agrees(got: Any, activation: Tensor, score: Any, x: Tensor, number: Any, explainer: Explainer, given: Any) -> None:
    """Grad-CAM and the gradient at the image against autograd, both 1e-4."""
    want, _ = grad_cam(activation, score)
    np.testing.assert_allclose(got.raw, want, atol=1e-4 * max(want.max(), 1e-3))
    at = x.detach().requires_grad_()
    [gradient] = torch.autograd.grad(number(at).sum(), at)
    pixel = gradient.abs().amax(1).numpy()
    np.testing.assert_allclose(given("gradient").raw, pixel, atol=1e-4 * pixel.max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 3])
def test_fusion(folder: Path, backend: str, count: int) -> None:
    explainer, network = Explainer(folder / "fusion.xai", backend), seeded(Fusion)
    rgb, depth = RGB[:count], DEPTH[:count]
    x, z = prepared(rgb), prepared(depth)

    def given(method: str, **options: Any) -> Any:
        return explainer.explain(rgb, method, 2, inputs={"depth": depth}, **options)

    got = given("grad-cam")
    np.testing.assert_allclose(got.logits, network(x, z).detach().numpy(), atol=1e-5)
    agrees(
        got,
        network.features(x, z),
        lambda a: network.scores(a)[:, 2],
        x,
        lambda x: network(x, z)[:, 2],
        explainer,
        given,
    )
    pairs = explainer.explain(list(zip(rgb, depth, strict=True)), "grad-cam", 2)
    np.testing.assert_array_equal(pairs.raw, got.raw)
    for method in (*explainer.methods("fast"), "score-cam", "rise", "integrated-gradients")[:: 4 - count]:
        every = given(method, **({"masks": 9} if method == "rise" else {}))
        assert every.heatmap.shape == (count, *SIZE)
    mixed = explainer.explain(rgb, "grad-cam", [1, 0, 3][:count], inputs={"depth": depth[0]})  # one depth for all
    alone = explainer.explain(rgb[:1], "grad-cam", 1, inputs={"depth": depth[:1]})
    np.testing.assert_allclose(mixed.raw[:1], alone.raw, atol=1e-6)
    again = explainer.explain(explainer.prepare(rgb, {"depth": depth}), "grad-cam", 2)
    np.testing.assert_array_equal(again.raw, got.raw)


@pytest.mark.parametrize("backend", BACKENDS)
def test_maps_of_the_other_image(folder: Path, backend: str) -> None:
    """A layer of the depth's branch explains the depth, found by the layer alone; the cut passes RGB's maps beside it."""
    explainer, network = Explainer(folder / "depth.xai", backend), seeded(Fusion)
    assert explainer.bundle.manifest.input.name == "depth"
    assert explainer.bundle.manifest.further.order == ("rgb", "depth")
    x, z = prepared(RGB), prepared(DEPTH)
    beside = network.rgb(x)

    def score(a: Tensor) -> Tensor:
        return Tensor(network.scores(torch.relu(network.joint(torch.cat([beside, a], 1))))[:, 1])

    def given(method: str) -> Any:
        return explainer.explain(DEPTH, method, 1, inputs={"rgb": list(RGB)})

    agrees(given("grad-cam"), network.depth(z), score, z, lambda z: network(x, z)[:, 1], explainer, given)
    pair = explainer.explain((RGB[0], DEPTH[0]), "grad-cam", 1)
    np.testing.assert_allclose(pair.raw, given("grad-cam").raw[:1], atol=1e-6)
    for method in ("reciprocam", "score-cam", "relevance-cam", "integrated-gradients"):
        assert given(method).heatmap.shape == (3, *SIZE)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["cosine", "right", "difference"])
def test_siamese(folder: Path, backend: str, name: str) -> None:
    explainer, network = (
        Explainer(folder / f"{name}.xai", backend),
        seeded(partial(Siamese, name.replace("right", "cosine"))),
    )
    left, right = prepared(RGB), prepared(OTHER)
    pairs = [(a, b) for a, b in zip(RGB, OTHER, strict=True)]
    target = 2 if name == "difference" else "#0"
    column = 2 if name == "difference" else 0

    def given(method: str) -> Any:
        return explainer.explain(pairs, method, target)

    x, other = (right, left) if name == "right" else (left, right)
    fixed = network.branch(other)

    def joined(a: Tensor, b: Tensor) -> Tensor:  # the image that is explained first
        return Tensor(network.joined(b, a) if name == "right" else network.joined(a, b))[:, column]

    def number(x: Tensor) -> Tensor:
        return joined(network.branch(x), fixed)

    def score(a: Tensor) -> Tensor:
        return joined(a, fixed)

    activation = network.branch(x)
    agrees(given("grad-cam"), activation, score, x, number, explainer, given)
    np.testing.assert_allclose(given("grad-cam").logits[:, column], number(x).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_facts(folder: Path, backend: str) -> None:
    network, x, facts = seeded(WithFacts), prepared(RGB), torch.from_numpy(FACTS)
    explainer, half = Explainer(folder / "facts.xai", backend), torch.tensor(0.5)

    def given(method: str) -> Any:
        return explainer.explain(RGB, method, 1, inputs={"facts": FACTS})

    agrees(
        given("grad-cam"),
        network.features(x, facts),
        lambda a: network.scores(a, facts, half)[:, 1],
        x,
        lambda x: network(x, facts, half)[:, 1],
        explainer,
        given,
    )
    built_in = Explainer(folder / "constant.xai", backend)
    assert built_in.bundle.manifest.batch == "any"  # the row of facts is repeated for each image
    constant = built_in.explain(RGB, "grad-cam", 1)
    one = explainer.explain(RGB, "grad-cam", 1, inputs={"facts": FACTS[0]})
    np.testing.assert_allclose(constant.raw, one.raw, atol=1e-6)
    np.testing.assert_allclose(constant.logits, network(x, facts[:1].expand(3, 4), half).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *(("fusion", each) for each in ("grad-cam", "score-cam", "reciprocam", "integrated-gradients", "lrp")),
        *(("facts", each) for each in ("score-cam", "reciprocam")),
    ],
)
def test_fused(folder: Path, name: str, method: str) -> None:
    session = onnxruntime.InferenceSession(folder / f"{name}.xai/fused-{method}.onnx")
    explainer, inputs = Explainer(folder / f"{name}.xai"), {"depth": DEPTH} if name == "fusion" else {"facts": FACTS}
    taken = explainer.prepare(RGB, inputs)
    feeds = {explainer.bundle.manifest.input.name: taken.x, **taken.beside, "target": np.array([1, 0, 2])}
    [saliency] = session.run(["saliency_map"], feeds)
    options = {"steps": 5} if method == "integrated-gradients" else {}
    want = explainer.explain(RGB, method, [1, 0, 2], inputs=inputs, **options)
    np.testing.assert_allclose(saliency, stretched(want.raw), atol=2e-3)


def test_commands(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, images in (("left", RGB), ("right", OTHER)):
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            write_image(tmp_path / name / f"{i}.png", image)
    np.save("facts.npy", FACTS)
    for bundle, given, inputs in (
        ("difference", "right=right", {"right": OTHER}),
        ("difference", "right=right/1.png", {"right": OTHER[1]}),
        ("facts", "facts=facts.npy", {"facts": FACTS}),
    ):
        assert (
            explain(
                [
                    str(folder / f"{bundle}.xai"),
                    "left",
                    "-m",
                    "grad-cam",
                    "--input",
                    given,
                    "-q",
                    "-o",
                    "o",
                    "--overwrite",
                ]
            )
            == 0
        )
        want = Explainer(folder / f"{bundle}.xai").explain(RGB, "grad-cam", inputs=inputs)
        for i, image in enumerate(json.loads(Path("o/results.json").read_text())["images"]):
            np.testing.assert_allclose(np.load(Path("o", image["explanations"][0]["raw"])), want.raw[i], atol=1e-6)
    bundle = str(folder / "difference.xai")
    for options, said in (
        (
            [],
            "the network also takes 'right' (images); give inputs={'right': ...} (on the command line --input right=FILE)",
        ),
        (
            ["--input", "wrong=1"],
            "--input wrong=1: is not NAME=FILE for an input that the network takes beside the images (right)",
        ),
        (["--input", "right="], "--input right=: names no file"),
        (
            ["--input", "right=left/0.png", "--input", "right=left/1.png"],
            "--input right=left/1.png: 'right' is given twice",
        ),
        (["--input", "right=facts.npy"], "'right': a preprocessed image for this network has shape (3, 15, 19)"),
    ):
        assert explain([bundle, "left/0.png", *options, "-q", "-o", "bad"]) == 2
        assert said in capsys.readouterr().err
    Path("right/1.png").unlink()
    assert explain([bundle, "left", "--input", "right=right", "-q", "-o", "bad"]) == 2
    assert "--input right=right: holds no file 1.* for left/1.png" in capsys.readouterr().err


def test_refused_inputs(folder: Path) -> None:
    facts, fusion = Explainer(folder / "facts.xai"), Explainer(folder / "fusion.xai")
    for inputs, error, said in (
        ({}, ShapeError, r"the network also takes 'facts' \(float32 \[4\]\); give inputs="),
        ({"facts": FACTS, "more": 1}, ShapeError, "the network has no further input 'more'; it has facts"),
        (
            {"facts": FACTS[:2]},
            ShapeError,
            r"'facts': takes \[4\] for all images or \[3, 4\], a row for each, not \[2, 4\]",
        ),
        ({"facts": ["a"] * 4}, DtypeError, "'facts': takes an array of numbers"),
        ({"facts": [np.nan] * 4}, NonFiniteInputError, "'facts': holds NaN or infinity"),
    ):
        with pytest.raises(error, match=said):
            facts.explain(RGB, inputs=inputs)
    with pytest.raises(ShapeError, match="'depth': 2 are given for 3 images; give one for all, or one for each"):
        fusion.explain(RGB, inputs={"depth": list(DEPTH[:2])})
    with pytest.raises(ShapeError, match="the input 'depth' is given twice"):
        fusion.explain((RGB[0], DEPTH[0]), inputs={"depth": DEPTH[0]})
    with pytest.raises(ShapeError, match="images that are given together are tuples of 2: rgb, depth"):
        fusion.explain([(RGB[0], DEPTH[0]), RGB[1]])


def test_refused_exports(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((1, 5), np.float32))
    fusion, facts = folder / "fusion.onnx", folder / "facts.onnx"
    for source, options, error, said in (
        (
            facts,
            {},
            GraphError,
            "the input 'temperature' .* has no row for each image; --input NAME=FILE.npy or --input NAME=NUMBER",
        ),
        (
            facts,
            {"input": ("temperatur=1",)},
            RequestError,
            "is not NAME=VALUE for one of the inputs image, facts, temperature",
        ),
        (facts, {"input": ("temperature=x",)}, RequestError, "is neither a .npy file, nor a number, nor 'array'"),
        (facts, {"input": ("temperature=1", "temperature=2")}, RequestError, "'temperature' is given twice"),
        (
            facts,
            {"input": (f"facts={tmp_path / 'wrong.npy'}",)},
            RequestError,
            r"holds \[1, 5\], but the input is \[\?, 4\]",
        ),
        (facts, {"input": (f"facts={tmp_path / 'none.npy'}",)}, RequestError, "no such file"),
        (
            fusion,
            {},
            GraphError,
            r"the input 'depth' \(1 channel\) may be an image: state how its pixels are prepared, as in --input-image",
        ),
        (
            fusion,
            {"input_image": ("deep",)},
            RequestError,
            "--input-image deep: the network has no such input; it has rgb, depth",
        ),
        (fusion, {"input_image": ("depth:colour=GRAY",)}, RequestError, "--input-image depth: has no 'colour'; it has"),
        (
            fusion,
            {"input_image": ("depth:color=GRAY",)},
            RequestError,
            "--input-image depth: state how its pixels are prepared",
        ),
        (
            fusion,
            {"input": ("depth=array",), "explain_input": "depth"},
            RequestError,
            "is no image input; there are rgb",
        ),
        (
            fusion,
            {"input_image": ("depth:preprocess=unit",), "split": "/depth/Relu_output_0", "explain_input": "rgb"},
            LayerError,
            "depends on the image 'depth', not on 'rgb'; give --explain-input depth",
        ),
    ):
        with pytest.raises(error, match=said):
            export(Request(source, output_path=tmp_path / "no.xai", preprocess="unit", **options))
    command = [str(fusion), "--preprocess", "unit", "-o", str(tmp_path / "yes.xai"), "-q"]
    assert xai_export([*command, "--input-image", "depth:preprocess=none:mean=0.5:std=2:range=0,255"]) == 0
    [depth] = Explainer(tmp_path / "yes.xai").bundle.manifest.further.images
    assert (depth.preprocess.mean, depth.preprocess.range) == ((0.5,), (0.0, 255.0))
    assert not list(tmp_path.glob("no*"))
    assert onnx.load(facts).graph.input[2].name == "temperature"


def image_folders(folder: Path) -> None:
    for name, pictures in (("rgb", RGB), ("depth", DEPTH)):
        (folder / name).mkdir()
        for i, image in enumerate(pictures):
            write_image(folder / name / f"{i}.png", image if image.shape[-1] == 3 else np.repeat(image, 3, -1))


def test_check_takes_inputs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording holds torch's scores of each image with its own depth; another depth is refused, and so is none."""
    image_folders(tmp_path)
    bundle, recorded, images = str(folder / "fusion.xai"), str(tmp_path / "r.npz"), str(tmp_path / "rgb")
    given = ["-m", "grad-cam", "-q", "--input", f"depth={tmp_path / 'depth'}"]
    assert check([*given, "--record", recorded, bundle, images]) == 0
    want = seeded(Fusion)(prepared(RGB), prepared(DEPTH)).detach().numpy()
    np.testing.assert_allclose(read(Path(recorded)).explained.logits, want, atol=1e-4 * np.abs(want).max())
    for reference in (bundle, recorded):
        assert check([*given, "-b", "openvino", reference, bundle, images]) == 0
    wrong = [*given[:3], "--input", f"depth={tmp_path / 'depth' / '1.png'}"]
    assert check([*wrong, recorded, bundle, images]) == 2
    assert "0.png: its pixels, or what --input gives with it, differ from those" in capsys.readouterr().err
    assert check([*given[:3], bundle, bundle, images]) == 2
    assert "the network also takes 'depth' (images)" in capsys.readouterr().err
    constant = str(folder / "constant.xai")
    assert check([*given[:3], constant, constant, images]) == 0  # what is built in needs nothing


def test_evaluation_takes_inputs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each image keeps its own depth while the image itself is hidden; against torch. Constants that are built in need nothing."""
    image_folders(tmp_path)
    bundle, images, constant = str(folder / "fusion.xai"), str(tmp_path / "rgb"), str(folder / "constant.xai")
    assert (
        bench(
            [bundle, *["-m", "grad-cam", "--runs", "1", "--warmup", "1", "-q", "--model"], str(folder / "fusion.onnx")]
        )
        == 0
    )
    command = [images, "-m", "grad-cam", "-t", "3", "--metrics", "average-drop,coherency,deletion", "-q"]
    depth = ["--input", f"depth={tmp_path / 'depth'}", "-b", "onnxruntime,openvino"]
    assert evaluate([bundle, *command, *depth, "-o", str(tmp_path / "o")]) == 0
    got = (tmp_path / "o" / "images.csv").read_text().splitlines()
    x, z, network = prepared(RGB), prepared(DEPTH), seeded(Fusion).double()
    e = Explainer(bundle).explain(RGB, "grad-cam", 3, inputs={"depth": DEPTH})

    def drops_with(depths: Tensor) -> Any:
        before, after = (
            network(one.double(), depths.double()).softmax(1).detach().numpy()[:, 3]
            for one in (x, x * torch.from_numpy(e.heatmap)[:, None])
        )
        return 100 * np.maximum(before - after, 0) / before

    want = drops_with(z)
    assert np.abs(want - drops_with(z.roll(1, 0))).max() > 1e-3  # another image's depth is noticed
    drops = [float(line.split(",")[5]) for line in got[1:]]
    np.testing.assert_allclose(drops, np.tile(want, 2), atol=3e-4)
    assert evaluate([bundle, *command, "-o", str(tmp_path / "p")]) == 2
    assert "the network also takes 'depth'; give --input depth=FILE" in capsys.readouterr().err
    assert evaluate([constant, *command, "-t", "2", "-o", str(tmp_path / "q")]) == 0
