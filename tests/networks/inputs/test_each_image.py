"""Maps of several image inputs in one bundle: a siamese network of shared weights, and RGB with depth of another size."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from xai_exporters import Request, export
from xai_exporters.errors import GraphError, LayerError, RequestError

from xai_deploy import Explainer, Explanation, read_image, write_image
from xai_deploy.answer import restored
from xai_deploy.cli.check import main as check
from xai_deploy.cli.evaluate import main as evaluate
from xai_deploy.cli.explain import main as explain
from xai_deploy.errors import ManifestError, NotApplicableError, OptionError
from xai_deploy.format.parsing import parse_manifest
from xai_deploy.heatmap import heatmap
from xai_deploy.methods.sets import each_layer, rows

from ..outputs.nets import grad_cam, stretched
from .exported import seeded
from .nets import SIZE, Branch, Siamese, saved
from .test_further import BACKENDS, DEPTH, OTHER, RGB, prepared

SMALL = 12, 9
SHALLOW = DEPTH[:, : SMALL[0], : SMALL[1]]


class Late(nn.Module):
    """RGB and a smaller depth map [N,h,w,1], which are joined after the pooling, the depth computed first."""

    def __init__(self) -> None:
        super().__init__()
        self.rgb, self.depth, self.last = Branch(3), Branch(1), nn.Linear(10, 4)

    def scores(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """The logits from the maps of both."""
        return Tensor(self.last(torch.cat([rgb.mean((2, 3)), depth.amax((2, 3))], 1)))

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """The logits."""
        there = self.depth(depth.permute(0, 3, 1, 2))
        return self.scores(self.rgb(rgb), there)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("each")
    image, depth = torch.rand(2, 3, *SIZE), torch.rand(2, *SMALL, 1)
    saved(seeded(partial(Siamese, "difference")), folder / "siamese.onnx", (image, image), ("left", "right"))
    saved(seeded(Late), folder / "late.onnx", (image, depth), ("rgb", "depth"))
    asked: dict[str, Any] = {"preprocess": "unit", "guided": True}
    siamese = "/branch_1/Relu_1_output_0,/branch/Relu_1_output_0,/branch_1/Relu_output_0"
    export(Request(folder / "siamese.onnx", output_path=folder / "siamese.xai", split=siamese, **asked))
    late: dict[str, Any] = {
        "split": "depth,rgb",
        "input_image": ("depth:preprocess=unit:color=GRAY",),
    }
    export(Request(folder / "late.onnx", output_path=folder / "late.xai", **late, **asked))
    return folder


def near(got: NDArray[np.float32], want: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(got, want, atol=1e-4 * want.max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 3])
def test_siamese(folder: Path, backend: str, count: int) -> None:
    explainer, network = Explainer(folder / "siamese.xai", backend), seeded(partial(Siamese, "difference"))
    manifest = explainer.bundle.manifest
    assert [layer.input for layer in manifest.layers] == [None, "right", "right"]
    left, right = prepared(RGB[:count]), prepared(OTHER[:count])
    a, b = network.branch(left), network.branch(right)
    early = torch.relu(network.branch.first(right))
    want = [
        grad_cam(a, lambda a: network.joined(a, b)[:, 2])[0],
        grad_cam(early, lambda e: network.joined(a, torch.relu(network.branch.second(e)))[:, 2])[0],
        grad_cam(b, lambda b: network.joined(a, b)[:, 2])[0],
    ]
    pairs = list(zip(RGB[:count], OTHER[:count], strict=True))
    e = explainer.explain(pairs, "grad-cam", 2)
    for one, own in zip(e.layers, want, strict=True):
        near(one.raw, own)
    near(e.raw, want[0])  # the left image has one layer: its map as it is
    other = e.of_image("right")
    both = np.maximum(heatmap(e.layers[1].raw, *SIZE), heatmap(e.layers[2].raw, *SIZE))
    np.testing.assert_array_equal(other.raw, both)
    assert (other.network.input.name, len(other.layers)) == ("right", 2)
    assert [one.shape for one in other.overlay(list(OTHER[:count]))] == [(*SIZE, 3)] * count
    together = explainer.explain(pairs, "grad-cam", 2, image="right", combine="max")
    np.testing.assert_array_equal(together.raw, both)
    each = [options["layer"] for _, options in each_layer("grad-cam", {"image": "right"}, manifest)]
    assert each == [2, 3]
    for number, own in ((1, want[0]), (3, want[2])):
        near(explainer.explain(pairs, "grad-cam", 2, layer=number).raw, own)
    with pytest.raises(NotApplicableError, match="no layer here shows a further image 'left'; layers show 'right'"):
        e.of_image("left")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 3])
def test_two_sizes(folder: Path, backend: str, count: int, tmp_path: Path) -> None:
    """Each image's maps have its size, and methods that hide parts hide parts of the layer's own image."""
    explainer, network = Explainer(folder / "late.xai", backend), seeded(Late)
    rgb, depth = RGB[:count], SHALLOW[:count]
    a, b = network.rgb(prepared(rgb)), network.depth(prepared(depth))
    e = explainer.explain(rgb, "grad-cam", 1, inputs={"depth": depth})
    near(e.raw, grad_cam(a, lambda a: network.scores(a, b)[:, 1])[0])
    other = e.of_image("depth")
    near(other.raw, grad_cam(b, lambda b: network.scores(a, b)[:, 1])[0])
    assert (e.heatmap.shape, other.heatmap.shape) == ((count, *SIZE), (count, *SMALL))
    np.testing.assert_array_equal(other.heatmap, e.layers[1].heatmaps(*SMALL))
    e.save(tmp_path / "saved")
    np.testing.assert_array_equal(Explanation.load(tmp_path / "saved").of_image("depth").heatmap, other.heatmap)

    alone = explainer.explain(rgb, "score-cam", 1, inputs={"depth": depth}, layer=2)
    np.testing.assert_allclose(alone.raw, score_cam(network, prepared(rgb), prepared(depth), b, 1), atol=1e-4)
    mirrored = explainer.explain(rgb, "reciprocam", [1, 0, 2][:count], inputs={"depth": depth[:1]}, layer=2)
    assert mirrored.heatmap.shape == (count, *SMALL)
    assert mirrored.sizes == (None,) * count
    for method in explainer.methods("all"):
        if method not in ("rise", "extremal-perturbation", "meaningful-perturbation"):
            got = explainer.explain(rgb[:1], method, 1, inputs={"depth": depth[:1]})
            assert got.heatmap.shape == (1, *SIZE), method


def score_cam(network: Any, x: Tensor, z: Tensor, activation: Tensor, target: int) -> NDArray[np.float32]:
    """ReLU(sum_k p(x, z * M_k) up(A_k)), M_k = minmax(up(A_k)) (Wang et al. 2020), with the masks on the depth z."""
    maps = []
    for i, planes in enumerate(functional.interpolate(activation.detach(), SMALL, mode="bilinear")):
        low, high = planes.amin((1, 2), keepdim=True), planes.amax((1, 2), keepdim=True)
        varying = (high > low)[:, 0, 0]
        masks = ((planes - low) / (high - low))[varying]
        kept = network(x[i : i + 1].repeat(len(masks), 1, 1, 1), (z[i : i + 1] * masks[:, None]).permute(0, 2, 3, 1))
        weights = kept.softmax(1)[:, target].detach()
        maps.append(torch.relu((weights[:, None, None] * planes[varying]).sum(0)).numpy())
    return np.stack(maps)


def test_graphs_of_the_other_image(folder: Path) -> None:
    explainer = Explainer(folder / "late.xai")
    with pytest.raises(
        NotApplicableError, match=r"goes back to the image 'rgb', not to 'depth'; export .* --explain-input rgb,depth"
    ):
        explainer.explain(RGB, "guided-grad-cam", 1, inputs={"depth": SHALLOW}, layer=2)
    got = explainer.explain(RGB, "guided-grad-cam", 1, inputs={"depth": SHALLOW}, layer=1)
    assert got.heatmap.shape == (3, *SIZE)


@pytest.fixture(scope="module")
def pixels(folder: Path) -> Path:
    """RGB and depth, with graphs that go back to the pixels of both."""
    asked: dict[str, Any] = {"preprocess": "unit", "input_image": ("depth:preprocess=unit:color=GRAY",)}
    graphs: dict[str, Any] = {"input_gradient": True, "guided": True, "pixel_relevance": True, "full_gradient": True}
    path = folder / "pixels.xai"
    export(
        Request(folder / "late.onnx", output_path=path, explain_input="rgb,depth", split="rgb,depth", **asked, **graphs)
    )
    return path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 3])
def test_pixels_of_both(pixels: Path, backend: str, count: int) -> None:
    """Gradients at each image by autograd; relevance and the rest have each image's size, and each image's are its own."""
    explainer, network = Explainer(pixels, backend), seeded(Late)
    x, z = (prepared(one[:count]).requires_grad_() for one in (RGB, SHALLOW))
    network(x, z.permute(0, 2, 3, 1))[:, 1].sum().backward()
    given: dict[str, Any] = {"target": 1, "inputs": {"depth": SHALLOW[:count]}}
    for name, own in (("rgb", x), ("depth", z)):
        assert own.grad is not None
        want = (own.grad * own.detach()).sum(1).numpy()
        got = explainer.explain(RGB[:count], "input-x-gradient", image=name, **given)
        np.testing.assert_allclose(got.raw, want, atol=1e-4 * np.abs(want).max())
        assert (got.network.input.name, got.heatmap.shape[1:]) == (name, tuple(own.shape[2:]))
    by_number = explainer.explain(RGB[:count], "input-x-gradient", image=2, **given)
    np.testing.assert_array_equal(by_number.raw, got.raw)
    for method in explainer.methods("all"):
        if method in ("rise", "extremal-perturbation", "meaningful-perturbation"):
            continue
        theirs = explainer.explain(RGB[:1], method, 1, inputs={"depth": SHALLOW[:1]}, image="depth")
        assert theirs.heatmap.shape == (1, *SMALL), method
    together = explainer.explain(RGB[:count], "hires-cam", image="depth", **given)
    np.testing.assert_array_equal(together.raw, explainer.explain(RGB[:count], "hires-cam", layer="depth", **given).raw)
    guided = explainer.explain(RGB[:count], "guided-grad-cam", layer="depth", **given)
    assert guided.heatmap.shape == (count, *SMALL)


@pytest.mark.parametrize("backend", BACKENDS)
def test_occlusion_of_the_other_image(folder: Path, backend: str) -> None:
    """A method without graphs of its own: windows of the depth are covered, the photo stays as it is."""
    network, x, z = seeded(Late), prepared(RGB[:1]), prepared(SHALLOW[:1])
    e = Explainer(folder / "late.xai", backend).explain(
        RGB[:1], "occlusion", 1, inputs={"depth": SHALLOW[:1]}, image="depth", size=4, stride=4, score="logit"
    )
    covered = z.repeat(1, 1, 1, 1)
    covered[..., :4, :4] = 0  # black, the default
    with torch.no_grad():
        plain, less = (network(x, one.permute(0, 2, 3, 1))[0, 1] for one in (z, covered))
    assert e.raw.shape[1:] == SMALL
    assert e.raw[0, 0, 0] == pytest.approx(float(plain - less), abs=1e-5)


def test_command_at_the_pixels(pixels: Path, tmp_path: Path) -> None:
    """A bundle none of whose layers shows the other image: its map lies on its own picture."""
    write_image(tmp_path / "rgb.png", RGB[0])
    write_image(tmp_path / "depth.png", np.repeat(SHALLOW[0], 3, axis=2))
    given = [str(pixels), str(tmp_path / "rgb.png"), "--input", f"depth={tmp_path / 'depth.png'}", "-q", "-t", "1"]
    given += ["-m", "input-x-gradient,input-x-gradient:image=depth", "-o", str(tmp_path / "out")]
    assert explain(given) == 0
    [image] = json.loads((tmp_path / "out" / "results.json").read_text())["images"]
    drawn = [read_image(tmp_path / "out" / one["overlay"]).shape for one in image["explanations"]]
    assert drawn == [(*SIZE, 3), (*SMALL, 3)]


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        ("rise", {"image": "thermal"}, OptionError, "no image 'thermal': the network takes rgb, depth"),
        ("rise", {"image": 3}, OptionError, "no image 3: the network takes rgb, depth"),
        ("grad-cam", {"image": "depth", "layer": 1}, OptionError, "layer=1 says which image the map shows"),
    ],
)
def test_refused_images(
    folder: Path, method: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Explainer(folder / "late.xai").explain(RGB[:1], method, 1, inputs={"depth": SHALLOW[:1]}, **options)


def test_as_many_images_as_inputs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two images of a network of two inputs are two images, not one image for each input; against torch."""
    for name, pictures in (("rgb", RGB[:2]), ("depth", np.repeat(SHALLOW[:2], 3, axis=3))):
        (tmp_path / name).mkdir()
        for i, image in enumerate(pictures):
            write_image(tmp_path / name / f"{i}.png", image)
    bundle, images = str(folder / "late.xai"), str(tmp_path / "rgb")
    given = ["--input", f"depth={tmp_path / 'depth'}", "-q", "-t", "1", "-m", "grad-cam,grad-cam:image=depth"]
    assert explain([bundle, images, *given, "-o", str(tmp_path / "o")]) == 0
    report = json.loads((tmp_path / "o" / "results.json").read_text())["images"]
    network = seeded(Late)
    there = network.depth(prepared(SHALLOW[:2]))
    want, _ = grad_cam(there, lambda a: network.scores(network.rgb(prepared(RGB[:2])), a)[:, 1])
    for i, image in enumerate(report):
        [own] = [one["raw"] for one in image["explanations"] if "depth" in one["raw"] or "layer=1" in one["raw"]]
        near(np.load(tmp_path / "o" / own), want[i])
    assert check([*given[:3], "-m", "grad-cam:image=depth", bundle, bundle, images]) == 0
    for main, paths in ((explain, [bundle, images, "-o", str(tmp_path / "bad")]), (check, [bundle, bundle, images])):
        assert main([*paths, "-q"]) == 2
        assert "the network also takes 'depth' (images)" in capsys.readouterr().err


