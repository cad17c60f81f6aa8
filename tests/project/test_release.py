"""Wheels and sdists hold what is due, and scripts/releasing.py sees where they don't; addresses come from one file."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import markdown_it
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import releasing  # noqa: E402
from links import into, relinked  # noqa: E402
from releasing import DISTRIBUTIONS, Distribution  # noqa: E402

VERSION = releasing.version_of(ROOT)
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2])"
ADDRESSES = 'Source = "https://example.org/xai"\n"Bugs, questions" = "https://example.org/xai/issues"\n'
HAS = {"Source": "https://example.org/xai", "Bugs, questions": "https://example.org/xai/issues"}


def build(what: str, source: Path, into: Path) -> None:
    """Build as pip does, but with the setuptools that is installed here."""
    into.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", BUILD, what, into], cwd=source, capture_output=True, check=True)
    for left in (*source.glob("build"), *source.glob("*.egg-info")):
        shutil.rmtree(left)


def build_both(distribution: Distribution, source: Path, folder: Path) -> None:
    """Into `built`: the sdist, and the wheel that is made of it."""
    build("sdist", source / distribution.folder, folder / "built")
    unpacked = folder / f"{distribution.file_name}-unpacked"
    sdist = folder / "built" / f"{distribution.file_name}-{VERSION}.tar.gz"
    for name, data in releasing.in_sdist(sdist).items():
        (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / name).write_bytes(data)
    build("wheel", unpacked, folder / "built")


def sources(folder: Path) -> Path:
    """A copy of what the distributions are built of."""
    without = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("xai_deploy", "exporters", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=without)
    (folder / "scripts").mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "scripts/links.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`source`, `built` and `direct`, as scripts/release has them."""
    folder = tmp_path_factory.mktemp("released")
    source = sources(folder / "source")
    for distribution in DISTRIBUTIONS:
        build_both(distribution, source, folder)
        build("wheel", source / distribution.folder, folder / "direct")
    return folder


def faults(folder: Path, distribution: Distribution) -> list[str]:
    return list(releasing.faults(distribution, folder / "source", folder / "built", folder / "direct", VERSION))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda d: d.name)
def test_what_is_built_holds_what_is_due(released: Path, distribution: Distribution) -> None:
    assert faults(released, distribution) == []


def test_the_commands_of_a_wheel(released: Path) -> None:
    [wheel] = (released / "built").glob("xai_deploy-*.whl")
    assert {"xai-explain", "xai-check", "xai-evaluate", "xai-bench"} <= set(releasing.commands(wheel))


@pytest.fixture
def damaged(released: Path, tmp_path: Path) -> Path:
    """A copy, to damage."""
    return Path(shutil.copytree(released, tmp_path / "damaged"))


ENGINE = DISTRIBUTIONS[0]
WHEEL, SDIST = f"xai_deploy-{VERSION}-py3-none-any.whl", f"xai_deploy-{VERSION}.tar.gz"
INFO = f"xai_deploy-{VERSION}.dist-info"


def rewrite(wheel: Path, name: str, data: bytes | None) -> None:
    """Give a file of a wheel other bytes, or take it away."""
    files = dict(releasing.in_wheel(wheel)) | ({name: data} if data is not None else {})
    with zipfile.ZipFile(wheel, "w") as archive:
        for key, value in files.items():
            if key != name or data is not None:
                archive.writestr(key, value)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("xai_deploy/py.typed", None, f"{WHEEL} lacks the file xai_deploy/py.typed"),
        ("tests/test_it.py", b"", f"{WHEEL} has the extra file tests/test_it.py"),
        ("xai_deploy/notes.txt", b"", f"{WHEEL} has the extra file xai_deploy/notes.txt"),
        (f"{INFO}/licenses/LICENSE", None, f"{WHEEL} has no LICENSE"),
    ],
)
def test_missing_and_stray_files_are_seen(damaged: Path, name: str, data: bytes | None, told: str) -> None:
    for folder in ("built", "direct"):
        rewrite(damaged / folder / WHEEL, name, data)
    assert faults(damaged, ENGINE) == [told]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (f"Version: {VERSION}", "Version: 9.9", f"Version is '9.9', not '{VERSION}'"),
        ("License-Expression: Apache-2.0", "License-Expression: MIT", "License-Expression is 'MIT', not 'Apache-2.0'"),
        ("# xai-deploy\n", "\n", "the description is not the readme"),
    ],
)
def test_wrong_metadata_are_seen(damaged: Path, before: str, after: str, told: str) -> None:
    for folder in ("built", "direct"):
        text = releasing.in_wheel(damaged / folder / WHEEL)[f"{INFO}/METADATA"].decode()
        rewrite(damaged / folder / WHEEL, f"{INFO}/METADATA", text.replace(before, after, 1).encode())
    assert faults(damaged, ENGINE) == [f"{WHEEL}: {told}"]


