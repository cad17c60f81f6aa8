"""xai-evaluate from the outside: figures, tables, what is skipped."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.cli import evaluate
from xai_deploy.errors import TargetError
from xai_deploy.evaluation import Journal, Plan, Subject, metric_names
from xai_deploy.evaluation import measure as evaluate_images
from xai_deploy.format.bundle import Preprocess
from xai_deploy.targets import Contrast

from ..runtime import tiny
from . import nets
from .conftest import Refused, Run, pictures


def test_table(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure with its interval, the choices, where the rest is; a network's name only where there are several."""
    arguments = ["photos", "-m", "reciprocam,score-cam", "--metrics", "complexity,average-drop,adcc"]
    assert evaluate.main(["net.xai", *arguments, "-o", "out"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    results = json.loads(Path("out/results.json").read_bytes())["results"]
    lines = captured.out.splitlines()
    assert lines[0].split() == ["complexity", "average-drop", "adcc", "adcc-of-means"]
    for line, result in zip(lines[1:3], results, strict=True):
        cells = re.findall(r"([-\d.]+) \[([-\d.]+), ([-\d.]+)\]", line)
        assert line.split()[0] == result["method"]
        figures = list(result["figures"].values())
        assert len(cells) == 4
        for cell, figure, digits in zip(cells, figures, (3, 1, 3, 3), strict=False):
            assert cell == tuple(f"{figure[key]:.{digits}f}" for key in ("mean", "low", "high"))
    assert {len(line) for line in lines[1:3]} == {len(lines[0])}
    assert lines[3:] == [
        "",
        "  complexity: no options",
        "  average-drop: masked=input",
        "  adcc: masked=input",
        "  class explained: the predicted class of each image; p is the network's own probability",
        "  intervals: 95 %, percentile bootstrap over the images, 1000 resamples",
        "6 images; see out/report.html",
    ]
    nets.write(desk / "other.xai")
    assert evaluate.main(["net.xai", "other.xai", *arguments, "-o", "both", "-t", "-1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[: line.index(":") + 1] for line in lines[1:5]] == ["net:", "net:", "other:", "other:"]
    assert lines[6].split() == ["rank-correlation", "top10-overlap"]
    assert lines[7].split()[-2:] == ["-", "-"]
    assert "class explained: the predicted class of each image" in "".join(lines)


def test_how_many_images_a_figure_is_of(desk: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Told where it is not defined for all."""
    Path("boxes.csv").write_text("image,left,top,right,bottom\n" + "".join(f"000{n}.png,2,2,12,12\n" for n in range(2)))
    run("--boxes", "boxes.csv", "--metrics", "complexity,energy-pointing")
    line = capsys.readouterr().out.splitlines()[1]
    assert re.fullmatch(r"reciprocam +\S+ \[\S+, \S+\] +\S+ \[\S+, \S+\] n=2 +\S+ \[\S+, \S+\] n=2", line)
    Path("boxes.csv").write_text("image,left,top,right,bottom\n0000.png,2,2,12,12\n")
    run("--boxes", "boxes.csv", "--metrics", "energy-pointing", out="one")
    assert re.fullmatch(r"reciprocam +\d\.\d{3} n=1 +\d\.\d{3} n=1", capsys.readouterr().out.splitlines()[1])


def test_a_full_disk(desk: Path, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a result is written: it is named, no fragment stays, and the next run goes on."""
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if "parquet" in target.name:
            raise OSError(28, "No space left on device")
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        line = refused("net.xai", "--metrics", "complexity", "-o", "out")
    assert line == "xai-evaluate: error: out/images.parquet: can't be written (No space left on device)\n"
    assert sorted(path.name for path in Path("out").iterdir()) == ["images.csv", "journal.jsonl"]
    run()


def test_json_and_quiet(desk: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("--json")
    assert json.loads(capsys.readouterr().out) == found
    run("-q", "--overwrite")
    assert capsys.readouterr() == ("", "")


def test_default_metrics(desk: Path, run: Run) -> None:
    """The papers', and those of boxes and masks where there are any."""
    Path("boxes.csv").write_text("image,left,top,right,bottom,label\n0000.png,2,2,12,12,cat\n0001.png,2,2,12,12,\n")
    shutil.copytree("photos", "masks")
    plain = ["average-drop", "average-increase", "deletion", "insertion", "coherency", "complexity", "adcc"]
    for number, (more, wanted) in enumerate(
        [
            ([], plain),
            (["--boxes", "boxes.csv"], [*plain, "energy-pointing", "argmax-pointing", "iou"]),
            (["--masks", "masks"], [*plain, "segmentation"]),
        ]
    ):
        out = f"out{number}"
        assert evaluate.main(["net.xai", "photos", "-m", "reciprocam", *more, "-o", out, "-q"]) == 0
        assert [name for name, _ in json.loads(Path(out, "results.json").read_bytes())["plan"]["metrics"]] == wanted
    assert set(wanted) <= set(metric_names())
    figures = json.loads(Path("out1/results.json").read_bytes())["results"][0]["figures"]
    assert figures["energy-pointing"]["count"] == 2
    assert figures["average-drop"]["count"] == 6
    page = Path("out1/report.html").read_text()
    assert "<li>boxes: csv, boxes.csv, which names 2 of 6 images; those of all objects in the image</li>" in page
    assert "n=2" in page


def test_default_methods(desk: Path, run: Run) -> None:
    """All that every bundle has the graphs for, but for the slow ones."""
    tiny.write(desk / "grad.xai", gradients=True)
    arguments = ["photos", "--limit", "1", "--metrics", "complexity", "-q"]
    assert evaluate.main(["grad.xai", *arguments, "-o", "a"]) == 0
    assert evaluate.main(["grad.xai", "net.xai", *arguments, "-o", "b"]) == 0
    several, few = (
        {result["method"] for result in json.loads(Path(out, "results.json").read_bytes())["results"]} for out in "ab"
    )
    assert few < several
    assert "grad-cam" in several - few
    assert "reciprocam" in few


def test_broken_images(desk: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Told, skipped and counted, whatever is wrong with them."""
    Path("photos/a\x1b.png").write_bytes(Path("photos/0000.png").read_bytes()[:-20])
    Path("photos/b.png").symlink_to("nowhere")
    os.mkfifo("photos/c.png")
    pictures(Path("photos/large"), 1, (30, 40))
    found = run("--max-pixels", "1000")
    captured = capsys.readouterr()
    told = captured.err.splitlines()
    assert [line.partition(": error: ")[2].partition(": ")[0] for line in told] == [
        "photos/a?.png",
        "photos/b.png",
        "photos/c.png",
        "photos/large/0000.png",
    ]
    assert all(line.endswith("(skipped)") for line in told)
    assert "6 images, 4 skipped; see out/report.html" in captured.out
    assert found["images"] == 6
    assert [entry["image"] for entry in found["skipped"]] == ["a\x1b.png", "b.png", "c.png", "large/0000.png"]
    assert "6 images of <code>photos</code>, 4 skipped." in Path("out/report.html").read_text()


def test_an_annotation_that_does_not_fit_its_image(desk: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One slip among many must not cost the hours before it: told, skipped and counted, as a broken image is."""
    mask = np.zeros((nets.HEIGHT, nets.WIDTH, 3), np.uint8)
    mask[: nets.HEIGHT // 2] = 255
    names = [image.name for image in sorted(Path("photos").glob("*.png"))]
    Path("masks").mkdir()
    for name in names:
        write_image(Path("masks") / name, mask)
    write_image(Path("masks") / names[2], mask[:5])
    lines = ["image,left,top,right,bottom", *(f"{name},1,1,9,9" for name in names)]
    lines[1 + 4] = f"{names[4]},500,1,900,9"
    Path("boxes.csv").write_text("\n".join(lines) + "\n")
    found = run("--masks", "masks", "--boxes", "boxes.csv", "--metrics", "segmentation,iou")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "mask" in told[0]
    assert told[1].endswith("the box lies outside the image of 20 x 16 pixels; correct or remove it (skipped)")
    assert found["images"] == 4
    assert [entry["image"] for entry in found["skipped"]] == [names[2], names[4]]


def test_nothing_but_broken_images(desk: Path, refused: Refused, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad").mkdir()
    for number in range(20):
        Path(f"bad/{number}.png").touch()
    for _ in range(2):  # also again
        assert evaluate.main(["net.xai", "bad", "-m", "reciprocam", "-q", "-o", "out"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 21
        assert lines[-1] == "xai-evaluate: error: all 20 images are skipped, for the reasons above"
        assert not Path("out").exists()  # nothing half-written, and images that are mended now are measured
    Path("out").mkdir()
    Path("out/notes.txt").touch()
    assert evaluate.main(["net.xai", "bad", "-m", "reciprocam", "-q", "-o", "out"]) == 2
    assert [file.name for file in Path("out").iterdir()] == ["notes.txt"]


def test_limit_and_seed(desk: Path, run: Run) -> None:
    images = []
    for number, more in enumerate((["--limit", "3"], ["--limit", "3", "--seed", "1"], ["--limit", "999"])):
        run(*more, out=f"out{number}")
        records = pyarrow.parquet.read_table(f"out{number}/images.parquet").to_pylist()
        images.append([record["image"] for record in records])
    assert [len(names) for names in images] == [3, 3, 6]
    assert images[0] != images[1]


def test_bundles_of_one_name(desk: Path, run: Run) -> None:
    for folder in ("a", "b"):
        nets.write(desk / folder / "net.xai", ord(folder))
    found = run(bundles=("net.xai", "a/net.xai", "b/net.xai", "net.xai"))
    assert [result["network"] for result in found["results"]] == ["net.xai", "a/net.xai", "b/net.xai"]


def test_as_a_process(desk: Path) -> None:
    """Warnings are told as the installed command tells them, and --quiet is obeyed."""
    nets.write(desk / "guess.xai", assumed=True)
    Path("photos/x.png").touch()
    root = str(Path(evaluate.__file__).parents[2])
    command = [sys.executable, "-W", "error", "-m", "xai_deploy.cli.evaluate", "guess.xai", "photos"]
    command += ["-m", "reciprocam", "--metrics", "complexity"]
    for quiet, count in ([], 2), (["-q"], 1):
        finished = subprocess.run(
            [*command, *quiet],
            env=os.environ | {"PYTHONPATH": root},
            text=True,
            check=False,
            capture_output=True,
            timeout=60,
        )
        assert finished.returncode == 0
        lines = finished.stderr.splitlines()[-count:]
        assert lines[-1].startswith("xai-evaluate: error: photos/x.png: is empty")
        if count == 2:
            assert lines[0].startswith(
                "xai-evaluate: warning: guess.xai: the bundle's preprocessing was assumed at export"
            )
    assert "bilinear, assumed" in Path("xai-evaluation/photos/report.html").read_text()


def test_no_torch(desk: Path) -> None:
    """Neither torch nor onnx nor scipy nor matplotlib is imported."""
    code = (
        "import sys; from xai_deploy.cli import evaluate; "
        "assert evaluate.main(sys.argv[1:]) == 0; "
        "print(sorted({'torch', 'onnx', 'onnx_ir', 'scipy', 'pandas', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    root = str(Path(evaluate.__file__).parents[2])
    arguments = ["net.xai", "photos", "-m", "reciprocam", "-q"]
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": root},
        text=True,
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert (finished.stdout, finished.stderr) == ("[]\n", "")


def test_sigmoid_and_single_outputs(desk: Path, run: Run) -> None:
    """A multi-label network, and one class told by a sigmoid: p is the sigmoid's."""
    for name, classes in (("multi.xai", 4), ("one.xai", 1)):
        nets.write(desk / name, 5, classes=classes, activation="sigmoid")
        run("--metrics", "average-drop,deletion", bundles=(name,), out=name + "-out")
        row = pyarrow.parquet.read_table(f"{name}-out/images.parquet").to_pylist()[0]
        pixels = read_image(f"photos/{row['image']}")
        explainer = Explainer(name)
        explained = explainer.explain(pixels)
        x = explainer.prepare(pixels).x
        p, after = (
            float(explainer.explain(i, target=row["target"]).outputs["scores"][0, row["target"]])
            for i in (x, x * explained.heatmap[:, None])
        )
        assert row["average-drop"] == pytest.approx(100 * max(p - after, 0) / p, abs=1e-3)
    assert evaluate.main(["one.xai", "photos", "-m", "reciprocam", "--metrics", "complexity", "-q"]) == 0


def test_contrasts_from_python(desk: Path, tmp_path: Path) -> None:
    subject = Subject("net", Explainer("net.xai"))
    images = sorted(Path("photos").iterdir())
    for target in (Contrast(1, 2), Contrast("cat", None)):
        plan = Plan(Path("photos"), images, [("reciprocam", {})], [("complexity", {})], target)
        with (
            Journal(tmp_path / "j", plan.describe([subject])) as journal,
            pytest.raises(TargetError, match="a metric takes one class"),
        ):
            evaluate_images([subject], plan, journal)


def test_boxes_of_the_class(desk: Path, run: Run) -> None:
    """By label or index; an image whose boxes are of other classes is not counted."""
    Path("boxes.csv").write_text(
        "image,left,top,right,bottom,label\n0000.png,0,0,10,16,DOG\n0001.png,0,0,10,16,1\n0002.png,0,0,20,16,cat\n0002.png,0,0,5,16,dog\n"
        "0003.png,0,0,10,16,cat\n"
    )
    metrics = ("--boxes", "boxes.csv", "--metrics", "energy-pointing", "-t", "1")
    shares = []
    for which in ("all", "class"):
        run(*metrics, "--boxes-of", which, out=which)
        records = pyarrow.parquet.read_table(f"{which}/images.parquet").to_pylist()
        shares.append([record["energy-uniform"] for record in records])
    assert shares[0] == [0.5, 0.5, 1, 0.5, None, None]
    assert shares[1][0] == 0.5
    assert shares[1][2:] == [0.25, None, None, None]


def test_boxes_of_the_class_by_numbers(desk: Path, run: Run) -> None:
    """A label that is a number, and the same from a csv as from a COCO category: the label goes before the index."""
    nets.write(desk / "numbers.xai", labels=("1", "2", "3", "4", "5"))
    Path("boxes.csv").write_text("image,left,top,right,bottom,label\n0000.png,0,0,10,16,2\n0001.png,0,0,10,16,1\n")
    coco = {
        "images": [{"id": number, "file_name": f"000{number}.png"} for number in range(2)],
        "annotations": [{"image_id": n, "category_id": 2 - n, "bbox": [0, 0, 10, 16]} for n in range(2)],
        "categories": [{"id": number, "name": str(number)} for number in (1, 2)],
    }
    Path("boxes.json").write_text(json.dumps(coco))
    for file, target in itertools.product(("boxes.csv", "boxes.json"), ("2", "#1")):
        asked = ("--boxes", file, "--boxes-of", "class", "--metrics", "energy-pointing", "-t", target)
        run(*asked, bundles=("numbers.xai",), out=f"{file}-{target}-out")
        records = pyarrow.parquet.read_table(f"{file}-{target}-out/images.parquet").to_pylist()
        assert [record["energy-uniform"] for record in records] == [0.5, None, None, None, None, None]


def test_assumed_preprocessing_is_told_once(desk: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    nets.write(desk / "guess.xai", assumed=True)
    assert Preprocess(assumed=True).assumed
    run(bundles=("guess.xai",))
    assert capsys.readouterr().err == (
        "xai-evaluate: warning: guess.xai: the bundle's preprocessing was assumed at export, not stated; if predictions look "
        "wrong, export again with the network's own mean, std and resize\n"
    )


def test_list_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--list-metrics"])
    assert not caught.value.code
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == list(metric_names())
    assert "  average-drop:masked=input|image  (default input)" in lines
    assert "  deletion:steps=int|cells  (default 30)" in lines


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["--version"])
    assert re.fullmatch(r"xai-evaluate \d+\.\d+\.\d+\n", capsys.readouterr().out)
