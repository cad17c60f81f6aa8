"""xai-export as a child process: its messages, its end, and what is asked of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from xai_exporters.arguments import make_parser

from xai_deploy.cli import explain, model_file
from xai_deploy.errors import (
    ExporterNotInstalledError,
    ModelFileError,
    NotABundleError,
    OptionError,
    UnknownMethodError,
)
from xai_deploy.exported import open_bundle, options, program
from xai_deploy.exported.options import METHODS, arguments_of
from xai_deploy.version import __version__

from .conftest import PYTHON, StandIn


def left(cache: Path) -> set[str]:
    return {path.name for folder in cache.iterdir() for path in folder.iterdir()} - {"lock"}


def test_its_error_is_ours(stand_in: StandIn, model: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in.write("print('xai-export: error: net.onnx: give --preprocess', file=sys.stderr); sys.exit(2)")
    with pytest.raises(ModelFileError, match=r"^net\.onnx: give --preprocess$"):
        open_bundle(model)
    assert explain.main([str(model), "photo.jpg"]) == 2
    assert capsys.readouterr().err == "xai-explain: error: net.onnx: give --preprocess\n"
    assert left(cache) == set()


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "xai-export was ended by SIGKILL; if the system did that, the memory"),
        ("raise ValueError('of ours')", "^xai-export: ValueError: of ours$"),
        ("sys.exit(3)", "^xai-export: a warning of some library$"),
        (
            "print('no report'); shutil.copytree(os.path.dirname(calls), out); sys.exit()",
            "wrote no report; are xai-deploy and",
        ),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_it_fails(stand_in: StandIn, model: Path, cache: Path, behaviour: str, message: str) -> None:
    stand_in.write(f"os.mkdir(out + '.partial'); {behaviour}")
    with pytest.raises(ModelFileError, match=message):
        open_bundle(model)
    assert left(cache) == set()
    stand_in.write()
    open_bundle(model)


INTERRUPTED = """
import signal, sys
from xai_deploy.exported import open_bundle

sys.executable = "/no/such/python"  # xai-export lies beside the real one
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
try:
    open_bundle(sys.argv[1])
except KeyboardInterrupt:
    sys.exit(130)
"""
"""A program of its own: a signal that goes astray may end it, and not the process that runs the tests."""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_it_is_interrupted(stand_in: StandIn, model: Path, cache: Path, tmp_path: Path) -> None:
    stand_in.write("sys.exit(130)")
    with pytest.raises(KeyboardInterrupt):
        open_bundle(model)
    stand_in.write(f"""
try:
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    open({str(tmp_path / "cleaned up")!r}, "w")
    sys.exit(130)