def test_an_exporter_of_another_engine_is_seen(released: Path) -> None:
    [wheel] = (released / "built").glob("xai_deploy_exporters-*.whl")
    [data] = (data for name, data in releasing.in_wheel(wheel).items() if name.endswith("/METADATA"))
    asks = f"xai-deploy=={VERSION}"
    other = data.replace(asks.encode(), b"xai-deploy==9.9")
    assert list(releasing.metadata_faults(other, DISTRIBUTIONS[1], VERSION)) == [f"does not require {asks}"]


def test_an_sdist_with_other_code_is_seen(damaged: Path) -> None:
    rewrite(damaged / "built" / WHEEL, "xai_deploy/version.py", b"")
    assert faults(damaged, ENGINE) == [f"{SDIST} makes a wheel that differs from the sources: xai_deploy/version.py"]


def test_an_sdist_with_stray_files_is_seen(damaged: Path) -> None:
    sdist = damaged / "built" / SDIST
    files = releasing.in_sdist(sdist)
    with tarfile.open(sdist, "w:gz") as archive:
        for name, data in {**files, "tests/test_it.py": b"", ".env": b""}.items():
            member = tarfile.TarInfo(f"top/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert faults(damaged, ENGINE) == [
        f"{SDIST} has the extra file .env",
        f"{SDIST} has the extra file tests/test_it.py",
    ]


def test_what_was_not_built_is_named(damaged: Path) -> None:
    (damaged / "built" / SDIST).unlink()
    assert faults(damaged, ENGINE) == [f"not built: {SDIST}"]


def addresses(metadata: Message) -> dict[str, str]:
    return dict(url.rsplit(", ", 1) for url in metadata.get_all("Project-URL", []))


def metadata_of(folder: Path) -> Iterator[Message]:
    """Of every wheel and sdist of a folder."""
    for file in folder.iterdir():
        files = releasing.in_wheel(file) if file.suffix == ".whl" else releasing.in_sdist(file)
        [data] = (data for name, data in files.items() if name == "PKG-INFO" or name.endswith(".dist-info/METADATA"))
        yield HeaderParser().parsestr(data.decode())


def test_no_addresses_while_there_are_none(released: Path) -> None:
    if (ROOT / "project_urls.toml").exists():
        pytest.skip("the project has addresses")
    assert [addresses(metadata) for metadata in metadata_of(released / "built")] == [{}, {}, {}, {}]


def test_one_file_gives_both_distributions_their_addresses(tmp_path: Path) -> None:
    """The wheels, which are built of the sdists, have them from there."""
    source = sources(tmp_path / "source")
    (source / "project_urls.toml").write_text(ADDRESSES, encoding="utf-8")
    for distribution in DISTRIBUTIONS:
        build_both(distribution, source, tmp_path)
    assert [addresses(metadata) for metadata in metadata_of(tmp_path / "built")] == [HAS, HAS, HAS, HAS]
    readmes = [m.get_payload() for m in metadata_of(tmp_path / "built") if m["Name"] == "xai-deploy"]
    assert len(readmes) == 2
    for readme in readmes:
        links = link_targets(readme)
        assert all(link.startswith("https://") for link in links)
        assert "https://example.org/xai/blob/HEAD/docs/guides/methods.md" in links
        assert "https://example.org/xai/raw/HEAD/docs/images/photographs.jpg" in links


def test_without_addresses_no_link_of_the_readme_is_relative(released: Path) -> None:
    if (ROOT / "project_urls.toml").exists():
        pytest.skip("the project has addresses")
    for metadata in metadata_of(released / "built"):
        assert all("://" in link for link in link_targets(metadata.get_payload()))


def link_targets(text: object) -> list[str]:
    """The targets of all links and pictures outside code, by a parser of Markdown that is not ours."""
    tokens = markdown_it.MarkdownIt().parse(str(text))
    inline = [child for token in tokens for child in token.children or []]
    found = [child.attrGet("href") or child.attrGet("src") for child in inline if child.type in ("link_open", "image")]
    return [str(target) for target in found]


SOME = """![a *map*](docs/map.jpg) and [a guide](docs/guide.md#part), [`code`](../src/x.py), [out](https://x.org/a), [up](#part)

`[not](a.link)`
```
[nor](this.one)
```
"""


def test_relative_links_get_an_absolute_address() -> None:
    known = relinked(SOME, "sub", into("https://git.example/a/b/"))
    base = "https://git.example/a/b"
    assert link_targets(known) == [
        f"{base}/raw/HEAD/sub/docs/map.jpg",
        f"{base}/blob/HEAD/sub/docs/guide.md#part",
        f"{base}/blob/HEAD/src/x.py",
        "https://x.org/a",
        "#part",
    ]
    assert "`[not](a.link)`" in known
    assert "[nor](this.one)" in known


def test_relative_links_without_an_address_become_text() -> None:
    first, _, rest = relinked(SOME, "sub", into(None)).partition("\n")
    assert first == "a *map* and a guide, `code`, [out](https://x.org/a), [up](#part)"
    assert rest == SOME.partition("\n")[2]
