"""A repository appears whole or not at all, and replaces only what it knows for its own."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from xai_exporters.bundle import stage as writer
from xai_exporters.deliver.repositories.repository import check_repository, write_repository
from xai_exporters.deliver.repositories.served import Served, safe_name, servers
from xai_exporters.errors import OutputError, RequestError

KINDS = ["ovms", "triton"]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(kind: str, path: Path, models: list[Served], overwrite: bool = False) -> str:
    """The message, and nothing written."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises((OutputError, RequestError)) as error:
        write_repository(kind, path, models, overwrite)
    assert sorted(path.parent.rglob("*")) == before
    return str(error.value)


def test_the_servers() -> None:
    assert list(servers) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_twice_gives_the_same_bytes(models: dict[str, Served], kind: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_repository(kind, tmp_path / name, list(models.values()), overwrite=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_it_is_code_or_names_this_machine(models: dict[str, Served], kind: str, tmp_path: Path) -> None:
    write_repository(kind, tmp_path / "repo", list(models.values()), overwrite=False)
    files = contents(tmp_path / "repo")
    assert {Path(name).suffix for name in files} <= {".onnx", ".pbtxt", ".json", ".txt"}
    assert not any(str(tmp_path).encode() in data for data in files.values())
    told = json.loads(files["xai-repository.json"])
    assert told["server"] == kind
    assert told["files"] == sorted(set(files) - {"xai-repository.json"})


def test_a_server_of_another_user_may_read_it(models: dict[str, Served], tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        write_repository("triton", tmp_path / "repo", [models["digits"]], overwrite=False)
    finally:
        os.umask(umask)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "repo", *(tmp_path / "repo").rglob("*"))}
    assert modes == {0o755, 0o644}


def test_overwrite_replaces_the_whole(models: dict[str, Served], tmp_path: Path) -> None:
    path = tmp_path / "repo"
    write_repository("triton", path, list(models.values()), overwrite=False)
    assert refused("triton", path, [models["digits"]]) == (
        f"{path}: exists already; give --overwrite to replace it, or another folder"
    )
    write_repository("ovms", path, [models["digits"]], overwrite=True)
    assert set(contents(path)) == {"config.json", "digits/1/model.onnx", "digits/labels.txt", "xai-repository.json"}
    assert [p.name for p in tmp_path.iterdir()] == ["repo"]


@pytest.mark.parametrize("what", ["file", "folder", "link", "no-json", "no-list"])
def test_what_is_not_ours_is_not_replaced(models: dict[str, Served], what: str, tmp_path: Path) -> None:
    path = tmp_path / "repo"
    if what == "file":
        path.write_text("mine")
    elif what == "link":
        write_repository("triton", tmp_path / "real", [models["digits"]], overwrite=False)
        path.symlink_to(tmp_path / "real")
    else:
        path.mkdir()
        (path / "mine.txt").write_text("mine")
        if what != "folder":
            (path / "xai-repository.json").write_text("{" if what == "no-json" else "[]")
    assert refused("triton", path, [models["digits"]], overwrite=True) == (
        f"{path}: exists and is not a repository that xai-export wrote; --overwrite replaces only those"
    )


@pytest.mark.parametrize("added", ["digits/2/model.onnx", "other/config.pbtxt"])
def test_what_was_added_since_is_not_lost(models: dict[str, Served], added: str, tmp_path: Path) -> None:
    path = tmp_path / "repo"
    write_repository("triton", path, [models["digits"]], overwrite=False)
    (path / added).parent.mkdir(parents=True)
    (path / added).write_text("mine")
    assert refused("triton", path, [models["digits"]], overwrite=True) == (
        f"{path}: holds {added!r}, which xai-export did not write; move it away first"
    )
    shutil.rmtree((path / added).parent)
    write_repository("triton", path, [models["digits"]], overwrite=True)


def test_what_can_not_be_asked_for_is_refused_early(models: dict[str, Served], tmp_path: Path) -> None:
    assert refused("trition", tmp_path / "repo", []) == (
        "--serve-repo trition: no server 'trition' (did you mean 'triton'?); there are ovms, triton"
    )
    assert refused("triton", tmp_path / "no" / "repo", []) == f"{tmp_path / 'no'}: no such folder; create it first"
    with pytest.raises(RequestError):
        check_repository("trition", tmp_path / "repo", False)
    served = models["digits"]
    twice = [served, Served("Digits", served.model, (), None, "logits")]
    assert refused("triton", tmp_path / "repo", twice) == (
        "--serve-repo: two models are called 'Digits'; each has a folder of its own"
    )
    for name, safe in (("a/b", "a_b"), ("../net", "net"), ("my net", "my_net"), ("", "model"), (".net", "net")):
        unsafe = [Served(name, served.model, (), None, "logits")]
        assert refused("ovms", tmp_path / "repo", unsafe) == (
            f"--serve-repo: {name!r} is no name for a served model; {safe!r} would be"
        )


def test_safe_names() -> None:
    assert safe_name("mobilenet_v2-1.0") == "mobilenet_v2-1.0"
    assert safe_name("grüße (randomised 1 of 3)") == "gr_e_randomised_1_of_3"
    assert safe_name("..") == "model"
    assert safe_name("net-grad-cam++") == "net-grad-campp"


def test_a_failure_leaves_the_old_one(
    models: dict[str, Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, data: bytes) -> None:
        if file.name == "labels.txt":
            raise OSError(28, "No space left on device")
        file.write_bytes(data)

    path = tmp_path / "repo"
    write_repository("triton", path, [models["digits"]], overwrite=False)
    before = contents(path)
    monkeypatch.setattr(writer, "_write", full)
    with pytest.raises(OutputError) as error:
        write_repository("triton", path, [models["grad-cam"]], overwrite=True)
    assert str(error.value) == f"{path}: can't be written (No space left on device)"
    assert contents(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["repo"]
