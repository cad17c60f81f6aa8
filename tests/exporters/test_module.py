"""`python -m xai_exporters`, and the completion of xai-export."""

from __future__ import annotations

import runpy
import sys

import pytest
from xai_exporters import cli


def test_python_m(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-m", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("xai_exporters", run_name="__main__")
    assert not caught.value.code
    assert capsys.readouterr().out.startswith("xai-deploy-exporters ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--print-completion", shell])
    assert not caught.value.code
    text = capsys.readouterr().out
    for word in ("reciprocam", "epsilon-plus", "pixel-relevance", "list-layers"):
        assert word in text
