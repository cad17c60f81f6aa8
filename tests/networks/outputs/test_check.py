"""xai-check of networks whose output is no classes: each figure against NumPy on what the networks themselves give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from xai_deploy import Contrast, Finer, Not, Region, read_image
from xai_deploy.agreement.other_outputs import ious, mean_iou, shared_positions
from xai_deploy.cli.check import main
from xai_deploy.targets import ScoreSpace
from xai_deploy.targets.everywhere import everywhere

from .conftest import COUNT

Floats = NDArray[Any]


def own(name: str) -> Floats:
    """What the file itself gives for the photos, on ONNX Runtime, float64."""
    x = np.stack([read_image(f"photos/{i}.png") for i in range(COUNT)]).transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0], np.float64)


def figures(*arguments: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The figures by name, and the report; a page is written, too."""
    assert main(["-q", "--json", "r.json", "--report", "r.html", "-m", "grad-cam", *arguments]) in (0, 1)
    report = json.loads(Path("r.json").read_text())
    return {figure["name"]: figure for figure in report["figures"]}, report


def iou(a: Floats, b: Floats) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("name", ["dense", "argmax"])
def test_the_predictions_of_dense_scores(here: Path, name: str) -> None:
    got, report = figures(f"{name}.xai", f"{name}-near.xai", "photos")
    both = [own(one) if name == "argmax" else own(one).argmax(1) for one in (name, f"{name}-near")]
    classes = np.union1d(*both).astype(int)
    assert len(classes) > 1
    want = [np.mean([iou(a == c, b == c) for c in np.union1d(a, b)]) for a, b in zip(*both, strict=True)]
    assert got["prediction IoU"]["value"] == pytest.approx(np.mean(want))
    assert 0.2 < np.mean(want) < 1
    assert list(report["classes"].values()) == pytest.approx([iou(both[0] == c, both[1] == c) for c in classes])
    page = Path("r.html").read_text()
    assert "Predictions by class" in page
    assert "Both networks explain the same class in the same region" in page
    if name == "dense":  # the mean probability of the most frequent class where the reference predicts it
        differences = []
        for p, q in zip(own(name), own(f"{name}-near"), strict=True):
            frequent = np.bincount(p.argmax(0).ravel()).argmax()
            region = p.argmax(0) == frequent
            differences.append(abs(p[frequent][region].mean() - q[frequent][region].mean()))
        assert got["probability difference"]["value"] == pytest.approx(np.mean(differences), abs=1e-5)


def test_a_given_region(here: Path) -> None:
    got, report = figures("dense.xai", "dense-near.xai", "photos", "-t", "2@8,4,10,12")
    p, q = (own(name)[:, :, 4:16, 8:18].mean((2, 3)) for name in ("dense", "dense-near"))
    assert got["probability difference"]["value"] == pytest.approx(np.abs(p - q)[:, 2].mean(), abs=1e-5)
    assert [image["reference"] for image in report["images"]] == p.argmax(1).tolist()  # the region's best class


def test_an_image_without_the_class_is_explained_as_a_whole(here: Path) -> None:
    """A threshold that nothing reaches: the region is the whole image, and two empty predictions are equal."""
    black = [np.zeros(shape, np.int64) - 1 for shape in ((1, 4, 6), (1, 4, 6))]
    assert shared_positions(*black) == [{}]
    assert mean_iou({}) == 1
    absent = next(c for c in range(5) if not (own("dense").argmax(1) == c).any(axis=(1, 2)).all())
    got, _ = figures("dense.xai", "dense-near.xai", "photos", "-t", str(absent))
    p, q = own("dense"), own("dense-near")
    masks = [np.where((one.argmax(0) == absent).any(), one.argmax(0) == absent, True) for one in p]
    want = [abs(a[absent][m].mean() - b[absent][m].mean()) for a, b, m in zip(p, q, masks, strict=True)]
    assert got["probability difference"]["value"] == pytest.approx(np.mean(want), abs=1e-5)


@pytest.mark.parametrize(
    "text", ["not {a}", "{a} vs {b}", "{b} vs {a}", "{a} vs top2", "{a}@predicted", "{a} vs {b}@predicted"]
)
def test_every_target_of_an_absent_class_is_explained_as_a_whole(here: Path, text: str) -> None:
    """As a class alone is; of a contrast both sides, if one is predicted nowhere."""
    predicted = own("dense").argmax(1)
    there = [(predicted == c).any(axis=(1, 2)) for c in range(5)]
    a, b = next(c for c in range(5) if not there[c].all()), next(c for c in range(5) if there[c].all())
    got, report = figures("dense.xai", "dense-near.xai", "photos", "-t", text.format(a=a, b=b))
    p, q, first = own("dense"), own("dense-near"), b if text.startswith("{b}") else a
    masks = [(one.argmax(0) == first) if there[a][i] else np.full(one.shape[1:], True) for i, one in enumerate(p)]
    want = [abs(x[first][m].mean() - y[first][m].mean()) for x, y, m in zip(p, q, masks, strict=True)]
    assert got["probability difference"]["value"] == pytest.approx(np.mean(want), abs=1e-5)
    assert len(report["images"]) == COUNT


