"""Methods that hide segments: every kind of target, network and segments, against the same score in torch."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from skimage.segmentation import slic
from torch import Tensor
from torch.nn import functional
from xai_exporters import Request, export

from xai_deploy import Explainer, Like
from xai_deploy.cli.explain import main as explain
from xai_deploy.errors import ImageFileError, NotApplicableError
from xai_deploy.methods.lime import ridge
from xai_deploy.methods.segments import _counted
from xai_deploy.preprocess import Prepared

from ..volumes import nets as volumes
from .nets import SIZE, Embedding, UNet, images, saved

BACKENDS = ["onnxruntime", "openvino"]
REFERENCE = np.random.default_rng(9).standard_normal(6).astype(np.float32)
Score = Callable[[Tensor], Tensor]
Maps = NDArray[Any]

UNIT = np.zeros(SIZE)
UNIT[4:13, 3:13] = 1 / 90


def dense(kind: int, weights: Maps) -> Score:
    """The mean probability of a class in a region, of the scores of a U-Net."""
    return lambda y: (y.softmax(1)[:, kind] * torch.from_numpy(weights)).sum((1, 2))


def cosine(y: Tensor) -> Tensor:
    """The similarity to `REFERENCE`."""
    return functional.cosine_similarity(y, torch.from_numpy(REFERENCE)[None], dim=1)


TARGETS: dict[str, list[tuple[Any, Score]]] = {
    "dense": [
        ("1@all", dense(1, np.full(SIZE, 1 / (SIZE[0] * SIZE[1])))),
        ("2@3,4,10,9 vs 0@3,4,10,9", lambda y: dense(2, UNIT)(y) - dense(0, UNIT)(y)),
    ],
    "numbers": [("#3", lambda y: y[:, 3]), ("not #1", lambda y: -y[:, 1])],
    "embedding": [(Like(REFERENCE), cosine)],
    "volumes": [("1 vs 4", lambda y: y.softmax(1)[:, 1] - y.softmax(1)[:, 4])],
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Networks that are not cut, and one of volumes that is: their folder, and the networks in torch."""
    folder = tmp_path_factory.mktemp("hiding")
    torch.manual_seed(0)  # for the layers that `saved` does not draw
    nets: dict[str, Any] = {"dense": UNet("transposed", "softmax"), "numbers": Embedding(), "embedding": Embedding()}
    for name, more in (("dense", {}), ("numbers", {"task": "numbers"}), ("embedding", {"task": "embedding"})):
        source = saved(nets[name], folder / f"{name}.onnx")
        request: dict[str, Any] = {"output_path": folder / f"{name}.xai", "roles": ("network",), **more}
        export(Request(source, preprocess="none", **request))
    nets["volumes"] = volumes.ResNet()
    source = volumes.saved(nets["volumes"], folder / "volumes.onnx", (3, *volumes.SIZE))
    export(Request(source, output_path=folder / "volumes.xai", preprocess="unit"))
    nets["dense"].end = ""
    return folder, {name: net.eval() for name, net in nets.items()}


@pytest.fixture
def folder(networks: tuple[Path, dict[str, Any]]) -> Path:
    """The folder of the bundles."""
    return networks[0]


def inputs(kind: str) -> Maps:
    """Three inputs of a network."""
    if kind == "dense":  # strong enough for probabilities that differ
        return images(3) * np.float32(30)
    return images(3) if kind != "volumes" else np.random.default_rng(5).random((3, 3, *volumes.SIZE), dtype=np.float32)


