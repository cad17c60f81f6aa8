"""Recordings whose arrays' headers are spoilt: refused in one line, whatever NumPy makes of them."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xai_deploy.agreement import recording
from xai_deploy.errors import RecordingError

from ...support.zips import changed
from .test_recording import refused, save

GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }"


def with_header(path: Path, text: bytes) -> None:
    """The recording with another npy header before the logits."""
    with zipfile.ZipFile(path) as members:
        contents = {name: members.read(name) for name in members.namelist()}
    magic = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
    contents["logits.npy"] = magic + text + np.zeros((3, 2), np.float32).tobytes()
    with zipfile.ZipFile(path, "w") as members:
        for name, data in contents.items():
            members.writestr(name, data)


def test_the_tool_writes_what_can_be_read(tmp_path: Path) -> None:
    path = save(tmp_path / "r.npz")
    with_header(path, (GOOD + "\n").encode())
    assert not recording.read(path).explained.logits.any()


def test_entries_that_overlap(tmp_path: Path) -> None:
    path = save(tmp_path / "r.npz")
    path.write_bytes(changed(path.read_bytes(), "logits.npy", larger=8))
    assert refused(path) == f"{path}: is an archive whose entries overlap ('probabilities.npy'); record again"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "(((((",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), ",
        GOOD.replace("(3, 2)", "(3, 1 << 60)"),
        GOOD.replace("(3, 2)", "(3, 1000000000000)"),
        GOOD.replace("(3, 2)", "(-3, -2)"),
        GOOD.replace("(3, 2)", "(3, 2.0)"),
        GOOD.replace("'<f4'", "'O'"),
        GOOD.replace("'<f4'", "'|V0'"),
        GOOD.replace("'<f4'", "[('a', '<f4'), ('a', '<f4')]"),
        GOOD.replace("False", "'\\ud800'"),
        "'" + "-" * 9000,
        "-" * 9000 + "1",
        "{'descr': __import__('os').system('echo ran'), 'fortran_order': False, 'shape': (3, 2)}",
    ],
)
def test_a_spoilt_header(tmp_path: Path, text: str) -> None:
    path = save(tmp_path / "r.npz")
    with_header(path, text.encode("utf-8", "backslashreplace"))
    assert "neither a bundle's folder nor a recording" in refused(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_header(tmp_path: Path, data: st.DataObject) -> None:
    path = save(tmp_path / "r.npz")
    place = data.draw(st.integers(0, len(GOOD)))
    text = GOOD[:place] + data.draw(st.text("()[]{}'\",: 0129<>f4|\\\n-", max_size=6)) + GOOD[place + 1 :]
    with_header(path, text.encode())
    with contextlib.suppress(RecordingError):
        recording.read(path)
