"""Every code block of the documents runs, as it stands, in a folder that holds the files that it names.

The blocks of one document run in order, like a reader's: those of Python share their variables. A block is left out only if a line
`<!-- not run: REASON -->` precedes it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import server
from xai_deploy import method_names

from . import desk as desks

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("*.md", "*/README.md", "models/*/README.md", "docs/**/*.md")
DOCUMENTS = sorted(
    {file for place in PLACES for file in ROOT.glob(place) if not file.relative_to(ROOT).parts[0].startswith(".")}
)
SHELL, SHOWN, OTHER = ("sh", "bash"), "console", ("text", "toml", "json", "diff", "html", "js", "csv", "yaml")
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+?) -->\n+)?^(?P<indent>[ ]*)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
MOST_LEFT_OUT = 30
"""Blocks that do not run, in all documents together."""


@dataclass(frozen=True)
class Block:
    """A code block: its language, its code, its first line in the document, and why it is not run, if it is not."""

    language: str
    code: str
    line: int
    why: str | None


def blocks(document: Path) -> Iterator[Block]:
    """The code blocks of a document."""
    text = document.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        rows = found["code"].splitlines(keepends=True)
        code = "".join(row.removeprefix(found["indent"]) for row in rows)
        yield Block(found["language"], code, text.count("\n", 0, found.start("code")) + 1, found["why"])


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that documents start with, and programs."""
    folder = tmp_path_factory.mktemp("laid")
    (folder / "desk").mkdir()
    desks.lay(folder / "desk")
    desks.programs(folder / "bin")
    return folder


@pytest.mark.parametrize("case", DOCUMENTS, ids=lambda case: case.relative_to(ROOT).as_posix())
def test_blocks_run(case: Path, laid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = [block for block in blocks(case) if block.why is None and block.language not in OTHER]
    if not todo:
        return
    shutil.copytree(laid / "desk", tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("PATH", os.pathsep.join([str(laid / "bin"), str(server.programs()), os.environ["PATH"]]))
    monkeypatch.setenv("XAI_EXPORT_CACHE", str(tmp_path / "cache"))
    names: dict[str, Any] = {"__name__": case.stem}
    for block in todo:
        where = f"{case.relative_to(ROOT)}:{block.line}"
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, str(case), "exec"), names)
        else:
            assert block.language in (*SHELL, SHOWN), f"{where}: the block names no language that is known"
            run(block, where)


def run(block: Block, where: str) -> None:
    """Run a block of shell; of a block that shows a session, the lines with a prompt."""
    code = block.code
    if block.language == SHOWN:
        code = "".join(row[2:] for row in code.splitlines(keepends=True) if row.startswith(("$ ", "> ")))
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    if "--web" in code and "can't be downloaded" in ended.stderr:
        pytest.skip("no onnxruntime-web: no network, and no copy of it in the cache")
    assert ended.returncode == 0, f"{where}: {ended.stdout}{ended.stderr}"


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    reasons = [block.why for document in DOCUMENTS for block in blocks(document) if block.why is not None]
    assert all(len(reason) > 10 for reason in reasons)
    assert len(reasons) <= MOST_LEFT_OUT


def test_a_block_that_fails_is_seen(laid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(laid / "bin"), str(server.programs()), os.environ["PATH"]]))
    with pytest.raises(AssertionError, match=r"here:7: xai-explain: error: none\.xai"):
        run(Block("sh", "xai-explain none.xai none.jpg\ntrue\n", 7, None), "here:7")
    for wrong in ("pip install '.[images]'", "pip install './exporter'", "pip install 'xai-deploy[onxruntime]'"):
        with pytest.raises(AssertionError, match=r"no extra|no distribution"):
            run(Block("sh", wrong, 7, None), "here:7")
    run(Block("console", "$ pip install \\\n>   '.[image]'\nnot a command\n", 7, None), "here:7")


def test_the_names_of_pytorch_grad_cam_exist() -> None:
    """The page for its users names its classes as its version that is installed here has them."""
    peer = pytest.importorskip("pytorch_grad_cam")
    page = (ROOT / "docs" / "coming-from" / "pytorch-grad-cam.md").read_text(encoding="utf-8")
    table = page.partition("## Names")[2].partition("## Options")[0]
    named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert len(named) > 15
    assert [name for name in named if not hasattr(peer, name)] == []
    ours = {
        name
        for row in re.findall(r"^\| `.*? \| (.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`([\w+-]+)`", row)
    }
    assert {"grad-cam", "score-cam", "guided-backprop"} <= ours
    assert [name for name in ours if name not in method_names()] == []
