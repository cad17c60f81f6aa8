"""xai-monitor from the outside: exit statuses, messages, JSON, page, text for Prometheus; against records and recordings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from xai_deploy import Explainer, write_image
from xai_deploy.answer import answer, predicted
from xai_deploy.cli import check, explain
from xai_deploy.cli.monitor import main
from xai_deploy.monitor import read_recording, read_records
from xai_deploy.monitor.judging import Figure, Window
from xai_deploy.monitor.prometheus import exposition
from xai_deploy.records import Recorder

from . import made


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference, undisturbed records, and records with a hot corner."""
    folder = tmp_path_factory.mktemp("written")
    made.write(folder / "reference", 100, seed=1)
    made.write(folder / "same", 90, seed=2)
    made.write(folder / "corner", 60, seed=3, corner=3.0)
    return folder


@pytest.fixture
def here(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(written)
    return written


def run(*arguments: str) -> int:
    return main([*arguments, "--reference", "reference", "--window", "30"])


def test_silent(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("same", "--json", str(tmp_path / "out.json"), "--report", str(tmp_path / "out.html")) == 0
    *windows, last = capsys.readouterr().out.splitlines()
    assert len(windows) == 3
    for line in windows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d to [\d-]{10} [\d:]{8}, 30 by grad-cam: silent", line)
    assert last == "No alarm in 3 windows: the explanations are as in the reference."
    report = json.loads((tmp_path / "out.json").read_bytes())
    assert (report["alarm"], len(report["windows"])) == (False, 3)
    assert report["limits"] == {"alpha": 0.01, "distance": 0.1, "psi": 0.25, "ndcg": 0.9, "least": 30}
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "Windows that moved" not in page
    assert page.count('<span class="chip good">silent</span>') == 3


def test_records_of_several_models(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """xai-serve keeps the records of all its models together: they were judged as one, with alarms about the mixture."""
    both, one = str(tmp_path / "both"), str(tmp_path / "one")
    made.write(Path(both), 60, seed=4, fields={"model": "cats"})
    made.write(Path(both), 60, seed=5, fields={"model": "dogs"}, corner=3.0)
    made.write(Path(one), 60, seed=6, fields={"model": "cats"})
    assert run(both) == 2
    several = "holds records of cats, dogs; name one of these models (--model)"
    assert capsys.readouterr().err == f"xai-monitor: error: {both}: {several}\n"
    assert run(both, "--model", "cow") == 2
    none = "holds no record of the model 'cow', but of cats, dogs"
    assert capsys.readouterr().err == f"xai-monitor: error: {both}: {none}\n"
    assert run(both, "--model", "cats") == 0, "the reference names no model"
    assert capsys.readouterr().out.count(": silent\n") == 2
    assert run(both, "--model", "dogs") == 1
    assert main([both, "--model", "cats", "--reference", both, "--window", "30"]) == 0
    assert run(one) == 0, "one model needs no name"


def test_alarm(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("corner", "--json", str(tmp_path / "out.json"), "--report", str(tmp_path / "out.html")) == 1
    out = capsys.readouterr().out.splitlines()
    assert all(": ALARM: regions 0." in line for line in out[:2])
    assert out[-1].startswith("2 of 2 windows differ from the reference, the first from 20")
    report = json.loads((tmp_path / "out.json").read_bytes())
    raised = {figure["name"] for figure in report["windows"][0]["figures"] if figure["alarm"]}
    assert {"regions", "region 4,4", "border"} <= raised
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.count('<div class="image">') == 2
    assert (
        page.count('<img src="data:image/jpeg;base64,') == 2 * 3 + 2
    )  # three mean maps each, and the two bars of colours
    assert "<script" not in page


def test_prometheus(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("corner", "--prometheus", "-") == 1
    lines = capsys.readouterr().out.splitlines()
    samples: dict[str, float] = {}
    typed = set()
    for line in lines:
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("# HELP "):
            name, value = re.fullmatch(r'([a-z_]+(?:\{(?:[a-z]+="[^"]*",?)+\})?) (\S+)', line).groups()  # type: ignore[union-attr]
            assert name.partition("{")[0] in typed
            samples[name] = float(value)
    assert samples["xai_monitor_windows"] == samples["xai_monitor_windows_in_alarm"] == 2
    assert samples['xai_monitor_alarm{method="grad-cam"}'] == 1
    assert samples['xai_monitor_window_records{method="grad-cam"}'] == 30
    assert samples['xai_monitor_figure{method="grad-cam",figure="regions",kind="ndcg"}'] < 0.9
    assert samples['xai_monitor_figure_alarm{method="grad-cam",figure="regions",kind="ndcg"}'] == 1
    assert samples['xai_monitor_figure_probability{method="grad-cam",figure="region 4,4",kind="ks"}'] < 0.01


def test_prometheus_escapes() -> None:
    figure = Figure('a"b\\c\nd', "ndcg", 0.5, None, 0.9, True, None, None)
    window = Window("m", 0, 1, 30, (), (figure,), np.zeros((16, 16), np.float32), ())
    assert 'figure="a\\"b\\\\c\\nd"' in exposition([window]).decode()


def test_last_window_only(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("same", "--last", "1", "-v") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_one_file_of_records(here: Path) -> None:
    [file] = (here / "same").glob("*.jsonl")
    assert run(str(file), "-q") == 0


@pytest.fixture
def photos(work: Path) -> Path:
    """Forty photographs beside `net.xai`."""
    rng = np.random.default_rng(0)
    (work / "many").mkdir()
    for number in range(40):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        write_image(work / "many" / f"{number:02}.png", np.kron(coarse, np.ones((8, 8, 1), np.uint8)))
    return work


def test_a_recording_as_the_reference(photos: Path, backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Records and a recording of the same explanations are seen alike. What explains another class is left out."""
    methods = ["-m", "reciprocam:score=softmax,cam", "-q"]
    assert check.main(["--record", "reference.npz", "net.xai", "many", *methods, "--reference-backend", backend]) == 0
    assert explain.main(["net.xai", "many", *methods, "-b", backend, "--records", "records"]) == 0
    recorded, (observed, _) = read_recording(Path("reference.npz")), read_records(Path("records"))
    assert recorded.keys() == observed.keys()
    for key, one in recorded.items():
        other = observed[key]
        order = np.arange(40)  # both in the order of the files
        for name in ("predicted", "explained"):
            assert (getattr(one, name) == getattr(other, name)[order]).all()
        for name in ("confidence", "energy", "border", "entropy", "top", "maps"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=2e-3)
    assert main(["records", "--reference", "reference.npz", "--window", "40"]) == 0
    assert (
        explain.main(["net.xai", "many", *methods, "-b", backend, "-t", "beagle", "--records", "records", "-o", "x"])
        == 0
    )
    capsys.readouterr()
    assert main(["records", "--reference", "reference.npz", "--window", "30", "--least", "10"]) in (0, 1)
    assert (
        "records that explain another class than the predicted one: the recording has none" in capsys.readouterr().out
    )


def test_several_methods(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is compared with its own reference, with the same options; what has none is left out."""
    call = ["net.xai", "many", "-q", "-o"]
    assert explain.main([*call, "a", "-m", "reciprocam,cam", "--records", "reference"]) == 0
    assert explain.main([*call, "b", "-m", "reciprocam,cam,reciprocam:score=softmax", "--records", "records"]) == 0
    assert main(["records", "--reference", "reference", "--window", "40"]) == 0
    *lines, note, _ = capsys.readouterr().out.splitlines()
    assert [line.split()[-2] for line in lines] == ["reciprocam:", "cam:"]
    assert note == "left out: 40 records of reciprocam+score=softmax: the reference has none"


def test_networks_of_two_kinds(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records without predicted classes, as of an embedding, against those of a classifier, and the other way."""
    explainer = Explainer("net.xai")
    explanation = explainer.explain([f"many/{i:02}.png" for i in range(40)], "cam")
    made = [answer(explainer, explanation, i) for i in range(40)]
    with Recorder("classes") as classes, Recorder("none") as none:
        for i, one in enumerate(made):
            classes.answered(explainer, one, predicted(explainer, explanation, i, [one]))
            none.answered(explainer, one, [])
    said = "classes: predicts classes, and none predicts none (cam); give records of one kind of network"
    for pair in (["classes", "--reference", "none"], ["none", "--reference", "classes"]):
        assert main(pair) == 2
        assert capsys.readouterr().err == f"xai-monitor: error: {said}\n"


def test_signed_maps_and_a_recording(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--record", "reference.npz", "net.xai", "many", "-q", "-m", "cam"]) == 0
    explainer = Explainer("net.xai")
    explanation = explainer.explain([f"many/{i:02}.png" for i in range(40)], "cam")
    signed = explanation.__class__(**{**vars(explanation), "signed": (True,) * 40})
    with Recorder("records") as recorder:
        recorder.explained(explainer, signed)
    assert main(["records", "--reference", "reference.npz"]) == 2
    said = "a recording does not say where 0 is in the signed maps of cam; give records as the reference"
    assert capsys.readouterr().err == f"xai-monitor: error: reference.npz: {said}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nothing --reference reference", "nothing: no such file or folder"),
        ("same --reference nothing", "nothing: no such file or folder"),
        ("same --reference empty", "empty: holds no records; xai-explain --records and Recorder write such folders"),
        (
            "same --reference bad.npz",
            "bad.npz: neither a bundle's folder nor a recording of xai-check --record, or damaged",
        ),
        ("same --reference bad.jsonl", "bad.jsonl, line 1: is no JSON; xai-records verify says more"),
        ("same", "the following arguments are required: --reference"),
        (
            "same --reference other",
            "other: holds rise, and same holds grad-cam; explain both by the same method and options",
        ),
        (
            "same --reference reference --window 20",
            "--window 20 is less than the 30 records of --least; give a longer one",
        ),
        (
            "same --reference reference --window 0",
            "argument --window: '0' is no number of records (100) and no time (30m, 1h, 7d)",
        ),
        ("same --reference reference --window 1y", "argument --window: '1y' is no number of records (100) and no time"),
        (
            "same --reference reference --least 200 --window 500",
            "the reference has 100 maps by grad-cam, and needs 200 (--least)",
        ),
        ("same --reference reference --least 95 --window 95", "no window has the 95 records that it needs (--least)"),
        ("same --reference reference --alpha 2", "argument --alpha: between 0 and 1, not 2"),
        ("same --reference reference --max-psi -1", "argument --max-psi: at least 0, not -1"),
        ("same --reference reference --json - --prometheus -", "--json - and --prometheus - would both be printed"),
        ("same --reference reference --report no/out.html", "no/out.html: its folder does not exist"),
        (
            "huge --reference reference",
            "LINE: the network's input has no such size: [100000, 100000]; xai-records verify says more",
        ),
        ("late --reference reference", "LINE: 'yesterday' is no time"),
    ],
)
def test_refusals(here: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    """One line, status 2, and no file."""
    (here / "empty").mkdir(exist_ok=True)
    (here / "bad.npz").write_bytes(b"x")
    (here / "bad.jsonl").write_bytes(b"x\n")
    place = ""
    if arguments.startswith("same --reference other") and not (here / "other").exists():
        with Recorder(here / "other") as recorder:
            recorder.record(made.NET, np.eye(8, 12), np.arange(12.0), "rise")
    name = arguments.split(maxsplit=1)[0]
    if name in ("huge", "late"):
        (here / name).mkdir(exist_ok=True)
        [source] = (here / "same").glob("*.jsonl")
        line = json.loads(source.read_bytes().splitlines()[0])
        line["source"]["size"] = [100000, 100000] if name == "huge" else line["source"]["size"]
        line["time"] = "yesterday" if name == "late" else line["time"]
        (here / name / source.name).write_text(json.dumps(line) + "\n", encoding="utf-8")
        place = f"{name}/{source.name}, line 1"
    before = sorted(here.rglob("*"))
    try:
        status = main(arguments.split())
    except SystemExit as ended:
        status = int(str(ended.code))
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith(f"xai-monitor: error: {message.replace('LINE', place)}")
    assert error.count("\n") == 1
    assert sorted(here.rglob("*")) == before
