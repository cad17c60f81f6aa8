"""Shell completion as a shell does it, and the commands through `python -m`."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import xai_deploy
from xai_deploy import __main__ as by_module
from xai_deploy import backend_names, method_names

COMMANDS = sorted(by_module.COMMANDS)


def script(command: str, shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        by_module.main([command, "--print-completion", shell])
    assert not caught.value.code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def completed(source: Path, command: str, *words: str) -> list[str]:
    """What bash offers for the last word."""
    name = f"_shtab_xai_{command}"
    code = f'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); {name}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    called = ["bash", "-c", code, "bash", str(source), f"xai-{command}", *words]
    done = subprocess.run(called, capture_output=True, text=True, check=True, cwd=source.parent)
    assert done.stderr == ""
    return done.stdout.split()


def takes_methods(command: str) -> bool:
    parser: argparse.ArgumentParser = importlib.import_module(f"xai_deploy.cli.{command}")._parser()
    return any("--method" in action.option_strings for action in parser._actions)


@pytest.mark.parametrize("command", [command for command in COMMANDS if takes_methods(command)])
def test_bash(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "completion.bash"
    source.write_text(script(command, "bash", capsys))
    (tmp_path / "photo.png").touch()
    assert "--method" in completed(source, command, "--me")
    option = "--method"
    assert completed(source, command, option, "grad") == ["grad-cam", "grad-cam++", "gradient"]
    assert set(completed(source, command, option, "")) == {"all", "fast", *method_names()}
    assert completed(source, command, "--backend", "") == list(backend_names())
    assert completed(source, command, "net.xai", "pho") == ["photo.png"]
    assert "python" not in source.read_text()


def test_colour_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "completion.bash"
    source.write_text(script("explain", "bash", capsys))
    assert completed(source, "explain", "--colormap", "vir") == ["viridis"]


def test_metrics_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "completion.bash"
    source.write_text(script("evaluate", "bash", capsys))
    (tmp_path / "instances.json").touch()
    assert completed(source, "evaluate", "--metrics", "ins") == ["insertion"]
    assert completed(source, "evaluate", "--boxes", "ins") == ["instances.json"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
@pytest.mark.parametrize("command", COMMANDS)
def test_other_shells(command: str, shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(command, shell, capsys)
    assert f"xai-{command}" in text
    assert ("integrated-gradients" in text) == takes_methods(command)


def test_without_shtab(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert by_module.main(["explain", "--print-completion", "bash"]) == 2
    assert capsys.readouterr().err == (
        'xai-explain: error: --print-completion needs shtab, which is not installed; pip install "xai-deploy[completion]"\n'
    )


def test_commands_are_those_that_are_installed(root: Path) -> None:
    scripts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {f"xai-{name}": f"xai_deploy.cli.{name}:main" for name in by_module.COMMANDS}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_python_m_prints_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert by_module.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:-1]] == [
        ["python", "-m", "xai_deploy", name] for name in by_module.COMMANDS
    ]
    assert lines[-1].split()[:4] == ["python", "-m", "xai_exporters", "xai-export:"]


def test_python_m_dispatches(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called = [sys.executable, "-P", "-m", "xai_deploy", "explain", "net.xai", "photos/cat.png", "-q"]
    subprocess.run(called, check=True, cwd=work)
    assert Path("xai-output/cat/results.json").is_file()
    assert by_module.main(["explain", "none.xai", "photos"]) == 2
    assert by_module.main(["exlain"]) == 2
    assert by_module.main(["--version"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == (
        f"xai_deploy: error: no command 'exlain' (did you mean 'explain'?); there are {', '.join(by_module.COMMANDS)}"
    )
    assert captured.out.endswith(f"xai-deploy {xai_deploy.__version__}\n")
