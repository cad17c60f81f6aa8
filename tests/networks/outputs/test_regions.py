"""Regions of dense scores: every gradient is that of autograd, every score the mean over the region."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import skimage.data
import torch
from torch import Tensor, nn
from xai_exporters import Request, export
from xai_exporters.errors import GraphError

from xai_deploy import Contrast, Explainer, Finer, Not, Region, write_image
from xai_deploy.cli import explain
from xai_deploy.errors import ImageFileError, NotApplicableError, TargetError

from ...exporters.nets import randomise
from ...exporters.running import both_ways
from .nets import CLASSES, SIZE, UNet, fused, grad_cam, images, saved, stretched
from .regions_by_torch import CHOSEN, PLACES, by_torch

BACKENDS = ["onnxruntime", "openvino"]
MASK = np.zeros(SIZE, bool)
MASK[5:12, 7:20] = True
FUSED = ("grad-cam", "lrp", "integrated-gradients:steps=8", "reciprocam", "score-cam")
Folder = Callable[[str, str], tuple[UNet, Path]]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Network and bundle by upsampling and end; each is exported once."""
    made: dict[tuple[str, str], tuple[UNet, Path]] = {}

    def bundle(up: str, end: str) -> tuple[UNet, Path]:
        if (up, end) not in made:
            folder = tmp_path_factory.mktemp("dense")
            network = UNet(up, end, 1 if end == "sigmoid" else CLASSES)
            fuse = FUSED if end == "" else FUSED[3:] if end == "argmax" else ()
            request = Request(
                saved(network, folder / "net.onnx"), output_path=folder / "net.xai", preprocess="none", fuse=fuse,
                pixel_relevance=end == "", input_gradient=end == "",
            )  # fmt: skip
            assert export(request).manifest.target.shape == (8, 12, 16)  # the coarsest activation
            made[up, end] = network, folder / "net.xai"
        return made[up, end]

    return bundle


