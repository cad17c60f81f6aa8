"""The command: what it prints, what it takes, and one line for everything that is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pytest
from xai_exporters import cli
from xai_exporters.cli import main

from tests.support import server
from xai_deploy.format.bundle import Bundle

from . import nets
from . import onnx_nets as o


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a network, its labels, and a residual one."""
    monkeypatch.chdir(tmp_path)
    onnx.save(o.classifier(), tmp_path / "net.onnx")
    onnx.save(o.residual(), tmp_path / "residual.onnx")
    (tmp_path / "labels.txt").write_text("cat\n dog \nbird\nfish\nant\n", encoding="utf-8")
    return tmp_path


def run(*arguments: str) -> int:
    """The exit status, whichever way the command ends."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


def test_summary(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("residual.onnx", "--split", "layer1.0.conv1", "--labels", "labels.txt", "--preprocess", "tf") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in (
        "image: 3 x 16 x 20, NCHW, float32",
        "stretched (bilinear), RGB, x 0.00784314, mean 1, std 1",
        "layer1.0.conv1 = /layer1/layer1.0/conv1/Conv_out: 4 x 8 x 10, beside it 1 side tensor(s)",
        "head (opset 18), tail (opset 18)",
        "relative difference to the source 0.0e+00; 3 images at once as 3 singles",
        "Wrote residual.xai",
    ):
        assert words in out
    assert "no labels" not in out
    assert "assumed" not in out
    assert Bundle.open("residual.xai").labels == ("cat", "dog", "bird", "fish", "ant")


def test_summary_of_what_was_assumed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(o.folded_by_batch(), here / "fixed.onnx")
    assert run("fixed.onnx", "--preprocess", "assume") == 0
    out = capsys.readouterr().out
    assert "batch made symbolic" in out
    assert "5 (no labels)" in out
    assert "The preprocessing was not stated in full; some of it is assumed. Check it, or give --preprocess." in out


def test_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("net.onnx", "--preprocess", "none", "--json", "-", "-o", "out.xai", "--name", "mine") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["dropped_outputs"] == []
    report.pop("dropped_outputs")
    assert set(report) == {
        "bundle",
        "source",
        "batch_was_fixed",
        "one_because",
        "layer_note",
        "zero_on_noise",
        "beside",
        "difference",
        "notes",
        "reads",
        "size",
        "seconds",
        "manifest",
    }
    assert (report["bundle"], report["source"], report["batch_was_fixed"]) == ("out.xai", "ONNX", False)
    assert 0 <= report["difference"]["source"] < 1e-6
    assert report["difference"]["framework"] is None
    assert report["manifest"] == json.loads((here / "out.xai/manifest.json").read_text())
    assert report["manifest"]["name"] == "mine"
    assert report["size"] == sum(f.stat().st_size for f in here.glob("out.xai/*.onnx"))
    assert 0 < report["seconds"] < 60


def test_json_to_a_file_and_the_old_spelling(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("net.onnx", "--preprocess", "none", "--json", "report.json", "-o", "out.xai") == 0
    captured = capsys.readouterr()
    assert "Wrote out.xai" in captured.out
    report = json.loads(Path("report.json").read_bytes())
    assert run("net.onnx", "--preprocess", "none", "-o", "out.xai", "--overwrite", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == "xai-export: warning: --json without a value is the old spelling; write --json -\n"
    printed = json.loads(captured.out)
    assert {**printed, "seconds": 0} == {**report, "seconds": 0}
    assert run("net.onnx", "--overwrite", "--json", "none/report.json") == 2
    assert capsys.readouterr().err == "xai-export: error: none/report.json: its folder does not exist\n"


def test_quiet(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("net.onnx", "-q", "--preprocess", "none") == 0
    assert capsys.readouterr() == ("", "")


def test_list_layers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("residual.onnx", "--list-layers") == 0
    out = capsys.readouterr().out
    [line] = [x for x in out.splitlines() if x.startswith("layer1.0.conv1 ")]
    assert " ".join(line.split()) == "layer1.0.conv1 Conv 4 x 8 x 10 4 x 8 x 10 41.2 % 58.8 % yes"
    assert "layer1, layer1.0 " in out
    assert run("residual.onnx", "--list-layers", "--json", "-") == 0
    rows = json.loads(capsys.readouterr().out)
    assert set(rows[0]) == {"names", "tensor", "op", "shape", "sides", "before", "after", "follows"}
    assert f"{len(rows)} cuts." in out
    assert [r["names"] for r in rows if r["sides"]] == [
        ["layer1.0.conv1"], ["layer1.0.relu"], ["layer1.0.conv2"],
    ]  # fmt: skip
    assert not list(here.glob("*.xai"))


def test_list_layers_breaks_no_name(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a narrow terminal, too: names are copied from the list. Names that look like rich's markup stay as they are."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    model, names = o.classifier(), []
    for i, node in enumerate(model.graph.node):
        node.name = f"[bold]/a/very/long/{'name/' * 40}:cat:/of/layer[/{i}]"
        names.append(node.name)
    onnx.save(model, here / "long.onnx")
    assert run("long.onnx", "--list-layers") == 0
    out = capsys.readouterr().out
    assert run("long.onnx", "--list-layers", "--json") == 0
    listed = [name for row in json.loads(capsys.readouterr().out) for name in row["names"]]
    assert listed
    assert set(listed) <= set(names)
    assert all(name in out for name in listed)


def test_config_and_command_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "configs"
    folder.mkdir()
    (folder / "export.toml").write_text(
        """
        split = "layer1"
        output-path = "one.xai"
        labels = "../labels.txt"
        name = "from the file"
        [preprocess]
        preset = "imagenet"
        mean = [0.1, 0.2, 0.3]
        std = [1, 1, 1]
        """
    )
    assert run("residual.onnx", "--config", "configs/export.toml", "--name", "mine", "--mean", "0.4,0.5,0.6") == 0
    manifest = Bundle.open(folder / "one.xai").manifest
    assert (manifest.name, manifest.target.asked) == ("mine", "layer1")
    assert manifest.input.preprocess.mean == (0.4, 0.5, 0.6)
    assert manifest.input.preprocess.std == (1.0, 1.0, 1.0)
    assert manifest.input.preprocess.scale == 1 / 255
    assert manifest.labels == "labels.txt"


def test_preprocessing_fields(here: Path) -> None:
    options = "--resize 32 --interpolation nearest --no-antialias --color BGR --scale 0.5 --mean=-1 --std 2,3,4"
    assert run("net.onnx", "-q", *options.split()) == 0
    how = Bundle.open("net.xai").manifest.input.preprocess
    assert (how.resize, how.interpolation, how.antialias, how.color, how.scale) == (32, "nearest", False, "BGR", 0.5)
    assert (how.mean, how.std, how.assumed) == ((-1.0,) * 3, (2.0, 3.0, 4.0), False)
    assert run("net.onnx", "-q", "--overwrite", "--resize", "stretch", "--antialias", "--preprocess", "tf") == 0
    how = Bundle.open("net.xai").manifest.input.preprocess
    assert (how.resize, how.antialias, how.scale) == ("stretch", True, 1 / 127.5)
    assert run("net.onnx", "-q", "--overwrite", "--resize", "18,24", "--preprocess", "tf") == 0
    assert Bundle.open("net.xai").manifest.input.preprocess.resize == (18, 24)


def test_roles_and_shape(here: Path) -> None:
    assert run("net.onnx", "-q", "--roles", "tail, head", "--preprocess", "none", "--input-shape", "3x16x20") == 0
    assert list(Bundle.open("net.xai").manifest.graphs) == ["head", "tail"]


BAD = {
    "--input-shape 3,a,2": "argument --input-shape: '3,a,2' is not C,H,W",
    "--input-shape 3,16": "--input-shape takes channels,height,width",
    "--input-shape 3,16,0": "--input-shape takes channels,height,width",
    "--input-shape 1,16,20": "--input-shape 1,16,20 does not fit the input 'image'",
    "--mean a,b": "argument --mean: 'a,b' is not a list of numbers",
    "--mean 1,2": "--mean needs 3 values",
    "--mean nan": "--mean takes numbers",
    "--std 0": "--std must not be zero",
    "--scale big": "argument --scale: invalid float value: 'big'",
    "--scale 0": "--scale takes a number that is not zero",
    "--resize half": "argument --resize: 'half' is neither a number of pixels nor HEIGHT,WIDTH nor 'stretch'",
    "--resize 1,2,3": "argument --resize: '1,2,3' is neither a number of pixels nor HEIGHT,WIDTH nor 'stretch'",
    "--resize 18,19": "--resize 18,19 is smaller than the input, 16 x 20",
    "--resize 8": "--resize 8 is smaller than the input, 16 x 20",
    "--color CMYK": "argument --color: invalid choice: 'CMYK'",
    "--preprocess keras": "argument --preprocess: invalid choice: 'keras'",
    "--roles tail,gradients": "no role 'gradients'; there are head, tail, network, pixelwise-tail, windowed-tail, gradient",
    "--output nothing": "the network has no output or inner tensor 'nothing'; it has scores",
    "--split nothing": "no layer 'nothing' in this network",
    "--split=": "--split takes a name",
    "--labels nothing.txt": "nothing.txt: can't be read (No such file or directory)",
    "--labels net.onnx": "net.onnx: is not text in UTF-8; it takes one label a line",
    "--labels four.txt": "four.txt: 4 labels for 5 classes; one label a line, in the classes' order",
    "--labels empty.txt": "empty.txt: is empty; it takes one label a line, in the classes' order",
    "--config nothing.toml": "nothing.toml: can't be read",
    "--config four.txt": "four.txt: not valid TOML",
    "-o no/such/folder.xai": "no/such: no such folder",
    "--no-such-option": "unrecognized arguments: --no-such-option",
}


@pytest.mark.parametrize("options", BAD)
def test_bad_options(here: Path, options: str, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "four.txt").write_text("a\nb\nc\nd\n")
    (here / "empty.txt").touch()
    before = sorted(here.iterdir())
    assert run("net.onnx", "--preprocess", "none", *options.split(" ")) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("xai-export: error: ")
    assert BAD[options] in err
    assert err.count("\n") == 1
    assert sorted(here.iterdir()) == before


def test_no_source(capfd: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert capfd.readouterr().err == "xai-export: error: the following arguments are required: source\n"


def test_interrupted(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xai_exporters.pipeline.verify", interrupt)
    assert run("net.onnx", "--preprocess", "none") == 130
    assert capsys.readouterr().err == "xai-export: interrupted; nothing was written\n"
    assert not [p for p in here.iterdir() if "xai" in p.name]


@pytest.mark.parametrize("terminal", [False, True])
def test_steps_show_at_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with cli._steps(silent=False) as say:
        say("reading the network")
    assert ("reading the network ..." in capsys.readouterr().err) == terminal
    with cli._steps(silent=True) as say:
        say("reading the network")
    assert capsys.readouterr().err == ""


def test_a_line_a_minute_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "")
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for silent, lines in ((False, ["xai-export: step 61 ...", "xai-export: step 122 ..."]), (True, [])):
        now[0] = 0.0
        with cli._steps(silent) as say:
            for second in (0, 30, 61, 90, 122):
                now[0] = float(second)
                say(f"step {second}")
        assert capsys.readouterr().err.splitlines() == lines


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    assert "xai-export resnet50.pt --split layer4" in capsys.readouterr().out
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("xai-deploy-exporters ")


@pytest.mark.parametrize("verbose", [[], ["-v"], ["-vv"]])
def test_processes(here: Path, verbose: list[str]) -> None:
    """One is Python itself, the others are forked."""
    source = ["net.onnx"]
    if not verbose:
        nets.save(nets.randomise(nets.Plain()), here / "weights.pt")
        source = ["weights.pt", "--arch", nets.arch(nets.Plain), "--input-shape", "3,16,20"]
    arguments = [*source, "--preprocess", "imagenet", *verbose]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])}
    if verbose != ["-v"]:
        done = server.run("xai_exporters.cli", *arguments)
    else:
        command = [sys.executable, "-m", "xai_exporters.cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Wrote" in done.stdout
    assert verbose or done.stderr == ""
    again = server.run("xai_exporters.cli", *arguments, env=environment)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("xai-export: error: ")
    assert "exists already; give --overwrite" in again.stderr
    assert again.stderr.count("\n") == 1
