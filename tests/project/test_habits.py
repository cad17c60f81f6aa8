"""Scripts say how to use them and refuse what they don't take; the citation has the version."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from xai_deploy import __version__

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(file for file in (ROOT / "scripts").iterdir() if file.is_file() and not file.suffix)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_start_with_what_they_do(script: Path) -> None:
    shebang, first, *_ = script.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"#!/usr/bin/env (bash|python3?)", shebang)
    assert re.match(r'(# |""")[A-Z`]?\w', first)
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        (["check", "tests"], {}),
        (["environment", "--slow"], {}),
        (["environment", "--quick", "--quick"], {}),
        (["find-python"], {"XAI_PYTHON": "/nonexistent/python"}),
        (["environment", "--quick"], {"XAI_PYTHON": "/nonexistent/python"}),
        (["release", "--upload"], {}),
        (["release", "--out", str(ROOT / "scripts")], {}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line(command: list[str], environment: dict[str, str]) -> None:
    script, *arguments = command
    done = subprocess.run(
        [ROOT / "scripts" / script, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "error: " in done.stderr


def test_the_python_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    """An installed one of another name, and nothing else where it is too old."""
    chosen = tmp_path / "python-of-mine"
    chosen.write_text("#!/bin/sh\nexit 0\n")
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    for file in (chosen, old):
        file.chmod(0o755)
    command = [ROOT / "scripts" / "find-python"]
    found = subprocess.run(
        command, env=os.environ | {"XAI_PYTHON": str(chosen)}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(chosen)
    assert (
        subprocess.run(command, env=os.environ | {"XAI_PYTHON": str(old)}, capture_output=True, check=False).returncode
        == 2
    )


def test_the_citation_has_the_version() -> None:
    fields = dict(
        re.findall(r'^([\w-]+): "?([^"#\n]*?)"?(?: #.*)?$', (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    )
    assert fields["version"] == __version__
    assert (fields["cff-version"], fields["license"], fields["type"]) == ("1.2.0", "Apache-2.0", "software")


def test_both_distributions_have_one_licence() -> None:
    assert (ROOT / "exporters" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_hook_runs_the_check() -> None:
    assert "entry: scripts/check\n" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