""")
    ended = subprocess.run([PYTHON, "-P", "-c", INTERRUPTED, str(model)], timeout=120, check=False)
    assert ended.returncode == 130
    assert (tmp_path / "cleaned up").exists()
    assert left(cache) == set()


@pytest.mark.skipif(os.name != "posix", reason="the first line names the interpreter")
def test_it_cannot_be_run(stand_in: StandIn, model: Path) -> None:
    (stand_in.folder / "xai-export").write_text("#!/no/such/python\n")
    with pytest.raises(
        ModelFileError, match=r"bin/xai-export: can't be run \(No such file or directory\); install it again"
    ):
        open_bundle(model)


def test_it_cannot_ask(stand_in: StandIn, model: Path) -> None:
    stand_in.write("assert sys.stdin.read() == ''; assert not sys.stdin.isatty()")
    open_bundle(model)


def test_its_notes(stand_in: StandIn, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "xai_deploy"):
        open_bundle(model)
    messages = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("INFO", f"{model}: a note") in messages  # a warning if preprocessing was assumed
    assert ("DEBUG", "xai-export: a warning of some library") in messages


def test_steps_at_a_terminal(
    stand_in: StandIn, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    open_bundle(model, shown=True)
    assert capsys.readouterr().err == "\r\x1b[2Knet.onnx: reading the network ...\r\x1b[2K"
    open_bundle(model, {"split": "a"})
    assert capsys.readouterr().err == ""


def test_it_is_not_installed(stand_in: StandIn, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stand_in.folder / "xai-export").chmod(0o644)
    with pytest.raises(ExporterNotInstalledError, match="needs xai-export: pip install xai-deploy-exporters"):
        open_bundle(model)
    assert explain.main([str(model), "photo.jpg"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_where_it_is_found(stand_in: StandIn, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").mkdir()
    (tmp_path / "relative" / "xai-export").touch(0o755)  # on PATH, but a folder that depends on where one is
    assert program.find(model) == stand_in.folder / "xai-export"
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "xai-export").touch(0o755)
    assert program.find(model) == tmp_path / "nowhere" / "xai-export"


def test_its_version(stand_in: StandIn, model: Path) -> None:
    assert program.version_of(program.find(model)) == "stand-in 1.0"
    where = stand_in.folder.parent / "lib" / "python3.11" / "site-packages" / "xai_deploy_exporters-7.8.dist-info"
    where.mkdir(parents=True)
    (where / "METADATA").write_text("Metadata-Version: 2.1\nName: xai-deploy-exporters\nVersion: 7.8\n")
    assert program.version_of(program.find(model)) == "7.8"


def test_the_installed_one() -> None:
    assert program.version_of(program.find(Path("net.onnx"))) == __version__


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, []),
        ({"split": "layer4", "trust_code": True, "labels": None, "guided": False}, ["--split=layer4", "--trust-code"]),
        ({"mean": (-0.5, 0, 1), "input_shape": [3, 8, 9]}, ["--input-shape=3,8,9", "--mean=-0.5,0,1"]),
        ({"arch_options": {"width": 2, "aux": False}}, ["--arch-options=width=2,aux=False"]),
        (
            {"composite": ["a", Path("b.toml")], "antialias": False},
            ["--no-antialias", "--composite=a", "--composite=b.toml"],
        ),
        ({METHODS: ["grad-cam", "cam", "relevance-cam"]}, []),
        ({METHODS: ["lrp", ("clrp", {}), "smoothgrad"]}, ["--input-gradient", "--pixel-relevance"]),
        ({METHODS: "guided-grad-cam", "guided": True}, ["--guided"]),
        ({METHODS: [("lrp", {"composite": "epsilon-plus"})]}, ["--composite=epsilon-plus", "--pixel-relevance"]),
        (
            {METHODS: [("relevance-cam", {"composite": "mine"})], "composite": "a/mine.toml"},
            ["--composite=a/mine.toml"],
        ),
    ],
)
def test_arguments(given: dict[str, Any], wanted: list[str]) -> None:
    assert sorted(arguments_of(given)) == sorted(wanted)


def test_every_option_is_one_of_xai_export() -> None:
    parser = make_parser()
    known = {flag for action in parser._actions for flag in action.option_strings}
    assert {options.flag(name) for name in options._PASSED} <= known
    assert {options.flag(name) for name in model_file._OPTIONS} <= known
    assert set(model_file._OPTIONS) <= set(options._PASSED)


@pytest.mark.parametrize("name", ["output_path", "web", "serve_repo", "randomise", "Split", "split-at"])
def test_options_that_there_are_not(model: Path, name: str) -> None:
    with pytest.raises(
        OptionError, match=f"no option of an export {name!r}.*; there are all_graphs, antialias, arch, "
    ):
        open_bundle(model, {name: "x"})


@pytest.mark.parametrize("line", ['web = "site"', 'serve-repo = ["triton", "r"]', "randomise = 3"])
def test_a_configuration_that_writes_elsewhere(stand_in: StandIn, model: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "export.toml").write_text(line)
    name = line.partition(" ")[0]
    with pytest.raises(
        OptionError, match=rf"export\.toml: '{name}' writes more than the bundle; run xai-export for it"
    ):
        open_bundle(model, {"config": tmp_path / "export.toml"})
    for text in ('fuse = ["cam"]', "not valid TOML"):  # about which xai-export itself may have something to say
        (tmp_path / "export.toml").write_text(text)
        open_bundle(model, {"config": tmp_path / "export.toml", "split": text})


def test_refusals(stand_in: StandIn, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownMethodError, match="no method 'lrpp' \\(did you mean"):
        open_bundle(model, {METHODS: ["lrpp"]})
    with pytest.raises(
        OptionError, match=r"pooled\.xai: is a bundle; --split, --preprocess can be given with a model file only"
    ):
        open_bundle(stand_in.bundle, {"split": "a", "preprocess": "tf", METHODS: ["cam"]})
    with pytest.raises(
        NotABundleError, match=r"manifest\.json: is a bundle's manifest; give its folder, .*pooled\.xai$"
    ):
        open_bundle(stand_in.bundle / "manifest.json")
    (tmp_path / "photo.JPG").touch()
    with pytest.raises(NotABundleError, match=r"photo\.JPG: is an image; a bundle or a model file comes first"):
        open_bundle(tmp_path / "photo.JPG")
    with pytest.raises(NotABundleError, match=r"absent\.onnx: no such file$"):
        open_bundle(tmp_path / "absent.onnx", {"split": "a"})
    assert open_bundle(stand_in.bundle, {METHODS: ["lrp"]}).path == stand_in.bundle
    assert stand_in.calls == []