def mean(network: UNet, x: Tensor, index: int, mask: np.ndarray) -> Callable[[Tensor], Tensor]:
    """The mean of a class's scores over a mask, as a function of the activation."""
    _, fine = network.features(x)
    return lambda a: network.dense(a, fine)[:, index][:, torch.from_numpy(mask)].mean(1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("up", ["transposed", "bilinear"])
@pytest.mark.parametrize("end", ["", "softmax", "argmax", "last"])
def test_a_region_against_autograd(bundles: Folder, backend: str, up: str, end: str) -> None:
    network, folder = bundles(up, end)
    for count in (1, 3):
        x = torch.from_numpy(images(count))
        activation, _ = network.features(x)
        want, score = grad_cam(activation, mean(network, x, 2, MASK))
        got = Explainer(folder, backend).explain(images(count), "grad-cam", Region(2, MASK))
        np.testing.assert_allclose(got.raw, want, atol=1e-4 * want.max())
        assert got.score is not None
        np.testing.assert_allclose(got.score, score, atol=1e-4)
        y = network.dense(*network.features(x))
        shares = y.softmax(1)[:, :, torch.from_numpy(MASK)].mean(2)
        assert got.probabilities is not None
        np.testing.assert_allclose(got.probabilities, shares.detach().numpy(), atol=1e-4)
        assert got.caption() == "class 2 @ mask"


@pytest.mark.parametrize("backend", BACKENDS)
def test_targets_of_one_batch(bundles: Folder, backend: str) -> None:
    """Contrasts of two regions, the other direction, predicted classes and regions, another target for each image."""
    network, folder = bundles("bilinear", "")
    x = torch.from_numpy(images(3))
    activation, fine = network.features(x)
    whole, box = np.ones(SIZE, bool), np.zeros(SIZE, bool)
    box[2:6, 3:13] = True
    explainer = Explainer(folder, backend)
    of_class, other = mean(network, x, 1, box), mean(network, x, 3, whole)
    many = explainer.explain_many(
        images(3),
        ["grad-cam"],
        [
            Contrast(Region(1, (3, 2, 10, 4)), Region(3, "all")),
            "1@3,2,10,4 vs 3",
            Not(Region(1, "3,2,10,4")),
            [Region(1, (3, 2, 10, 4)), "3@all", "not 1@3,2 13,2 13,6 3,6"],
            "@all",
        ],
    )
    same = mean(network, x, 3, box)
    numbers = [
        lambda a: of_class(a) - other(a),
        lambda a: of_class(a) - same(a),
        lambda a: -of_class(a),
        lambda a: torch.stack([of_class(a)[0], other(a)[1], -of_class(a)[2]]),
    ]
    for got, number in zip(many[:4], numbers, strict=True):
        want, score = grad_cam(activation, number)
        np.testing.assert_allclose(got.raw, want, atol=1e-4 * want.max())
        assert got.score is not None
        np.testing.assert_allclose(got.score, score, atol=1e-4)
    best = network.dense(activation, fine).mean((2, 3)).argmax(1)
    assert many[4].target.tolist() == best.tolist()
    assert many[0].caption() == "class 1 @ 3,2,10,4 vs class 3 @ all"
    assert many[1].caption() == "class 1 vs class 3 @ 3,2,10,4"
    assert many[3].caption(2) == "not class 1 @ 3,2 13,2 13,6 3,6"


@pytest.mark.parametrize("end", ["", "argmax", "softmax"])
def test_where_the_network_predicts_it(bundles: Folder, end: str) -> None:
    network, folder = bundles("bilinear", end)
    x = torch.from_numpy(images(1))
    activation, fine = network.features(x)
    predicted = network.dense(activation, fine).argmax(1)[0]
    index = int(torch.bincount(predicted.ravel()).argmax())
    for target in (None, index, f"{index}@predicted"):
        got = Explainer(folder).explain(images(1), "grad-cam", target)
        want, _ = grad_cam(activation, mean(network, x, index, (predicted == index).numpy()))
        np.testing.assert_allclose(got.raw, want, atol=1e-4 * want.max())
    nowhere = [c for c in range(CLASSES) if c not in predicted]
    if nowhere:
        with pytest.raises(TargetError, match=rf"predicts class {nowhere[0]} at no position; name a region"):
            Explainer(folder).explain(images(1), "grad-cam", nowhere[0])


def test_captions_are_targets(bundles: Folder) -> None:
    """What a caption says can be written again, spaces around the @ included; a side of another kind is named."""
    explainer = Explainer(bundles("bilinear", "")[1])
    for target in ("1@all", "1@1,1,9,9 vs 2@all", "not 1@all"):
        caption = explainer.explain(images(1), "hires-cam", target).caption()
        again = explainer.explain(images(1), "hires-cam", caption.replace("class ", ""))
        assert again.caption() == caption
    for text in ("1@all vs like vector.npy", "like vector.npy vs 1@all"):
        with pytest.raises(
            TargetError, match=r"'like vector\.npy' is no class of this network, and no class in a region"
        ):
            explainer.check_target(text)


def test_one_class(bundles: Folder) -> None:
    """A single class, as in text detection: the score is the logit, its probability the sigmoid."""
    network, folder = bundles("transposed", "sigmoid")
    x = torch.from_numpy(images(1))
    got = Explainer(folder).explain(images(1), "grad-cam", Region(0, MASK))
    want, score = grad_cam(network.features(x)[0], mean(network, x, 0, MASK))
    np.testing.assert_allclose(got.raw, want, atol=1e-4 * want.max())
    assert got.score is not None
    np.testing.assert_allclose(got.score, score, atol=1e-4)
    share = network.dense(*network.features(x)).sigmoid()[0, 0][torch.from_numpy(MASK)].mean()
    assert got.probabilities is not None
    np.testing.assert_allclose(got.probabilities[0, 0], float(share.detach()), atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_methods(bundles: Folder, backend: str) -> None:
    """Masked runs read the region: ReciproCAM its mean score, RISE and Score-CAM its mean probability."""
    network, folder = bundles("bilinear", "")
    explainer, x = Explainer(folder, backend), torch.from_numpy(images(1))
    activation, _ = network.features(x)
    number = mean(network, x, 2, MASK)
    got = explainer.explain(images(1), "reciprocam", Region(2, MASK)).raw[0]
    for y, z in ((0, 0), (5, 7), (11, 15)):
        alone = torch.zeros_like(activation)
        alone[:, :, y, z] = activation[:, :, y, z]
        assert got[y, z] == pytest.approx(float(number(alone).detach()[0]), abs=1e-4)
    with torch.no_grad():
        relevant = explainer.explain(images(1), "score-cam", Region(2, MASK)).raw[0]
        up = torch.nn.functional.interpolate(activation, SIZE, mode="bilinear", align_corners=False)[0]
        low, high = up.amin((1, 2), keepdim=True), up.amax((1, 2), keepdim=True)
        varies = (activation.amax((2, 3)) > activation.amin((2, 3)))[0]
        masks = ((up - low) / (high - low))[varies]
        shares = network(x * masks[:, None]).softmax(1)[:, 2][:, torch.from_numpy(MASK)].mean(1)
        want = torch.relu((shares[:, None, None] * up[varies]).sum(0))
    np.testing.assert_allclose(relevant, want.numpy(), atol=1e-4 * float(want.max()))
    with pytest.raises(
        NotApplicableError, match=r"sglrp: this bundle has|sglrp: it compares the classes of one prediction"
    ):
        explainer.explain(images(1), "sglrp", Region(2, MASK))
    with pytest.raises(NotApplicableError, match="CAM is defined only if"):
        explainer.explain(images(1), "cam", Region(2, MASK))


def test_relevance_starts_at_the_region(bundles: Folder) -> None:
    """LRP-epsilon's conservation: without biases and with the region's mean as start, relevance sums to the score."""
    _, folder = bundles("bilinear", "")
    explainer = Explainer(folder)
    one = explainer.explain(images(1), "lrp", Region(2, MASK)).raw
    other = explainer.explain(images(1), "lrp", Region(3, MASK)).raw
    both = explainer.explain(images(1), "lrp", Contrast(Region(2, MASK), Region(3, MASK))).raw
    np.testing.assert_allclose(both, one - other, atol=1e-4 * np.abs(both).max())


def test_fused(bundles: Folder) -> None:
    """The fused file takes the region as `where`, of any scale, and the class as `target`."""
    network, folder = bundles("transposed", "")
    x = torch.from_numpy(images(3))
    feeds = {
        "image": images(3),
        "target": np.array([2, 1, 2]),
        "where": np.tile(7 * MASK.astype(np.float32), (3, 1, 1)),
    }
    want, _ = grad_cam(
        network.features(x)[0],
        lambda a: torch.stack([mean(network, x, c, MASK)(a)[i] for i, c in enumerate((2, 1, 2))]),
    )
    np.testing.assert_allclose(fused(folder / "fused-grad-cam.onnx", feeds), stretched(want), atol=1e-4)
    own = Explainer(folder).explain(images(3), "lrp", [Region(2, MASK), Region(1, MASK), Region(2, MASK)]).raw
    np.testing.assert_allclose(fused(folder / "fused-lrp.onnx", feeds), stretched(own), atol=1e-4)
    for below in (-1.0, np.nan):  # counts as 0
        odd = feeds | {"where": np.where(feeds["where"] > 0, feeds["where"], below).astype(np.float32)}
        np.testing.assert_allclose(fused(folder / "fused-grad-cam.onnx", odd), stretched(want), atol=1e-4)
        odd["where"] = np.full((3, *SIZE), below, np.float32)
        assert not fused(folder / "fused-grad-cam.onnx", odd).any()
    empty = fused(folder / "fused-grad-cam.onnx", feeds | {"where": np.zeros((3, *SIZE), np.float32)})
    assert not empty.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("method", "end"),
    [
        ("integrated-gradients", ""),
        ("reciprocam", ""),
        ("score-cam", ""),
        ("reciprocam", "argmax"),
        ("score-cam", "argmax"),
    ],
)
def test_fused_in_one_batch(bundles: Folder, backend: str, method: str, end: str) -> None:
    """Copies of each image keep its own region and class; one image, and three with a region and class each."""
    network, folder = bundles("bilinear", end)
    x = images(3)
    want = by_torch(network, torch.from_numpy(x), method)
    regions = [Region(c, place) for c, place in zip(CHOSEN, PLACES, strict=True)]
    if end == "":
        options = {"steps": 8} if method == "integrated-gradients" else {}
        own = Explainer(folder, backend).explain(x, method, regions, **options).raw
        np.testing.assert_allclose(own, want, atol=1e-4 * np.abs(want).max())
    for part in (slice(0, 1), slice(0, 3)):
        feeds = {"image": x[part], "target": np.array(CHOSEN)[part], "where": PLACES[part].astype(np.float32)}
        got = fused(folder / f"fused-{method}.onnx", feeds, backend)
        np.testing.assert_allclose(got, stretched(want[part]), atol=1e-4)


def test_a_batch_that_is_too_large(tmp_path: Path) -> None:
    """192 copies of the scores of 2,000 classes at 24 x 32 positions."""
    request = Request(
        saved(UNet("bilinear", "", 2000), tmp_path / "net.onnx"), output_path=tmp_path / "net.xai", preprocess="none",
        fuse=("reciprocam",),
    )  # fmt: skip
    message = (
        r"--fuse reciprocam: it runs what follows the layer, at every position, in one batch, 192 copies of each image, whose "
        r"largest tensor takes 1125 MiB, above 1024; use the runtime engine"
    )
    with pytest.raises(GraphError, match=message):
        export(request)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Region(2, np.zeros((24, 32), bool)), "the mask is empty"),
        (Region(2, np.ones((24, 30), bool)), "the mask has 30 x 24 pixels, its image 32 x 24"),
        (
            Region(2, np.array([[0, 1], [2, 3]])),
            "a mask has two values, 0 outside and another inside; this one has 0, 1, 2, 3",
        ),
        (Region(2, (40, 2, 5, 5)), "the region 40,2,5,5 lies outside the image, which has 32 x 24 pixels"),
        (Region(2, (4, 2, 0, 5)), "the box 4,2,0,5 is empty: width and height are above 0"),
        (Region(2, 7), "a region is 'predicted', 'all', a box x,y,width,height, corners.*not 7"),
        (Region(9, "all"), "class 9 does not exist; the network has classes 0 to 4"),
        ("2@somewhere", "region 'somewhere': give 'predicted', 'all', a box"),
        ("2@all vs 2@all", "class 2 is contrasted with itself"),
        (f"2@all vs {'x' * 5000}", "both sides of a contrast are CLASS or CLASS@WHERE"),
    ],
    ids=str,
)
def test_refusals(bundles: Folder, target: object, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        Explainer(bundles("bilinear", "")[1]).explain(images(1), "grad-cam", target)  # type: ignore[arg-type]


def test_names_of_masks(bundles: Folder) -> None:
    """A mask's name may hold a " vs ", and may be too long for any file."""
    with pytest.raises(ImageFileError, match=r"^here vs there\.png: no such file"):
        Explainer(bundles("bilinear", "")[1]).explain(images(1), "grad-cam", "2@here vs there.png")
    with pytest.raises(ImageFileError, match=r"^an image: .xxx.* is too long for a file.s name; name the file again$"):
        Explainer(bundles("bilinear", "")[1]).explain(images(1), "grad-cam", f"2@{'x' * 5000}.png")


def test_from_the_command_line(bundles: Folder, tmp_path: Path) -> None:
    """A box of the photo, a mask's file and the other direction; the report says what is explained."""
    folder, out = bundles("bilinear", "")[1], tmp_path / "out"
    write_image(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8))
    write_image(tmp_path / "mask.png", np.repeat(MASK[..., None], 3, axis=2).astype(np.uint8) * 255)
    targets = ["1@3,2,10,4", f"2@{tmp_path / 'mask.png'}", "not 2@all", "2@all vs 3"]
    arguments = [str(folder), str(tmp_path / "photo.png"), "-m", "grad-cam", "-o", str(out), "-q"]
    assert explain.main([*arguments, *(part for target in targets for part in ("-t", target))]) == 0
    report = json.loads((out / "results.json").read_text())
    entries = report["images"][0]["explanations"]
    titles = ["class 1 @ 3,2,10,4", "class 2 @ mask.png", "not class 2 @ all", "class 2 vs class 3 @ all"]
    assert [entry["title"] for entry in entries] == titles
    own = Explainer(folder).explain(tmp_path / "photo.png", "grad-cam", Region(2, MASK))
    assert own.score is not None
    assert entries[1]["score"] == pytest.approx(float(own.score[0]), rel=1e-5)
    np.testing.assert_allclose(np.load(out / entries[1]["raw"]), own.raw[0], rtol=1e-5, atol=1e-7)


