"""Recordings: what is written is what is read, and nothing else is."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy.agreement import recording
from xai_deploy.agreement.compare import Explained
from xai_deploy.agreement.recording import RecordedMethod, Recording, RecordingHeader
from xai_deploy.errors import RecordingError
from xai_deploy.foundation.arrays import array_digest

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (4, 5 + i, 3), dtype=np.uint8) for i in range(3)]
NAMES = ("a.png", "b \udcff.png", "ç.jpg")
METHODS = {
    "cam": RecordedMethod("cam", {}),
    "reciprocam+score=softmax": RecordedMethod("reciprocam", {"score": "softmax"}),
}
HEADER = RecordingHeader(
    1, "net", "d1", "x on cpu, f32", METHODS, NAMES, tuple(array_digest(image) for image in IMAGES)
)


def array(*shape: int) -> NDArray[np.float32]:
    return RNG.random(shape, dtype=np.float32)


EXPLAINED = Explained(array(3, 2), array(3, 2), {title: array(3, 6, 7) for title in METHODS})


def save(path: Path) -> Path:
    Recording(HEADER, EXPLAINED).save(path)
    return path


def parts() -> dict[str, Any]:
    return {
        "header": np.frombuffer(json.dumps(asdict(HEADER)).encode(), np.uint8),
        "logits": EXPLAINED.logits,
        "probabilities": EXPLAINED.probabilities,
        "heatmaps-0": EXPLAINED.heatmaps["cam"],
        "heatmaps-1": EXPLAINED.heatmaps["reciprocam+score=softmax"],
    }


def header(**changes: Any) -> dict[str, Any]:
    return {"header": np.frombuffer(json.dumps(asdict(HEADER) | changes).encode(), np.uint8)}


def refused(path: Path) -> str:
    with pytest.raises(RecordingError) as caught:
        recording.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_round_trip(tmp_path: Path) -> None:
    read = recording.read(save(tmp_path / "r.npz"))
    assert read.header == HEADER
    assert list(read.explained.heatmaps) == list(METHODS)
    np.testing.assert_array_equal(read.explained.logits, EXPLAINED.logits)
    np.testing.assert_array_equal(read.explained.probabilities, EXPLAINED.probabilities)
    for title, heat in EXPLAINED.heatmaps.items():
        np.testing.assert_array_equal(read.explained.heatmaps[title], heat)


def test_rows_in_the_order_asked_for() -> None:
    rows = Recording(HEADER, EXPLAINED).rows([NAMES[2], NAMES[0]], [IMAGES[2], IMAGES[0]])
    np.testing.assert_array_equal(rows.logits, EXPLAINED.logits[[2, 0]])
    np.testing.assert_array_equal(rows.probabilities, EXPLAINED.probabilities[[2, 0]])
    for title, heat in EXPLAINED.heatmaps.items():
        np.testing.assert_array_equal(rows.heatmaps[title], heat[[2, 0]])


def test_other_images_are_refused() -> None:
    with pytest.raises(RecordingError, match=r"c\.png: not among the 3 images that were recorded; record it too"):
        Recording(HEADER, EXPLAINED).rows(["c.png"], IMAGES[:1])
    with pytest.raises(RecordingError, match=r"a\.png: its pixels differ from those recorded under this name"):
        Recording(HEADER, EXPLAINED).rows(["a.png"], IMAGES[1:2])


def test_the_digest_is_of_size_and_pixels() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    changed = image.copy()
    changed[1, 2, 2] = 1
    assert len({array_digest(each) for each in (image, image.reshape(3, 2, 3), changed)}) == 3
    assert array_digest(image[::-1]) == array_digest(image)


def test_chunks_are_joined_in_order() -> None:
    chunks = [
        Explained(
            EXPLAINED.logits[rows], EXPLAINED.probabilities[rows], {t: h[rows] for t, h in EXPLAINED.heatmaps.items()}
        )
        for rows in (slice(0, 2), slice(2, 3))
    ]
    whole = recording.joined(chunks)
    np.testing.assert_array_equal(whole.logits, EXPLAINED.logits)
    np.testing.assert_array_equal(whole.probabilities, EXPLAINED.probabilities)
    for title, heat in EXPLAINED.heatmaps.items():
        np.testing.assert_array_equal(whole.heatmaps[title], heat)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, share: float) -> None:
    path = save(tmp_path / "r.npz")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert ("is empty; record again" if share == 0 else "damaged; record again") in refused(path)


def test_any_damaged_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    """Nothing but a RecordingError leaves `read`, and what it lets pass is what was written."""
    path = save(tmp_path / "r.npz")
    data = path.read_bytes()
    caught = 0
    for place in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            read = recording.read(path)
        except RecordingError:
            caught += 1
        else:
            assert read.header == HEADER
            np.testing.assert_array_equal(read.explained.logits, EXPLAINED.logits)
    assert caught > 0.7 * len(data) / 3


def pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, **{**parts(), "logits": np.array([print], dtype=object)})
    return file.getvalue()


def bare_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def encrypted() -> bytes:
    file = io.BytesIO()
    np.savez(file, **parts())
    data = bytearray(file.getvalue())
    start = data.index(b"PK\x01\x02")
    data[start + 8] |= 1  # the flag in the directory
    data[6] |= 1  # and in the first member
    return bytes(data)


def lying() -> bytes:
    """An array whose header claims exabytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        claim = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 100000), }"
        claim += b" " * (-(len(claim) + 11) % 64) + b"\n"
        for name, value in parts().items():
            member = io.BytesIO()
            np.save(member, value)
            lie = b"\x93NUMPY\x01\x00" + len(claim).to_bytes(2, "little") + claim
            members.writestr(f"{name}.npy", lie if name == "logits" else member.getvalue())
    return file.getvalue()


