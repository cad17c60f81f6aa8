"""The folder of results: replaced as a whole, or not at all; what an interrupted call has done; nothing but our own files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from xai_deploy import XaiError
from xai_deploy.cli.results import Results, open_results
from xai_deploy.format.bundle import MANIFEST

PLAN: dict[str, Any] = {"method": ["cam"]}


def report(*overlays: object, sheets: object = ("contact-sheet.png",)) -> bytes:
    entries = [{"overlay": overlay, "raw": "a--cam--1.npy"} for overlay in overlays]
    return json.dumps({"images": [{"explanations": entries}], "contact_sheets": sheets}).encode()


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def interrupted(out: Path, overwrite: bool, done: bool) -> None:
    """A call that is interrupted before, or after, its first chunk is done."""

    def call() -> None:
        with Results(out, PLAN, overwrite) as results:
            results.write("a--cam--1.png", b"new")
            if done:
                results.done(0, [{"file": "a"}], [{"file": "b"}])
                results.write("c--cam--1.png", b"half a chunk")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call()


def test_new_results_replace_the_old(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with Results(out, PLAN, False) as results:
        for name in ("a--cam--1.png", "a--cam--1.npy", "contact-sheet.png", "contact-sheet-2.png"):
            results.write(name, b"old")
        assert names(out) == ["unfinished"]
        results.publish(report("a--cam--1.png", sheets=["contact-sheet.png", "contact-sheet-2.png"]))
    (out / "notes.txt").touch()
    with pytest.raises(XaiError, match=r"results\.json: exists; choose another folder"):
        Results(out, PLAN, False)
    with Results(out, PLAN, True) as results:
        results.write("b--cam--1.png", b"new")
        assert (out / "a--cam--1.png").exists()
        results.publish(report("b--cam--1.png"))
    assert names(out) == ["b--cam--1.png", "notes.txt", "results.json"]


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("earlier", [True, False])
def test_an_interruption_leaves_earlier_results(tmp_path: Path, earlier: bool, done: bool) -> None:
    out = tmp_path / "deep" / "out"
    if earlier:
        with Results(out, PLAN, False) as results:
            results.write("a--cam--1.png", b"old")
            results.publish(report("a--cam--1.png"))
    interrupted(out, True, done)
    kept = ["unfinished"] if done else []
    if earlier:
        assert names(out) == ["a--cam--1.png", "results.json", *kept]
        assert (out / "a--cam--1.png").read_bytes() == b"old"
    elif done:
        assert names(out) == kept
    else:
        assert names(tmp_path) == []
    if done:
        assert names(out / "unfinished") == ["a--cam--1.png", "journal.jsonl"]


def test_the_same_call_goes_on(tmp_path: Path) -> None:
    interrupted(tmp_path, False, True)
    with Results(tmp_path, PLAN, False) as results:
        [chunk] = results.earlier
        assert (chunk["rows"], chunk["skipped"]) == ([{"file": "a"}], [{"file": "b"}])
        assert results.read("a--cam--1.png") == b"new"
        results.publish(report("a--cam--1.png"))
    assert names(tmp_path) == ["a--cam--1.png", "results.json"]


def test_another_call_does_not(tmp_path: Path) -> None:
    interrupted(tmp_path, False, True)
    message = "unfinished/journal.jsonl: belongs to a call that differs in method; give --overwrite to begin again"
    with pytest.raises(XaiError, match=re.escape(message)):
        Results(tmp_path, {"method": ["rise"]}, False)
    with Results(tmp_path, {"method": ["rise"]}, True) as results:
        assert results.earlier == []
        results.write("a--rise--1.png", b"")
        results.publish(report("a--rise--1.png"))
    assert names(tmp_path) == ["a--rise--1.png", "results.json"]


def test_two_calls_at_once(tmp_path: Path) -> None:
    with Results(tmp_path, PLAN, False) as first:
        first.write("a--cam--1.png", b"first")
        for overwrite in (False, True):
            with pytest.raises(XaiError, match="another call is writing there; wait for it"):
                Results(tmp_path, PLAN, overwrite)
        first.publish(report("a--cam--1.png"))
    assert (tmp_path / "a--cam--1.png").read_bytes() == b"first"


def test_a_call_that_begins_at_the_same_moment(tmp_path: Path) -> None:
    """Both have looked before either has written."""
    with Results(tmp_path, PLAN, False) as first, Results(tmp_path, PLAN, False) as second:
        first.write("a--cam--1.png", b"first")
        with pytest.raises(XaiError, match="another call is writing there"):
            second.write("a--cam--1.png", b"second")
        first.publish(report("a--cam--1.png"))
    assert (tmp_path / "a--cam--1.png").read_bytes() == b"first"


def test_a_call_that_began_before_another_ended(tmp_path: Path) -> None:
    """Both have looked before either has written, and the first has finished when the second begins."""
    with Results(tmp_path, PLAN, False) as second:
        with Results(tmp_path, PLAN, False) as first:
            first.write("a--cam--1.png", b"first")
            first.publish(report("a--cam--1.png"))
        with pytest.raises(XaiError, match=r"results\.json: exists"):
            second.write("a--cam--1.png", b"second")
    assert (tmp_path / "a--cam--1.png").read_bytes() == b"first"
    assert names(tmp_path) == ["a--cam--1.png", "results.json"]


def test_default_folders_of_two_calls_at_once(tmp_path: Path) -> None:
    one, two = (open_results(None, tmp_path, [name], PLAN, False) for name in ("cat.png", "cat.jpg"))
    with one, two:
        assert (one.out.name, two.out.name) == ("cat", "cat-2")
    assert names(tmp_path) == []


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_of_the_user_with_the_same_name(tmp_path: Path, overwrite: bool) -> None:
    """Nothing in it is deleted or moved, whether it was there before or the user has put files beside the journal."""
    folder = tmp_path / "unfinished"
    folder.mkdir()
    (folder / "photo.png").write_bytes(b"mine")
    with pytest.raises(XaiError, match="unfinished: holds no unfinished results, which would lie there; choose"):
        Results(tmp_path, PLAN, overwrite)
    (folder / "photo.png").unlink()
    with Results(tmp_path, PLAN, overwrite) as results:
        results.begin()
        (folder / "photo.png").write_bytes(b"mine")
        (folder / "more").mkdir()
    assert names(folder) == ["more", "photo.png"]
    (folder / "journal.jsonl").touch()
    with Results(tmp_path, PLAN, overwrite) as results:
        results.write("a--cam--1.png", b"new")
        results.publish(report("a--cam--1.png"))
    assert names(tmp_path) == ["a--cam--1.png", "results.json", "unfinished"]
    assert names(folder) == ["more", "photo.png"]


def test_killed_when_all_but_the_journal_had_moved(tmp_path: Path) -> None:
    """The same call with --overwrite takes what lies in the folder for its own; it does not delete it as earlier results."""

    def killed() -> None:
        with Results(tmp_path, PLAN, False) as results:
            for name in ("a--cam--1.png", "a--cam--1.npy"):
                results.write(name, b"a")
            results.done(0, [{"file": "a"}], [])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Results, "_remove_folder", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
                results.publish(report("a--cam--1.png"))

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert names(tmp_path) == ["a--cam--1.npy", "a--cam--1.png", "results.json", "unfinished"]
    with Results(tmp_path, PLAN, True) as results:
        assert results.read("a--cam--1.png") == b"a"
        results.publish(report("a--cam--1.png"))
    assert names(tmp_path) == ["a--cam--1.npy", "a--cam--1.png", "results.json"]


def test_a_page_of_another_command(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_bytes(b"mine")
    with pytest.raises(XaiError, match=r"report\.html: exists; choose another folder with -o, or give --overwrite"):
        Results(tmp_path, PLAN, False)
    interrupted(tmp_path, True, True)
    with Results(tmp_path, PLAN, False) as results:  # goes on with what --overwrite allowed
        assert len(results.earlier) == 1
    assert (tmp_path / "report.html").read_bytes() == b"mine"


def test_failure_while_moving(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "b--cam--1.png").mkdir(parents=True)  # in the way
    with Results(out, PLAN, False) as results:
        results.write("a--cam--1.png", b"a")
        results.write("b--cam--1.png", b"b")
        results.done(0, [{"file": "a"}, {"file": "b"}], [])
        with pytest.raises(OSError, match="directory"):
            results.publish(report("a--cam--1.png"))
    assert not (out / "results.json").exists()
    (out / "b--cam--1.png").rmdir()
    with Results(out, PLAN, False) as results:
        assert results.read("a--cam--1.png") == b"a"  # it had moved already
        results.publish(report("a--cam--1.png"))
    assert names(out) == ["a--cam--1.png", "b--cam--1.png", "results.json"]


def test_a_crafted_report_deletes_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "x--y.png").touch()
    (out / "mine.png").touch()
    evil = ["../x--y.png", str(tmp_path / "x--y.png"), "mine.png", "..", "", 3, None, "results.json/../mine.png"]
    (out / "results.json").write_bytes(report(*evil))
    with Results(out, PLAN, True) as results:
        results.publish(b"{}")
    assert (tmp_path / "x--y.png").exists()
    assert names(out) == ["mine.png", "results.json"]


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"images": 3, "contact_sheets": 4}', b"[" * 100_000])
def test_damaged_report(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "results.json").write_bytes(text)
    with Results(tmp_path, PLAN, True) as results:
        results.publish(b"{}")
    assert (tmp_path / "results.json").read_bytes() == b"{}"


def test_no_place_for_results(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "net.xai").mkdir()
    (tmp_path / "net.xai" / MANIFEST).touch()
    for out, message in {
        "file": "file: is a file; give a folder for the results",
        "file/below": "file: is a file; give a folder for the results",
        "net.xai": "net.xai: lies in a bundle, which results would spoil",
        "net.xai/maps/today": "net.xai/maps/today: lies in a bundle",
    }.items():
        with pytest.raises(XaiError, match=re.escape(message)):
            Results(tmp_path / out, PLAN, True)


def test_default_folders(tmp_path: Path) -> None:
    """After the first input, with a number for each further call; an interrupted call goes on."""

    def one(inputs: list[str], plan: dict[str, Any] = PLAN, stops: bool = False) -> str:
        with open_results(None, tmp_path, inputs, plan, False) as results:
            results.write("a--cam--1.png", b"")
            results.done(0, [{"file": "a"}], [])
            if not stops:
                results.publish(report("a--cam--1.png"))
        return results.out.name

    assert one(["some/cat.png"]) == "cat"
    assert one(["some/cat.png"]) == "cat-2"
    assert one(["some/cat.png", "b.png", "c.png"]) == "cat-and-2-more"
    assert one(["some/cat.png"], stops=True) == "cat-3"
    assert one(["some/cat.png"], {"method": ["rise"]}) == "cat-4"
    assert one([str(tmp_path)]) == tmp_path.name
    with open_results(None, tmp_path, ["some/cat.png"], PLAN, False) as results:
        assert results.out.name == "cat-3"
        assert len(results.earlier) == 1