def cells(count: int, size: tuple[int, ...]) -> NDArray[np.int64]:
    """`grid:count`."""
    axes = np.meshgrid(*(np.arange(side) * count // side for side in size), indexing="ij")
    return np.ravel_multi_index(axes, (count,) * len(size))


def lime(score: Score, net: Callable[[Tensor], Tensor], x: Maps, labels: NDArray[np.int64]) -> Maps:
    """The definition, with zeros behind: [n, ...]."""
    shown = np.random.default_rng(0).random((30, labels.max() + 1)) < 0.5
    shown[0] = True
    with torch.no_grad():
        y = np.stack([score(net(torch.from_numpy(x * row[labels]))).numpy() for row in shown.astype(np.float32)])
    away = 1 - np.sqrt(shown.mean(1))
    weights, _ = ridge(shown.astype(float), y.T.astype(float), np.exp(-(away**2) / 0.125), 1.0)
    return weights[:, labels]


def every_score(score: Score, net: Callable[[Tensor], Tensor], x: Maps, count: int, labels: NDArray[np.int64]) -> Maps:
    """f of each set of segments, zeros behind: [2^M,n]; bit i of the index: segment i is shown."""
    shown = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    with torch.no_grad():
        y = [score(net(torch.from_numpy(x * row[labels]))).numpy() for row in shown.astype(np.float32)]
    return np.stack(y).astype(float)


def kernel_shap(score: Score, net: Callable[[Tensor], Tensor], x: Maps, labels: NDArray[np.int64]) -> Maps:
    """Shapley's formula over all sets, at the pixels: [n, ...]."""
    count = int(labels.max()) + 1
    f, values = every_score(score, net, x, count, labels), np.zeros((len(x), count))
    for i, index in itertools.product(range(count), range(2**count)):
        if not index >> i & 1:
            size = index.bit_count()
            share = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            values[:, i] += share * (f[index | 1 << i] - f[index])
    return (values / np.bincount(labels.ravel()))[:, labels]


def partition_shap(score: Score, net: Callable[[Tensor], Tensor], x: Maps, labels: NDArray[np.int64]) -> Maps:
    """Halves of halves across the longest side first, at the pixels: [n, ...]."""
    count = int(labels.max()) + 1
    f, sides = every_score(score, net, x, count, labels), np.argsort(labels.shape, kind="stable")[::-1]
    bits = (np.arange(count)[:, None] >> np.arange(labels.ndim)[::-1]) & 1  # the cell of a segment along each axis

    def shared(members: NDArray[np.int64], context: int, sides: NDArray[np.int64]) -> dict[int, Maps]:
        every = context | sum(1 << int(i) for i in members)
        if len(members) == 1:
            return {int(members[0]): f[every] - f[context]}
        parts = [members[bits[members, sides[0]] == half] for half in (0, 1)]
        values: dict[int, Maps] = {}
        for own, other in (parts, parts[::-1]):
            beside = context | sum(1 << int(i) for i in other)
            alone, after = shared(own, context, sides[1:]), shared(own, beside, sides[1:])
            values |= {i: (alone[i] + after[i]) / 2 for i in alone}
        return values

    found = shared(np.arange(count), 0, sides)
    values = np.stack([found[i] for i in range(count)], axis=1)
    return (values / np.bincount(labels.ravel()))[:, labels]


METHODS: dict[str, tuple[Any, int]] = {
    "lime": (lime, 30),
    "kernel-shap": (kernel_shap, 254),
    "partition-shap": (partition_shap, 200),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", list(TARGETS))
@pytest.mark.parametrize("method", list(METHODS))
def test_every_kind_of_target(networks: tuple[Path, dict[str, Any]], method: str, kind: str, backend: str) -> None:
    """One image alone is as in a batch of three."""
    explainer, net, x = Explainer(networks[0] / f"{kind}.xai", backend), networks[1][kind], inputs(kind)
    definition, samples = METHODS[method]
    spec = (method, {"segments": "grid:2", "samples": samples, "baseline": "zeros"})
    for target, score in TARGETS[kind]:
        want = definition(score, net, x, cells(2, x.shape[2:]))
        [got] = explainer.explain_many(Prepared(x), [spec], [target])
        [alone] = explainer.explain_many(Prepared(x[1:2]), [spec], [target])
        assert np.ptp(want.reshape(3, -1), axis=1).min() > 1e-6
        for raw, maps in ((got.raw, want), (alone.raw, want[1:2])):
            np.testing.assert_allclose(raw, maps, rtol=0, atol=2e-4 * np.abs(want).max())
        assert all(len(values) == 3 for values in got.diagnostics.values())


def labels_of(explainer: Explainer, x: Any, segments: str) -> list[NDArray[np.int64]]:
    """The segments as the map of a network shows them: pixels of equal value."""
    raw = explainer.explain(x, "lime", 0, segments=segments, samples=40, score="logit").raw
    return [np.unique(one, return_inverse=True)[1].reshape(one.shape) for one in raw]


def same(a: Maps, b: Maps) -> bool:
    """Whether two pictures of labels cut alike, whatever the labels."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return bool(len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1])


def test_labels_from_files(folder: Path, tmp_path: Path) -> None:
    """Of the network's size, and of a photo's, in colours, in 16 bits, in an array; the photo is stretched by 2."""
    explainer = Explainer(folder / "numbers.xai")
    photo = np.random.default_rng(1).integers(0, 256, (2 * SIZE[0], 2 * SIZE[1], 3), dtype=np.uint8)
    cut = np.arange(SIZE[0])[:, None] // 9 * 3 + np.arange(SIZE[1]) // 13
    large = np.repeat(np.repeat(cut, 2, 0), 2, 1)
    colours = np.random.default_rng(2).integers(0, 256, (9, 3), dtype=np.uint8)
    np.save(tmp_path / "small.npy", cut.astype(np.uint16) * 7000)
    np.save(tmp_path / "large.npy", large - 3)
    PIL.Image.fromarray(colours[large]).save(tmp_path / "colours.png")
    PIL.Image.fromarray(large.astype(np.uint16) * 300 + 256).save(tmp_path / "deep.png")
    for name in ("small.npy", "large.npy", "colours.png", "deep.png"):
        [got] = labels_of(explainer, photo, str(tmp_path / name))
        assert same(got, cut), name
    [got] = labels_of(explainer, images(1), str(tmp_path / "small.npy"))
    assert same(got, cut)
    with pytest.raises(
        ImageFileError, match=r"large\.npy: its labels have shape 48 x 64; image 1 needs 24 x 32 \(rows x columns\)"
    ):
        labels_of(explainer, images(1), str(tmp_path / "large.npy"))
    other = photo[:-1]
    with pytest.raises(ImageFileError, match="image 1 needs 47 x 64 or 24 x 32"):
        labels_of(explainer, other, str(tmp_path / "large.npy"))


def test_a_strangers_file(folder: Path, tmp_path: Path) -> None:
    explainer = Explainer(folder / "numbers.xai")
    np.save(tmp_path / "floats.npy", np.zeros(SIZE))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "text.png").write_text("labels")
    photo = np.zeros((41, 61, 3), np.uint8)
    for name, error, message in (
        ("floats.npy", ImageFileError, "holds float64; labels of segments are whole numbers"),
        ("objects.npy", ImageFileError, "holds Python objects"),
        ("text.png", ImageFileError, "not a PNG"),
        ("none.npy", ImageFileError, "no such file"),
    ):
        with pytest.raises(error, match=message):
            labels_of(explainer, photo, str(tmp_path / name))
    np.save(tmp_path / "many.npy", np.arange(5 * 17 * 23 * 2).reshape(2, 5, 17, 23)[1])
    volume = Explainer(folder / "volumes.xai")
    one = Prepared(inputs("volumes")[:1])
    assert volume.explain(one, "lime", segments=str(tmp_path / "many.npy"), samples=5).raw.size == 1955
    with pytest.raises(NotApplicableError, match="lime: the image has 2501 segments; at most 2500 are possible"):
        _counted("lime", np.arange(2501))


def test_superpixels(folder: Path) -> None:
    """Those of scikit-image for the pixels."""
    explainer = Explainer(folder / "numbers.xai")
    photo = np.kron(np.random.default_rng(3).integers(0, 256, (4, 4, 3)), np.ones((6, 8, 1))).astype(np.uint8)
    [got] = labels_of(explainer, photo, "slic:9")
    want = slic(photo / 255, n_segments=9, start_label=0)
    assert len(np.unique(want)) > 4
    assert same(got, want)


def test_scores_that_do_not_exist(folder: Path) -> None:
    for method in METHODS:
        with pytest.raises(NotApplicableError, match=f"{method}: score 'softmax' is for classes; give score='logit'"):
            Explainer(folder / "numbers.xai").explain(images(1), method, 0, score="softmax")


def test_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file's name may hold what separates options; the results' names hold neither colons nor slashes."""
    monkeypatch.chdir(tmp_path)
    PIL.Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save("photo.png")
    np.save("a,b=c.npy", np.arange(40)[:, None] // 14 + np.zeros((1, 50), int))
    given = [str(folder / "numbers.xai"), "photo.png", "-t", "#1", "-o", "out", "-m"]
    asked = "lime:samples=20,lime:segments=grid:2:samples=20"
    assert explain([*given, asked, "--segments", str(tmp_path / "a,b=c.npy")]) == 0
    entries = json.loads(Path("out", "results.json").read_text())["images"][0]["explanations"]
    assert [one["options"]["segments"] for one in entries] == [str(tmp_path / "a,b=c.npy"), "grid:2"]
    assert all(one["diagnostics"]["standard_error"] > 0 for one in entries)
    names = [path.name for path in Path("out").rglob("*") if "lime" in path.name]
    assert any("segments=grid-2" in name for name in names)
    assert any(re.search(r"a,b=c\.npy-[0-9a-f]{8}", name) for name in names)
    assert explain([*given, "rise:masks=3", "--segments", "grid:3"]) == 2
    assert "--segments is for methods of segments (" in capsys.readouterr().err
