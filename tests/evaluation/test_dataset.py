"""Which files of a folder are the images."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from xai_deploy.errors import ImageFileError
from xai_deploy.evaluation.dataset import find


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "b/1.png",
        "b/1.JPG",
        "a.jpeg",
        "b.webp",
        "-x.png",
        "B.tif",
        "c/d/e.gif",
        "notes.txt",
        "png",
        ".h.png",
    ):
        (tmp_path / "r" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "r" / name).touch()
    for name in (".cache/x.png", "masks/a.png", "empty/x"):
        (tmp_path / "r" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "r/.cache/x.png").touch()
    (tmp_path / "r/masks/a.png").touch()
    return tmp_path / "r"


def names(root: Path, found: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


ALL = ["-x.png", "B.tif", "a.jpeg", "b.webp", "b/1.JPG", "b/1.png", "c/d/e.gif"]


def test_in_order_of_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the file system lists them."""
    assert names(root, find(root, apart=[root / "masks"])) == ALL
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((f, d, n[::-1]) for f, d, n in walk(*a, **k)))
    assert names(root, find(root, apart=[root / "masks"])) == ALL


def test_folders_apart(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are written; other folders of the same name stay."""
    assert "masks/a.png" in names(root, find(root))
    monkeypatch.chdir(root)
    for folder in (Path("masks"), Path("c/../masks"), Path("./masks/")):
        assert names(root, find(root, apart=[folder, Path("nowhere")])) == ALL
    (root / "c/masks").mkdir()
    (root / "c/masks/z.png").touch()
    assert "c/masks/z.png" in names(root, find(root, apart=[Path("masks")]))


def test_limit(root: Path) -> None:
    whole = find(root)
    for limit in (len(whole), len(whole) + 1, 10**9, None):
        assert find(root, limit) == whole
    drawn = {find(root, 3, seed) for seed in range(20)}
    assert len(drawn) > 5
    for some in drawn:
        assert len(set(some)) == 3
        assert list(some) == [path for path in whole if path in some]
    assert find(root, 3, 4) == find(root, 3, 4)


def test_links(root: Path) -> None:
    """A link to a file is that file, a broken one is found out when it is read; folders are not followed: they may loop."""
    (root / "masks/link.png").symlink_to(root / "a.jpeg")
    (root / "masks/broken.png").symlink_to(root / "nothing")
    (root / "masks/loop").symlink_to(root, target_is_directory=True)
    assert names(root, find(root / "masks")) == names(
        root, tuple(root / "masks" / n for n in ("a.png", "broken.png", "link.png"))
    )
    (root.parent / "way").symlink_to(root, target_is_directory=True)
    assert len(find(root.parent / "way")) == len(ALL) + 3


def test_strange_names(tmp_path: Path) -> None:
    strange = [b"a\nb.png", b"a\rb.png", "猫 é.png".encode(), b"caf\xe9.png", b"=cmd.png", b"\x1b[31m.png", b"a\\b.png"]
    for name in strange:
        (tmp_path / os.fsdecode(name)).touch()
    assert sorted(os.fsencode(path.name) for path in find(tmp_path)) == sorted(strange)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("none", "none: no such folder"),
        ("a.jpeg", "a.jpeg: a file; give the folder of the images"),
        ("empty", "empty: no image files (.avif, .bmp, .gif, .jpeg, "),
    ],
)
def test_refused(root: Path, folder: str, message: str) -> None:
    with pytest.raises(ImageFileError, match=re.escape(message)):
        find(root / folder)


def test_a_folder_that_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("c"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ImageFileError, match=re.escape(f"{root / 'c'}: can't be read (Permission denied)")):
        find(root)