def test_a_class_against_the_most_similar_in_a_region(bundles: Folder) -> None:
    """ReciproCAM's map of logits is linear in them: that of the class less the mean of the two whose mean scores are nearest."""
    _, path = bundles("bilinear", "")
    explainer, x = Explainer(path, "onnxruntime"), images(2)
    every = explainer.explain_many(x, ["reciprocam"], [Region(c, MASK) for c in range(CLASSES)])
    got, text, whole = explainer.explain_many(
        x, ["reciprocam"], [Finer(Region(3, MASK), 2), "3@all vs 0.5*top1", Region(3, "all")]
    )
    score = np.array([e.score for e in every])
    for i in range(2):
        near = [c for c in np.argsort(np.abs(score[:, i] - score[3, i]), kind="stable") if c != 3][:2]
        wanted = every[3].raw[i] - np.mean([every[c].raw[i] for c in near], axis=0)
        np.testing.assert_allclose(got.raw[i], wanted, atol=1e-5 * np.abs(wanted).max() + 1e-6)
    assert text.caption() == "class 3 @ all vs 0.5*top1"
    assert np.abs(text.raw - whole.raw).max() > 0
    for target in ("not 3@all vs top2", "3@all vs 2@all vs top2"):
        with pytest.raises(TargetError, match="vs top2: takes a class in a region, not"):
            explainer.explain(x, "reciprocam", target)


