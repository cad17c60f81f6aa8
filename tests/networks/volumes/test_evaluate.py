"""xai-evaluate of volumes: the figures, written out in NumPy on what the network's source gives; and what is refused."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from xai_exporters import Request, export

from xai_deploy import Explainer, write_image
from xai_deploy.cli.evaluate import main
from xai_deploy.preprocess import Prepared

from .exported import Exported
from .nets import EVEN, SIZE, UNet, saved

COUNT, STEPS, CUBES = 3, 4, 5
Floats = NDArray[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of twice the network's height and width, and masks of the same shape, one in a folder below."""
    folder, rng = tmp_path_factory.mktemp("volumes"), np.random.default_rng(2)
    depth, height, width = SIZE
    for i in range(COUNT):
        below = "below" if i == 2 else ""
        for kind in ("set", "masks"):
            (folder / kind / below).mkdir(parents=True, exist_ok=True)
        volume = rng.integers(0, 256, (depth, 2 * height, 2 * width, 3), dtype=np.uint8)
        mask = np.zeros(volume.shape[:3], np.int16)
        mask[1:4, 3 + i : 20, 5:31] = [4, 7, 300][i]
        np.save(folder / "set" / below / f"{i}.npy", volume)
        np.save(folder / "masks" / below / f"{i}.npy", mask)
    write_image(folder / "set" / "preview.png", np.zeros((4, 4, 3), np.uint8))  # no volume: left out
    return folder


def files(folder: Path, kind: str) -> list[Path]:
    return [folder / kind / name for name in ("0.npy", "1.npy", "below/2.npy")]


def evaluated(out: Path, *arguments: str) -> list[dict[str, str]]:
    assert main(["-q", "-o", str(out), *arguments]) == 0
    with (out / "images.csv").open() as file:
        return list(csv.DictReader(file))


def by_hand(x: Floats, heat: Floats, axis: int, p: Any) -> dict[str, float]:
    """Deletion, drop, infidelity of one volume [...]; p takes such a volume, and `axis` is that of its channels."""
    order, size = np.argsort(-heat.ravel(), kind="stable"), heat.size
    curve = []
    for step in range(STEPS + 1):
        gone = np.zeros(size, bool)
        gone[order[: round(step * size / STEPS)]] = True
        curve.append(p(np.where(np.expand_dims(gone.reshape(SIZE), axis), 0, x)))
    before, after = p(x), p(x * np.expand_dims(heat, axis))
    # squares of a fifth of the shorter side, 3 of 17, through a fifth of the slices, 1 of 5
    corners = np.random.default_rng(0).integers([SIZE[0], SIZE[1] - 2, SIZE[2] - 2], size=(CUBES, 3))
    sums, drops = [], []
    for z, y, w in corners:
        cube = np.zeros(SIZE, bool)
        cube[z, y : y + 3, w : w + 3] = True
        sums.append(heat[cube].sum(dtype=np.float64))
        drops.append(before - p(np.where(np.expand_dims(cube, axis), 0, x)))
    share = np.dot(sums, drops) / np.dot(sums, sums)
    return {
        "deletion": float(np.mean([(a + b) / 2 for a, b in itertools.pairwise(curve)])),
        "average-drop": 100 * max(before - after, 0) / before,
        "complexity": float(heat.mean(dtype=np.float64)),
        "infidelity": float(np.mean((share * np.array(sums) - drops) ** 2)),
    }


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_figures(resnet: Exported, folder: Path, tmp_path: Path, backend: str) -> None:
    metrics = (
        f"average-drop,deletion:steps={STEPS},insertion:steps={STEPS},coherency,complexity,infidelity:samples={CUBES}"
    )
    rows = evaluated(
        tmp_path, str(resnet.path), str(folder / "set"), "-m", "grad-cam", "-b", backend,
        "--masks", str(folder / "masks"), "--metrics", f"{metrics},mass-accuracy,segmentation",
    )  # fmt: skip
    assert len(rows) == COUNT
    explainer, session = Explainer(resnet.path, backend), onnxruntime.InferenceSession(str(resnet.source))
    volumes = explainer.prepare([str(file) for file in files(folder, "set")])
    maps = explainer.explain(volumes, "grad-cam")
    axis = explainer.bundle.manifest.input.channel_axis - 1
    again = explainer.explain(
        Prepared(volumes.x * np.expand_dims(maps.heatmap, axis + 1)), "grad-cam", maps.target
    ).heatmap
    for i, row in enumerate(rows):
        target, heat = int(row["target"]), maps.heatmap[i].astype(np.float64)
        assert target == maps.target[i]

        def p(one: Floats, target: int = target) -> float:
            feed = {session.get_inputs()[0].name: one[None].astype(np.float32)}
            logits = np.asarray(session.run(None, feed)[0][0], np.float64)
            shares = np.exp(logits - logits.max())
            return float(shares[target] / shares.sum())

        mask = np.load(files(folder, "masks")[i])[:, 1::2, 1::2] > 0  # the pixel in which a centre lies
        hot = heat > heat.mean() + heat.std()
        want = {
            **by_hand(volumes.x[i], maps.heatmap[i], axis, p),
            "coherency": (np.corrcoef(heat.ravel(), again[i].ravel())[0, 1] + 1) / 2,
            "mass-accuracy": heat[mask].sum() / heat.sum(),
            "segmentation": (hot & mask).sum() / (hot | mask).sum(),
        }
        for name, value in want.items():
            assert float(row[name]) == pytest.approx(value, rel=2e-4, abs=1e-6), name
        assert 0 < float(row["insertion"]) < 1
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg") == 5  # best and worst volume, each with its map, and the colours