def raw_member() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name, value in parts().items():
            member = io.BytesIO()
            np.save(member, value)
            members.writestr(
                name if name == "logits" else f"{name}.npy", b"abc" if name == "logits" else member.getvalue()
            )
    return file.getvalue()


def deep() -> bytes:
    file = io.BytesIO()
    np.savez(file, **{**parts(), "header": np.frombuffer(b"[" * 200_000, np.uint8)})
    return file.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"garbage" * 100,
        lambda: b"PK\x03\x04" + bytes(500),
        pickled,
        bare_array,
        encrypted,
        lying,
        raw_member,
        deep,
    ],
    ids=["garbage", "zip's magic", "pickled", "npy", "encrypted", "lying", "raw member", "deep"],
)
def test_no_recording(tmp_path: Path, make: Callable[[], bytes]) -> None:
    path = tmp_path / "r.npz"
    path.write_bytes(make())
    message = "neither a bundle's folder nor a recording of xai-check --record, or damaged; record again"
    assert refused(path).endswith(message)


def test_pickles_are_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return print, ("run",)

    np.savez(tmp_path / "r.npz", **{**parts(), "header": np.array([Trap()], dtype=object)})
    refused(tmp_path / "r.npz")
    assert capsys.readouterr().out == ""


def test_what_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged by the directory, before anything is unpacked."""
    bomb = tmp_path / "r.npz"
    np.savez_compressed(bomb, **{**parts(), "heatmaps-0": np.zeros((3, 1000, 1000), np.float32)})
    assert bomb.stat().st_size < 100_000
    monkeypatch.setattr(recording, "_LIMIT", 10_000_000)
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("unpacked"))
    assert "unpacks to more than" in refused(bomb)


@pytest.mark.parametrize("version", [2, 0, "1", None, True])
def test_another_format(tmp_path: Path, version: Any) -> None:
    """Told from damage, whatever else that format may hold."""
    np.savez(tmp_path / "r.npz", **header(format=version, new="key"))
    message = refused(tmp_path / "r.npz")
    expected = "record again" if version is True else f"format {version}; this version reads 1, record again"
    assert message.endswith(expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": ["a.png"]},
        {"pixels": list(HEADER.pixels[:2])},
        {"methods": {}},
    ],
    ids=["images", "pixels", "methods"],
)
def test_a_header_of_something_else(tmp_path: Path, changes: Any) -> None:
    np.savez(tmp_path / "r.npz", **{**parts(), **header(**changes)})
    assert refused(tmp_path / "r.npz").endswith("its parts do not fit together; record again")


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": {"cam": ["cam"]}},
        {"methods": {"cam": {"name": "cam", "options": "{}"}}},
        {"methods": {"a": asdict(METHODS["cam"]), "b": asdict(METHODS["cam"]), "c": asdict(METHODS["cam"])}},
        {"images": "abc"},
        {"images": None},
        {"extra": 1},
    ],
)
def test_a_header_that_is_none(tmp_path: Path, changes: Any) -> None:
    np.savez(tmp_path / "r.npz", **{**parts(), **header(**changes)})
    assert "or damaged" in refused(tmp_path / "r.npz")


@pytest.mark.parametrize(
    "changes",
    [
        {"logits": array(3)},
        {"logits": array(3, 0), "probabilities": array(3, 0)},
        {"logits": array(2, 2), "probabilities": array(2, 2)},
        {"logits": np.full((3, 2), np.nan, np.float32)},
        {"logits": np.zeros((3, 2))},
        {"logits": np.array([["a", "b"]] * 3)},
        {"probabilities": array(3, 3)},
        {"heatmaps-0": array(3, 6)},
        {"heatmaps-0": array(3, 0, 7)},
        {"heatmaps-0": np.full((3, 6, 7), np.inf, np.float32)},
        {"heatmaps-1": array(2, 6, 7)},
        {"heatmaps-1": np.zeros((3, 6, 7), np.complex64)},
    ],
)
def test_arrays_of_something_else(tmp_path: Path, changes: Any) -> None:
    np.savez(tmp_path / "r.npz", **{**parts(), **changes})
    assert refused(tmp_path / "r.npz").endswith("its parts do not fit together; record again")


@pytest.mark.parametrize("missing", ["header", "logits", "heatmaps-1"])
def test_a_part_is_missing(tmp_path: Path, missing: str) -> None:
    np.savez(tmp_path / "r.npz", **{name: value for name, value in parts().items() if name != missing})
    assert "or damaged" in refused(tmp_path / "r.npz")


def test_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "r.npz").endswith("no such file or folder")
    assert refused(tmp_path).endswith("not a plain file")


def test_saving_replaces_the_file_or_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "r.npz")
    before = path.read_bytes()
    written = replace(HEADER, network="other")
    Recording(written, EXPLAINED).save(path)
    assert recording.read(path).header == written
    path.write_bytes(before)

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        Recording(written, EXPLAINED).save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["r.npz"]