def test_places_that_are_named_stay() -> None:
    space, mask = ScoreSpace(3, ("road", "sky", "sky vs road"), kind="dense"), np.ones((2, 2), bool)
    for written, want in (
        (None, Region(None, "all")),
        (1, Region(1, "all")),
        ("road@predicted vs sky@1,2,3,4", Contrast(Region("road", "all"), Region("sky", "1,2,3,4"))),
        ("sky vs road", Region("sky vs road", "all")),
        ("not sky", Not(Region("sky", "all"))),
        ("road vs 0.5*top1", Finer(Region("road", "all"), 1, 0.5)),
        (Finer(Region("road", (1, 2, 3, 4))), Finer(Region("road", (1, 2, 3, 4)))),
        (Contrast(0, 1), Contrast(Region(0, "all"), Region(1, "all"))),
    ):
        assert everywhere(written, space) == want
    kept = Region(1, mask)
    assert everywhere(kept, space) is kept


def test_the_figures_of_classes_by_hand() -> None:
    one = np.array([[[0, 0, 1], [2, 2, -1]], [[1, 1, 1], [1, 1, 1]]])
    other = np.array([[[0, 1, 1], [2, -1, -1]], [[1, 1, 1], [0, 0, 0]]])
    counted = shared_positions(one, other)
    assert counted == [{0: (1, 2), 1: (1, 2), 2: (1, 2)}, {0: (0, 3), 1: (3, 6)}]
    assert [mean_iou(each) for each in counted] == [0.5, 0.25]
    assert ious(counted) == {0: 1 / 5, 1: 4 / 8, 2: 1 / 2}
    coarse = shared_positions(np.arange(4).reshape(1, 2, 2).repeat(2, 1).repeat(2, 2), np.arange(4).reshape(1, 2, 2))
    assert coarse == [dict.fromkeys(range(4), (4, 4))]  # other sizes: the nearest position


def test_an_embedding(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("mean.npy", own("embedding").mean(0))
    got, _ = figures("embedding.xai", "embedding-near.xai", "photos", "--like", "mean.npy")
    want = (own("embedding") * own("embedding-near")).sum(1)
    assert got["cosine"]["value"] == pytest.approx(want.mean(), abs=1e-6)
    assert set(got) == {"cosine", "grad-cam: rank correlation", "grad-cam: top 10 % overlap"}
    assert "the cosine to the same reference vector" in Path("r.html").read_text()
    main(["embedding.xai", "embedding-near.xai", "photos", "-m", "grad-cam", "--like", "photos/1.png"])
    assert "photos/1.png: is what it is compared with: its cosine is 1" in capsys.readouterr().err


def test_numbers(here: Path) -> None:
    """The largest difference as a share of the largest number of the reference."""
    got, report = figures("numbers.xai", "numbers-near.xai", "photos", "-t", "#3 vs #1")
    y, other = own("numbers"), own("numbers-near")
    want = np.abs(y - other).max(1)
    assert got["largest difference"]["value"] == pytest.approx(want.mean() / np.abs(y).max(), rel=1e-4)
    assert [image["beside"]["largest difference"] for image in report["images"]] == pytest.approx(want, rel=1e-4)
    assert report["images"][0]["reference"] is None


@pytest.mark.parametrize(
    ("name", "target"),
    [("dense", []), ("one", []), ("embedding", ["--like", "photos/2.png"]), ("numbers", ["-t", "not #2"])],
)
def test_a_recording_gives_the_same_figures(here: Path, name: str, target: list[str]) -> None:
    direct, _ = figures(f"{name}.xai", f"{name}-near.xai", "photos", *target)
    assert main(["-q", "--record", f"{name}.npz", f"{name}.xai", "photos", "-m", "grad-cam", *target]) == 0
    recorded, _ = figures(f"{name}.npz", f"{name}-near.xai", "photos")
    assert recorded == direct
    arrays = dict(np.load(f"{name}.npz"))
    arrays["seed-classes"] = arrays["seed-classes"] + 1000
    np.savez("damaged.npz", **arrays)
    assert main(["-q", "damaged.npz", f"{name}-near.xai", "photos"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "embedding.xai embedding-near.xai photos",
            "the network gives an embedding: say what both explain, --like FILE",
        ),
        ("numbers.xai numbers.xai photos", "numbers that are no classes: say what both explain, -t '#3'"),
        ("numbers.xai numbers.xai photos -t #3 -t #1", "give one -t or one --like"),
        ("numbers.xai numbers.xai photos -t #9", "output 9 does not exist; the network has outputs 0 to 5"),
        ("dense.xai one.xai photos", "the reference has 5 classes, the deployed network 1"),
        ("dense.xai numbers.xai photos", "the reference gives scores at each position, the deployed network numbers"),
        ("dense.xai dense.xai photos -t 1@40,40,5,5", "lies outside the image"),
    ],
)
def test_refusals(here: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