def test_masks_of_classes(resnet: Exported, folder: Path, tmp_path: Path) -> None:
    masks = ["--masks", str(folder / "masks"), "--masks-of", "class", "-t", "4", "--metrics", "mass-accuracy"]
    rows = evaluated(tmp_path, str(resnet.path), str(folder / "set"), "-m", "grad-cam", *masks)
    assert [bool(row["mass-accuracy"]) for row in rows] == [True, False, False]  # the others hold 7 and 300


def test_sanity(resnet: Exported, folder: Path, tmp_path: Path) -> None:
    done = export(Request(resnet.source, preprocess="unit", randomise=1, output_path=tmp_path / "n.xai"))
    arguments = ["-m", "grad-cam", "--metrics", "sanity,emprt"]
    rows = evaluated(tmp_path / "out", str(done.path), str(folder / "set"), *arguments)
    photos = [str(file) for file in files(folder, "set")]
    own = Explainer(done.path).explain(photos, "grad-cam")
    other = Explainer(tmp_path / "n.randomised-1-of-1.xai").explain(photos, "grad-cam", own.target)
    for row, a, b in zip(rows, own.heatmap, other.heatmap, strict=True):
        assert float(row["sanity-1"]) == pytest.approx(spearmanr(a.ravel(), b.ravel())[0], abs=1e-4)


def test_a_segmenter(tmp_path: Path) -> None:
    """The class's mean probability in a box through all slices; and where the network predicts it."""
    network = UNet()
    source = saved(network, tmp_path / "unet.onnx", (1, *EVEN))
    done = export(Request(source, preprocess="unit", output_path=tmp_path / "unet.xai"))
    (tmp_path / "set").mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):  # floats are taken as preprocessed
        np.save(tmp_path / "set" / f"{i}.npy", rng.random(EVEN, np.float32))
    rows = evaluated(
        tmp_path / "out", str(done.path), str(tmp_path / "set"), "-m", "grad-cam", "-t", "2@3,2,6,5", "--metrics",
        f"region,deletion:steps={STEPS}",
    )  # fmt: skip
    photos = [str(tmp_path / "set" / f"{i}.npy") for i in range(2)]
    maps = Explainer(done.path).explain(photos, "grad-cam", "2@3,2,6,5").heatmap.astype(np.float64)
    box = np.zeros(EVEN, bool)
    box[:, 2:7, 3:9] = True
    for row, heat in zip(rows, maps, strict=True):
        assert float(row["region-energy"]) == pytest.approx(heat[box].sum() / heat.sum(), rel=1e-4)
    assert evaluated(tmp_path / "2", str(done.path), str(tmp_path / "set"), "-m", "grad-cam", "--metrics", "region")


def test_a_mask_of_another_shape(resnet: Exported, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for i, mask in enumerate((np.ones(SIZE, np.uint8), np.full((5, 34, 46), 0.5))):
        np.save(tmp_path / "masks" / f"{i}.npy", mask)
    out, masks = tmp_path / "out", ["--masks", str(tmp_path / "masks")]
    rows = evaluated(out, str(resnet.path), str(folder / "set"), *masks, "-m", "cam", "--metrics", "complexity")
    reasons = [one["reason"] for one in json.loads((out / "results.json").read_text())["skipped"]]
    assert [row["error"] for row in rows] == ["", *reasons]
    assert "a mask of shape [5, 17, 23], but" in reasons[0]
    assert "has [5, 34, 46]; give one number for each voxel" in reasons[0]
    assert "holds float64; a mask is whole numbers or booleans" in reasons[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("set --metrics road", "road: is defined for images, and the network takes volumes; leave this metric out"),
        ("set --metrics iou", "iou: boxes lie in images, and the network takes volumes; give --masks"),
        ("set --boxes masks", "--boxes masks: boxes lie in images, and the network takes volumes; give --masks"),
        ("pictures", "pictures: no volumes (.npy) in this folder or below it"),
        ("set --masks pictures", "pictures: holds no .npy files; masks of volumes are arrays [D,h,w]"),
    ],
)
def test_refusals(
    resnet: Exported, folder: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    (folder / "pictures").mkdir(exist_ok=True)
    write_image(folder / "pictures" / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert main([str(resnet.path), *arguments.split(), "-m", "grad-cam", "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_trusted_metrics_leave_out_those_of_images(
    resnet: Exported, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = "trusted,infidelity:samples=2,sensitivity-n:samples=3,max-sensitivity:samples=1"
    given = [str(resnet.path), str(folder / "set"), "-m", "cam", "--metrics", metrics, "--limit", "1"]
    assert main([*given, "-o", str(tmp_path / "out")]) == 0
    assert "; road (it is defined for images); " in capsys.readouterr().err
    columns = (tmp_path / "out" / "images.csv").read_text().partition("\n")[0].split(",")
    assert {"srg", "max-sensitivity", "sensitivity-n", "infidelity"} <= set(columns)
    assert "road" not in columns