def test_evaluation_is_of_the_explained_image(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Metrics change that image: its layers are rows of the table, and maps of the other one are refused."""
    manifest = Explainer(folder / "late.xai").bundle.manifest
    assert [options.get("layer", "max") for _, options in rows([("grad-cam", {})], manifest)] == ["rgb", "max"]
    (tmp_path / "val").mkdir()
    write_image(tmp_path / "val" / "a.png", RGB[0])
    write_image(tmp_path / "depth.png", np.repeat(SHALLOW[0], 3, axis=2))
    given = [str(folder / "late.xai"), str(tmp_path / "val"), "--input", f"depth={tmp_path / 'depth.png'}", "-t", "1"]
    for method in ("rise:image=depth", "grad-cam:layer=depth"):
        assert evaluate([*given, "-m", method, "--metric", "deletion", "-o", str(tmp_path / "out")]) == 2
        assert "its map shows the image 'depth', and metrics change 'rgb'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert evaluate([*given, "-m", "grad-cam", "--metric", "deletion", "-o", str(tmp_path / "out")]) == 0


def test_no_such_image_to_go_back_to(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no further image 'thermal'; its images are left, right"):
        export(
            Request(
                folder / "siamese.onnx",
                output_path=tmp_path / "n.xai",
                preprocess="unit",
                explain_input="left,thermal",
                input_gradient=True,
            )
        )
    assert not (tmp_path / "n.xai").exists()


def test_layers_of_another_image_alone(folder: Path, tmp_path: Path) -> None:
    """They choose the image that is explained, as one layer does; unless another one was asked for."""
    options: dict[str, Any] = {"preprocess": "unit", "split": "/branch_1/Relu_output_0,/branch_1/Relu_1_output_0"}
    export(Request(folder / "siamese.onnx", output_path=tmp_path / "right.xai", **options))
    manifest = Explainer(tmp_path / "right.xai").bundle.manifest
    assert (manifest.input.name, [layer.input for layer in manifest.layers]) == ("right", [None, None])
    with pytest.raises(LayerError, match="depends on the image 'right', not on 'left'; give --explain-input right"):
        export(Request(folder / "siamese.onnx", output_path=tmp_path / "no.xai", explain_input="left", **options))


def test_fused(folder: Path, tmp_path: Path) -> None:
    """One graph has one map: that of a layer of the explained image."""
    options: dict[str, Any] = {
        "preprocess": "unit",
        "split": "depth,rgb",
        "input_image": ("depth:preprocess=unit:color=GRAY",),
        "output_path": tmp_path / "n.xai",
    }
    for fuse in ("grad-cam", "grad-cam:layer=depth"):
        with pytest.raises(
            GraphError, match=r"gives one map of one image, and --split .*; name one of the explained image"
        ):
            export(Request(folder / "late.onnx", fuse=(fuse,), **options))
    export(Request(folder / "late.onnx", fuse=("grad-cam:layer=rgb",), **options))
    explainer = Explainer(tmp_path / "n.xai")
    want = explainer.explain(RGB, "grad-cam", 1, inputs={"depth": SHALLOW}, layer="rgb")
    taken = explainer.prepare(RGB, {"depth": SHALLOW})
    feeds = {explainer.bundle.manifest.input.name: taken.x, **taken.beside, "target": np.ones(3, np.int64)}
    session = onnxruntime.InferenceSession(tmp_path / "n.xai/fused-grad-cam.onnx")
    near(session.run(["saliency_map"], feeds)[0], stretched(want.raw))


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each layer's map on its own picture, also if a call goes on from the files of another one."""
    write_image(tmp_path / "rgb.png", RGB[0])
    write_image(tmp_path / "depth.png", np.repeat(SHALLOW[0], 3, axis=2))
    given = [str(folder / "late.xai"), str(tmp_path / "rgb.png"), "--input", f"depth={tmp_path / 'depth.png'}", "-q"]
    given += ["-m", "grad-cam", "-t", "1"]
    assert explain([*given, "-o", str(tmp_path / "out")]) == 0
    [image] = json.loads((tmp_path / "out" / "results.json").read_text())["images"]
    first, second = image["explanations"]
    drawn = [read_image(tmp_path / "out" / one["overlay"]).shape for one in (first, second)]
    assert drawn == [(*SIZE, 3), (*SMALL, 3)]
    explainer = Explainer(folder / "late.xai")
    e = explainer.explain(RGB[:1], "grad-cam", 1, inputs={"depth": SHALLOW[:1]})
    again = restored(explainer, second, np.load(tmp_path / "out" / second["raw"]))
    np.testing.assert_array_equal(again.heatmap, e.layers[1].heatmaps(*SMALL)[0])
    [want] = e.of_image("depth").overlay([np.repeat(SHALLOW[0], 3, axis=2)])
    np.testing.assert_array_equal(read_image(tmp_path / "out" / second["overlay"]), want)
    assert (
        explain([*given, "-o", str(tmp_path / "max"), "--combine", "max"]) == 0
    )  # each image's layers: here one of each
    [image] = json.loads((tmp_path / "max" / "results.json").read_text())["images"]
    assert [one["options"]["image"] for one in image["explanations"]] == ["rgb", "depth"]
    for one, other in zip(image["explanations"], (first, second), strict=True):
        drawn_before = read_image(tmp_path / "out" / other["overlay"])
        np.testing.assert_array_equal(read_image(tmp_path / "max" / one["overlay"]), drawn_before)
    np.save(tmp_path / "depth.npy", (SHALLOW[0] / 255).astype(np.float32))
    given[3] = f"depth={tmp_path / 'depth.npy'}"
    assert explain([*given, "-o", str(tmp_path / "no")]) == 2
    said = "'depth', on which its layers' maps are drawn: an image has uint8 pixels, not float32"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    given[given.index("grad-cam")] = "grad-cam:layer=rgb"
    assert explain([*given, "-o", str(tmp_path / "rgb")]) == 0


def test_layers_of_no_image(folder: Path) -> None:
    """A manifest whose layers belong to images that the network does not take, or whose first layer is another image's."""
    for number, name in ((0, "depth"), (1, "thermal")):
        document = json.loads((folder / "late.xai/manifest.json").read_text())
        [document["target"], document["levels"][0]["layer"]][number]["input"] = name
        blank = json.dumps({**document, "digest": ""}, indent=1)
        digest = hashlib.sha256(blank.encode()).hexdigest()
        with pytest.raises(
            ManifestError, match="a layer's input is no further image; the first layer is that of 'rgb'"
        ):
            parse_manifest(blank.replace('"digest": ""', f'"digest": "{digest}"').encode())
