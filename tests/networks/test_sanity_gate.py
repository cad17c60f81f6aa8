"""The export's gate on every kind of scores: what is asked, the figure by SciPy, and a method that reads no weight is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import nn
from xai_exporters import Request, export
from xai_exporters import cli as xai_export
from xai_exporters.bundle import sanity
from xai_exporters.errors import VerificationError
from xai_exporters.roles.fuse.fused_method import fused
from xai_exporters.roles.fuse.net import Net

from tests.exporters.running import both_ways
from xai_deploy import Explainer, Like, Region, read_image, write_image
from xai_deploy.format.randomised import SANITY

from .detectors import nets as detectors
from .inputs.nets import Fusion
from .inputs.nets import saved as saved_with_further
from .outputs.nets import Embedding, UNet, saved

COUNT = 11
METHOD = "layer-cam"


@dataclass(frozen=True)
class Edges:
    """A map of the image alone: its mean colour."""

    input_sized: ClassVar[bool] = True
    at_pixels: ClassVar[bool] = True
    signed: ClassVar[bool] = False

    def raw(self, net: Net) -> ir.Value:
        """See `Fused.raw`."""
        net.plain()
        return net.op.ReduceMean(net.floats(net.x), [1], keepdims=0)


def detector(name: str) -> Callable[[Path], Path]:
    """Saves one of the detectors as ONNX."""

    def save(file: Path) -> Path:
        torch.manual_seed(3)
        network: nn.Module = getattr(detectors, name)().eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1.5)
        onnx.save(both_ways(network, False, (3, *detectors.SIZE)), file)
        return file

    return save


KINDS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "dense": (lambda file: saved(UNet("bilinear", "softmax"), file), {}),
    "argmax": (lambda file: saved(UNet("bilinear", "argmax"), file), {}),
    "one class": (lambda file: saved(UNet("transposed", "sigmoid", 1), file), {}),
    "embedding": (lambda file: saved(Embedding(unit=True), file), {}),
    "added embedding": (lambda file: saved(Embedding(), file), {"task": "embedding"}),
    "numbers": (lambda file: saved(Embedding(), file), {"task": "numbers"}),
    "detector": (detector("YoloV8"), {}),
    "chosen rows": (detector("EndToEnd"), {}),
    "queries": (detector("Detr"), {"decoder": "detr"}),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coarse squares, the first one twice."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(7)
    for i in range(COUNT - 1):
        coarse = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        write_image(folder / f"{i:02d}.png", coarse.repeat(8, axis=0).repeat(8, axis=1))
    (folder / "00b.png").write_bytes((folder / "00.png").read_bytes())
    return folder


def gated(kind: str, folder: Path, photos: Path, **more: Any) -> Path:
    """The bundle."""
    save, options = KINDS[kind]
    wanted = {"fuse": (METHOD,), "roles": ("head",), **options, **more}
    request = Request(
        save(folder / "net.onnx"), output_path=folder / "net.xai", preprocess="unit", require_sanity=photos
    )
    return export(replace(request, **wanted)).path


def with_random(kind: str, folder: Path, photos: Path) -> tuple[Path, Path]:
    """The bundle, and the one of random weights."""
    path = gated(kind, folder, photos, roles=("gradient",), randomise=1, sanity_limit=1.0)
    return path, path.with_name("net.randomised-1-of-1.xai")


def recorded(path: Path) -> float:
    """The figure in the manifest."""
    said = Explainer(path).bundle.manifest.extensions[SANITY]
    name, figure, count = said.replace("; ", " ").split(" ")[:3]
    assert (name, count) == (METHOD, str(COUNT))
    return float(figure)


def mean_of(pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    """The mean of SciPy's rank correlations."""
    return float(np.mean([spearmanr(one.ravel(), other.ravel()).statistic for one, other in pairs]))


def target_of(kind: str, trained: Explainer, files: list[Path], i: int) -> Any:
    """What the engine is asked about an image."""
    if (
        kind == "embedding"
    ):  # the first image is there twice, and this network sees little difference between some others
        own = trained.predict([str(file) for file in files])
        return Like(own[next(j % COUNT for j in range(i + 1, i + COUNT) if own[j % COUNT] @ own[i] < 1 - 1e-5)])
    if kind == "numbers":
        return "#0"
    name, _, _ = trained.explain(files[i], METHOD, Region(None, "all")).caption().partition(" @ ")
    return Region(int(name.rpartition(" ")[2]), "all")


@pytest.mark.parametrize("kind", ["argmax", "embedding", "numbers"])
def test_the_figure(kind: str, photos: Path, tmp_path: Path) -> None:
    """It is the mean rank correlation of the engine's maps of two bundles, for the same question."""
    path, other = with_random(kind, tmp_path, photos)
    trained, random = Explainer(path), Explainer(other)
    files = sorted(photos.iterdir())
    asked = [target_of(kind, trained, files, i) for i in range(COUNT)]
    maps = [
        tuple(one.explain(file, METHOD, target).raw[0] for one in (trained, random))
        for file, target in zip(files, asked, strict=True)
    ]
    assert recorded(path) == pytest.approx(mean_of(maps), abs=0.006)


