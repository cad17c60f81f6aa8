"""The folder of results: replaced as a whole, or not at all; and nothing but our own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xai_deploy import XaiError
from xai_deploy.cli.results import Results


def report(*overlays: object, sheets: object = ("contact-sheet.png",)) -> bytes:
    entries = [{"overlay": overlay, "raw": "a--cam--1.npy"} for overlay in overlays]
    return json.dumps({"images": [{"explanations": entries}], "contact_sheets": sheets}).encode()


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_new_results_replace_the_old(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with Results(out, False) as results:
        for name in ("a--cam--1.png", "a--cam--1.npy", "contact-sheet.png", "contact-sheet-2.png"):
            results.write(name, b"old")
        results.publish(report("a--cam--1.png", sheets=["contact-sheet.png", "contact-sheet-2.png"]))
    (out / "notes.txt").touch()
    with pytest.raises(XaiError, match=r"results\.json: exists; choose another folder"):
        Results(out, False)
    with Results(out, True) as results:
        results.write("b--cam--1.png", b"new")
        assert (out / "a--cam--1.png").exists()
        results.publish(report("b--cam--1.png"))
    assert names(out) == ["b--cam--1.png", "notes.txt", "results.json"]


@pytest.mark.parametrize("earlier", [True, False])
def test_failure_leaves_what_there_was(tmp_path: Path, earlier: bool) -> None:
    out = tmp_path / "deep" / "out"
    if earlier:
        with Results(out, False) as results:
            results.write("a--cam--1.png", b"old")
            results.publish(report("a--cam--1.png"))

    def interrupted() -> None:
        with Results(out, True) as results:
            results.write("a--cam--1.png", b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    if earlier:
        assert names(out) == ["a--cam--1.png", "results.json"]
        assert (out / "a--cam--1.png").read_bytes() == b"old"
    else:
        assert names(tmp_path) == []


def test_failure_while_moving(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "b--cam--1.png").mkdir(parents=True)  # in the way
    with Results(out, False) as results:
        results.write("a--cam--1.png", b"")
        results.write("b--cam--1.png", b"")
        with pytest.raises(OSError, match="directory"):
            results.publish(report("a--cam--1.png"))
    assert names(out) == ["b--cam--1.png"]


def test_a_crafted_report_deletes_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "x--y.png").touch()
    (out / "mine.png").touch()
    evil = ["../x--y.png", str(tmp_path / "x--y.png"), "mine.png", "..", "", 3, None, "results.json/../mine.png"]
    (out / "results.json").write_bytes(report(*evil))
    with Results(out, True) as results:
        results.publish(b"{}")
    assert (tmp_path / "x--y.png").exists()
    assert names(out) == ["mine.png", "results.json"]


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"images": 3, "contact_sheets": 4}', b"[" * 100_000])
def test_damaged_report(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "results.json").write_bytes(text)
    with Results(tmp_path, True) as results:
        results.publish(b"{}")
    assert (tmp_path / "results.json").read_bytes() == b"{}"