@pytest.mark.parametrize("tall", [True, False])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_photo_in_a_letterbox(tmp_path: Path, tall: bool, backend: str) -> None:
    """Grey borders left and right, or above and below: the score is the mean of those scores that lie on the object."""
    data: Any = skimage.data
    photo = data.astronaut()[:, 120:376] if tall else data.chelsea()
    height, width = photo.shape[:2]
    mask = np.zeros((height, width), bool)
    mask[height // 8 : height // 2, width // 4 : width // 2] = True
    network = randomise(nn.Conv2d(3, 3, 3, padding=1), 3)
    source = tmp_path / "net.onnx"
    onnx.save(both_ways(network, False, (3, 64, 64)), source)
    fields = {"resize": "letterbox", "antialias": False}
    export(Request(source, output_path=tmp_path / "n.xai", preprocess="unit", preprocess_fields=fields))
    scale = 64 / max(height, width)
    small = cv2.resize(photo, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
    top, left = ((64 - side) // 2 for side in small.shape[:2])
    explainer = Explainer(tmp_path / "n.xai", backend)
    boxed = np.full((64, 64, 3), 114, np.uint8)
    boxed[top : top + small.shape[0], left : left + small.shape[1]] = small
    np.testing.assert_allclose(explainer.prepare(photo).x[0], boxed.transpose(2, 0, 1) / 255, atol=3 / 255)
    with torch.no_grad():
        dense = network(torch.from_numpy(explainer.prepare(photo).x))[0, 1].numpy()
    # the mask in the letterbox, each pixel the share of it that the object covers
    fine = np.zeros((64 * 64, 64 * 64), np.float32)
    rows, columns = ((np.arange(64 * 64) + 0.5) / 64 for _ in range(2))
    y = np.floor((rows - top) / small.shape[0] * height).astype(int)
    x = np.floor((columns - left) / small.shape[1] * width).astype(int)
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
    fine[:] = mask[np.clip(y, 0, height - 1)][:, np.clip(x, 0, width - 1)] & inside
    share = fine.reshape(64, 64, 64, 64).mean((1, 3))
    got = explainer.explain(photo, "rise", Region(1, mask), masks=2, score="logit")
    assert got.score is not None
    assert got.score[0] == pytest.approx(float((dense * share).sum() / share.sum()), rel=2e-3)
    box = (width // 4, height // 8, width // 2 - width // 4, height // 2 - height // 8)
    again = explainer.explain(photo, "rise", Region(1, box), masks=2, score="logit")
    assert again.score is not None
    assert again.score[0] == pytest.approx(float(got.score[0]), rel=1e-6)