def test_the_figure_of_a_detector(photos: Path, tmp_path: Path) -> None:
    """The row is the best one by torch; its LayerCAM is written out from the activation and the gradient graph."""
    path, random = with_random("queries", tmp_path, photos)
    torch.manual_seed(3)
    network = detectors.Detr().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    x = np.stack([read_image(file) for file in sorted(photos.iterdir())]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    with torch.no_grad():
        shares = network(torch.from_numpy(x))[0].softmax(2)[..., : detectors.CLASSES]
    best = shares.flatten(1).argmax(1)
    rows, classes = best // detectors.CLASSES, best % detectors.CLASSES

    def layer_cam(bundle: Path, i: int, image: int) -> NDArray[np.float32]:
        head, back = (
            onnxruntime.InferenceSession(bundle / f"{role}.onnx", providers=["CPUExecutionProvider"])
            for role in ("head", "gradient")
        )
        names = [output.name for output in head.get_outputs()]
        feeds = dict(zip(names, head.run(names, {head.get_inputs()[0].name: x[image : image + 1]}), strict=True))
        a = feeds["activation"]
        feeds |= {
            "where": np.eye(5, dtype=np.float32)[rows[i]][None, None],
            "target": classes[i : i + 1].numpy(),
            "seed": np.zeros((1, 1, 8), np.float32),
        }
        [g] = back.run(["gradient"], {one.name: feeds[one.name] for one in back.get_inputs()})
        return np.asarray(np.maximum((np.maximum(g, 0) * a).sum(1), 0)[0], np.float32)

    maps = []
    for i in range(COUNT):
        asked = [[layer_cam(one, i, (i + later) % COUNT) for one in (path, random)] for later in range(5)]
        seen = (np.array(asked) > 0).any(axis=(0, 1))  # by the row at all
        maps.append((asked[0][0][seen], asked[0][1][seen]))
    assert recorded(path) == pytest.approx(mean_of(maps), abs=0.006)


@pytest.mark.parametrize("kind", ["dense", "one class", "added embedding", "numbers", "detector", "chosen rows"])
def test_a_method_that_reads_no_weight(
    kind: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its map is the same with random weights, whatever is explained; that of LayerCAM, which comes first, is not."""
    fused.get(METHOD)  # all modules are imported
    monkeypatch.setitem(fused._items, "edges", Edges)
    said = r"maps of edges hardly change when all weights are random: .* over 11 images is 1\.00, 0\.9 or more"
    with pytest.raises(VerificationError, match=said):
        gated(kind, tmp_path, photos, fuse=(METHOD, "edges"), sanity_limit=0.9)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_detectors_empty_places(tmp_path: Path) -> None:
    """Unrelated maps of a row that sees a sixth of the image, empty at seven of ten positions there, have nothing in common.

    Over the whole map they would look alike, and opposite at the positions at which one of both shows something.
    """
    rng = np.random.default_rng(0)
    squares = np.zeros((COUNT, 40, 60), bool)
    for one in squares:
        top, left = rng.integers(0, 20), rng.integers(0, 40)
        one[top : top + 20, left : left + 20] = True
    sees = squares.reshape(COUNT, -1)

    def draw() -> NDArray[np.float32]:
        return np.where(sees & (rng.random(sees.shape) < 0.3), rng.random(sees.shape), 0).astype(np.float32)[:, None]

    trained, random = [draw() for _ in range(9)], [draw() for _ in range(9)]
    seen = sanity._seen(trained.__getitem__, random.__getitem__, 9)
    assert not (seen & ~sees).any()
    assert (seen == sees).mean() > 0.999  # 18 maps: a position is missed by 0.7 ** 18 of the draws
    figure, count = sanity._alike("layer-cam", trained[0], random[0], seen)
    expected = mean_of(
        [(one[there], other[there]) for one, other, there in zip(trained[0][:, 0], random[0][:, 0], sees, strict=True)]
    )
    assert figure == pytest.approx(expected, abs=1e-3)
    assert count == COUNT
    assert abs(figure) < 0.05
    either = (trained[0] != 0) | (random[0] != 0)
    assert sanity._alike("layer-cam", trained[0], random[0], either[:, 0])[0] < -0.5
    assert sanity._alike("layer-cam", trained[0], random[0], None)[0] > 0.15
    assert sanity._alike("layer-cam", trained[0], trained[0], seen)[0] == pytest.approx(1)


def test_images_that_are_all_the_same(photos: Path, tmp_path: Path) -> None:
    same = tmp_path / "same"
    same.mkdir()
    for i in range(10):
        (same / f"{i}.png").write_bytes((photos / "03.png").read_bytes())
    with pytest.raises(VerificationError, match="embeds all images of the folder alike"):
        gated("embedding", tmp_path, same)


def test_what_a_folder_of_images_does_not_hold(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = torch.rand(1, 3, 15, 19), torch.rand(1, 1, 15, 19)
    source = saved_with_further(Fusion(), tmp_path / "net.onnx", examples, ("rgb", "depth"))
    given = [
        str(source),
        "--preprocess",
        "unit",
        "--fuse",
        METHOD,
        "-o",
        str(tmp_path / "n.xai"),
        "-q",
        "--input",
        "depth=array",
    ]
    assert xai_export.main([*given, "--require-sanity", str(photos)]) == 2
    assert "beside the image, which a folder of images does not hold; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "n.xai").exists()
