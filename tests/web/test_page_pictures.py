"""Where the page gets its pictures: dropped, chosen, photographed; and what it says of files that are none."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import numpy as np
import pytest

from .opened import Opened

pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
from playwright.sync_api import expect


def test_dropped_and_photographed_pictures(opened: Opened, sample: Path) -> None:
    page = opened.ready()
    page.evaluate(_WATCH_THE_ADDRESSES)
    bytes_ = base64.b64encode(sample.read_bytes()).decode()
    transfer = page.evaluate_handle(
        """(text) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], "three.png", { type: "image/png" }));
          return transfer;
        }""",
        bytes_,
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    found = opened.last()
    assert found["predicted"] == 3
    assert page.evaluate("[made.length, held.size]") == [2, 0]  # the picture's and the worker's are given back
    page.dispatch_event("body", "drop", {"dataTransfer": page.evaluate_handle("new DataTransfer()")})
    expect(page.get_by_role("alert")).to_have_text("That is no file. Drop a picture's file, or choose one.")

    camera = page.get_by_role("button", name="Use the camera")
    camera.click()
    expect(page.get_by_role("button", name="Take the picture")).to_be_focused()
    assert camera.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    expect(page.locator("#viewfinder")).to_be_hidden()
    expect(camera).to_be_focused()
    camera.click()
    page.get_by_role("button", name="Take the picture").click()
    again = opened.last(found["count"])
    assert again["map"] != found["map"]
    assert page.locator("#video").evaluate("video => video.srcObject") is None  # the camera is off


_WATCH_THE_CAMERA = """() => {
  window.tracks = [];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (what) => {
    const stream = await ask(what);
    tracks.push(...stream.getTracks());
    return stream;
  };
}"""


def test_the_camera_never_stays_on(opened: Opened) -> None:
    """A double click asks once; what can't be played is turned off."""
    page = opened.ready()
    page.evaluate(_WATCH_THE_CAMERA)
    camera = page.get_by_role("button", name="Use the camera")
    camera.evaluate("button => { button.click(); button.click(); }")
    expect(page.get_by_role("button", name="Take the picture")).to_be_focused()
    expect(page.locator("#empty")).to_be_hidden()  # the camera's picture takes its place
    expect(page.get_by_role("alert")).to_be_empty()
    page.get_by_role("button", name="Close the camera").click()
    assert page.evaluate("tracks.map(({ readyState }) => readyState)") == ["ended"]

    page.evaluate("() => { HTMLMediaElement.prototype.play = async () => { throw new Error('no decoder'); }; }")
    camera.click()
    expect(page.get_by_role("alert")).to_contain_text("The camera can't be used (no decoder).")
    expect(page.locator("#viewfinder")).to_be_hidden()
    assert page.evaluate("tracks.map(({ readyState }) => readyState)") == ["ended", "ended"]


# Decoding of "late.png" ends only when told
_HOLD_ONE_BACK = """() => {
  const decode = createImageBitmap;
  window.createImageBitmap = async (source, how) => {
    if (source.name === "late.png") await new Promise((resolve) => { window.release = resolve; });
    return decode(source, how);
  };
}"""


_NO_FILE_WHILE_BUSY = """() => {
  for (let i = 0; i < 2; i++) document.getElementById("method").dispatchEvent(new Event("change"));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: new DataTransfer() }));
}"""


