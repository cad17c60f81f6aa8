"""The documentation's site: it builds, it is strict, and its navigation shows every page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from xai_deploy import method_names
from xai_deploy.cli.explain import main as explain
from xai_deploy.evaluation import metric_names

ROOT = Path(__file__).resolve().parents[2]


def build(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/site"], cwd=project, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the site is made of."""
    copy = tmp_path_factory.mktemp("project")
    without = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    for name in ("docs", "examples", "scripts", "xai_deploy", "exporters"):
        shutil.copytree(ROOT / name, copy / name, ignore=without)
    for file in (*ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "mkdocs.yml"):
        shutil.copy(file, copy)
    return copy


@pytest.fixture(scope="module")
def site(project: Path) -> Path:
    """The built site."""
    built = build(project)
    assert built.returncode == 0, built.stderr
    return project / "build" / "site"


class Links(HTMLParser):
    """The targets of a page's links and pictures, and its anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("a", "img") and (target := given.get("href") or given.get("src")):
            self.targets.append(target)
        if anchor := given.get("id"):
            self.anchors.add(anchor)


def test_every_link_of_every_page_leads_somewhere(site: Path) -> None:
    """The builder checks what is written in Markdown; this checks what a browser gets, anchors too."""
    html = site / "html"
    pages = {page: Links(page) for page in html.rglob("index.html")}
    assert len(pages) > 30
    dead = []
    for page, links in pages.items():
        for target in links.targets:
            path, _, anchor = target.partition("#")
            if "://" in target or target.startswith(("mailto:", "data:")):
                continue
            file = (page.parent / path).resolve() if path else page
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file() or (anchor and file in pages and anchor not in pages[file].anchors):
                dead.append((str(page.relative_to(html)), target))
    assert dead == []


def test_the_navigation_shows_every_page(site: Path) -> None:
    shown = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    there = [page.relative_to(site / "pages").as_posix() for page in (site / "pages").rglob("*.md")]
    assert sorted(shown) == sorted(there)


def test_no_page_asks_another_server_for_anything(site: Path) -> None:
    """No font, script, style or picture from elsewhere."""
    asked = r"<(?:script|img|iframe)[^>]+src=\"?https?:|<link[^>]+rel=\"?(?:stylesheet|preconnect)[^>]+href=\"?https?:"
    assert [
        page for page in (site / "html").rglob("*.html") if re.search(asked, page.read_text(encoding="utf-8"))
    ] == []


def test_the_reference_is_complete(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = site / "pages" / "reference"
    assert re.findall(r"^## (.+)$", (pages / "methods.md").read_text(), re.MULTILINE) == list(method_names())
    assert re.findall(r"^## (.+)$", (pages / "metrics.md").read_text(), re.MULTILINE) == list(metric_names())
    assert " at 0x" not in "".join(page.read_text(encoding="utf-8") for page in pages.rglob("*.md"))
    with pytest.raises(SystemExit):
        explain(["--help"])
    options = set(re.findall(r"^ +(?:-\w(?: [^-,]+)?, )?(--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    text = (pages / "xai-explain.md").read_text(encoding="utf-8")
    assert {option for option in options if f"{option}" not in text} == set()
    html = (site / "html" / "reference" / "python" / "explaining" / "index.html").read_text(encoding="utf-8")
    assert 'id="xai_deploy.Explainer.explain_many"' in html


def test_a_broken_link_fails(project: Path) -> None:
    """To no page, and to no section of one."""
    document = project / "docs" / "guides" / "running.md"
    before = document.read_text(encoding="utf-8")
    document.write_text(f"{before}\n[a page](nowhere.md)\n[a section](methods.md#no-such-section)\n", encoding="utf-8")
    try:
        built = build(project)
    finally:
        document.write_text(before, encoding="utf-8")
    assert built.returncode == 1
    said = re.sub(r"\x1b\[[\d;]*m", "", built.stderr)
    assert "page does not exist" in said
    assert "anchor does not exist" in said


def test_an_argument_is_refused() -> None:
    refused = subprocess.run(
        [sys.executable, "scripts/site", "--out"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stderr) == (2, "error: scripts/site takes no arguments, not: --out\n")