def test_the_picture_chosen_last_counts(opened: Opened, sample: Path, photograph: Path, tmp_path: Path) -> None:
    page = opened.ready()
    page.evaluate(_HOLD_ONE_BACK)
    choose = page.get_by_label("Choose a picture").set_input_files
    late = tmp_path / "late.png"
    shutil.copy(sample, late)
    (tmp_path / "notes.txt").write_text("hello")

    def release() -> None:
        page.evaluate("async () => { release(); await new Promise((resolve) => setTimeout(resolve, 200)); }")

    choose(late)
    expect(page.get_by_role("status")).to_have_text("Reading the picture.")
    choose(photograph)
    count = opened.last()["count"]
    shown = opened.pixels()
    release()
    assert opened.last()["count"] == count
    np.testing.assert_array_equal(opened.pixels(), shown)

    choose(late)
    expect(page.get_by_role("status")).to_have_text("Reading the picture.")
    choose(tmp_path / "notes.txt")
    expect(page.get_by_role("alert")).to_contain_text("“notes.txt” is not a picture")
    release()
    expect(page.get_by_role("alert")).to_contain_text("“notes.txt” is not a picture")
    assert opened.last()["count"] == count

    late.write_bytes(sample.read_bytes()[:-500])  # what is wrong with it is of no interest any more
    choose(late)
    expect(page.get_by_role("status")).to_have_text("Reading the picture.")
    choose(sample)
    count = opened.last(count)["count"]
    release()
    expect(page.get_by_role("alert")).to_be_empty()

    page.evaluate(_NO_FILE_WHILE_BUSY)
    opened.last(count + 1)
    expect(page.get_by_role("alert")).to_contain_text("That is no file.")


def test_without_a_camera(opened: Opened) -> None:
    page = opened.ready()
    for name, told in {"NotFoundError": "No camera was found", "NotAllowedError": "The camera was not allowed"}.items():
        page.evaluate(
            "(name) => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', name); }; }",
            name,
        )
        page.get_by_role("button", name="Use the camera").click()
        expect(page.get_by_role("alert")).to_contain_text(told)
        expect(page.locator("#viewfinder")).to_be_hidden()


def test_wrong_files(opened: Opened, sample: Path, photograph: Path, tmp_path: Path) -> None:
    from PIL import Image

    whole = sample.read_bytes()
    Image.new("1", (12_000, 9_000)).save(tmp_path / "huge.png")
    with Image.open(sample) as image:
        opaque = image.convert("RGBA")
    opaque.save(tmp_path / "opaque.png")
    opaque.paste((255, 0, 0, 0), (0, 0, opaque.width // 2, opaque.height))
    opaque.save(tmp_path / "half.png")
    wrong = {
        "notes.txt": (b"hello", "“notes.txt” is not a picture that this browser can read (it is text/plain)."),
        "notes.png": (b"hello", "“notes.png” is not a picture that this browser can read."),
        "empty.png": (b"", "“empty.png” is empty."),
        "cut.png": (whole[: len(whole) // 2], "“cut.png” can't be decoded: it is cut off or damaged"),
        "cut.jpg": (photograph.read_bytes()[:-3000], "“cut.jpg” can't be decoded: it is cut off or damaged"),
        "huge.png": (
            (tmp_path / "huge.png").read_bytes(),
            "“huge.png” has 12000 x 9000 pixels, more than the page can take.",
        ),
        "half.png": (
            (tmp_path / "half.png").read_bytes(),
            "“half.png” is transparent in places; a browser loses the colours there. Save it without transparency.",
        ),
    }
    page = opened.ready()
    for name, (data, message) in wrong.items():
        (tmp_path / name).write_bytes(data)
        page.get_by_label("Choose a picture").set_input_files(tmp_path / name)
        expect(page.get_by_role("alert")).to_contain_text(message)
        expect(page.get_by_role("status")).to_have_text("No picture yet.")
    page.get_by_label("Choose a picture").set_input_files(tmp_path / "opaque.png")
    assert opened.last()["predicted"] == 3
    expect(page.get_by_role("alert")).to_be_empty()


_WATCH_THE_ADDRESSES = """() => {
  [window.made, window.held] = [[], new Set()];
  const [make, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
  URL.createObjectURL = (blob) => {
    const url = make.call(URL, blob);
    made.push(url);
    held.add(url);
    return url;
  };
  URL.revokeObjectURL = (url) => {
    held.delete(url);
    revoke.call(URL, url);
  };
}"""
