"""Recorder.close in a signal handler: wherever it interrupts a call, the chain ends whole."""

from __future__ import annotations

import dis
import json
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from xai_deploy.errors import RecordsError
from xai_deploy.records import verify
from xai_deploy.records.chain import COUNT, Count
from xai_deploy.records.record import LINK
from xai_deploy.records.writer import Writer

from . import damage

TRACED = ("records/writer.py", "records/chain.py", "threading.py")
INTERRUPTED = (
    "RESUME",
    "CALL",
    "JUMP_BACKWARD",
    "BEFORE_WITH",
)  # the bytecodes after which CPython runs signal handlers


@cache
def places(code: CodeType) -> set[int]:
    """The offsets in a function at which a handler may run."""
    instructions = list(dis.get_instructions(code))
    return {after.offset for one, after in pairwise(instructions) if one.opname.startswith(INTERRUPTED)}


class Handler:
    """Closes a writer at the `at`-th place of its files, as a signal handler may that runs in this thread."""

    def __init__(self, writer: Writer, at: int) -> None:
        self.writer, self.at, self.seen = writer, at, 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Handler | None:
        if not frame.f_code.co_filename.endswith(TRACED):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in places(frame.f_code):
            self.seen += 1
            if self.seen == self.at:
                self.writer.close()
        return self


def put(writer: Writer, content: bytes) -> bool:
    """Whether the writer takes a record; if not, it says that it is closed."""
    try:
        writer.put(content)
    except RecordsError as error:
        said = str(error)
    else:
        return True
    assert said.endswith("this Recorder is closed; open another")
    return False


def accepted(writer: Writer, at: int, content: bytes) -> tuple[int, bool]:
    """How many of three records were accepted before the writer closed at a place, and whether it came to that."""
    handler, taken = Handler(writer, at), 0
    before = sys.gettrace()
    sys.settrace(handler)
    try:
        for _ in range(3):
            taken += put(writer, content)
        writer.close()
    finally:
        sys.settrace(before)
    return taken, handler.seen >= at


@pytest.mark.parametrize("durable", [False, True])
def test_close_at_each_place(tmp_path: Path, durable: bool) -> None:
    damage.write(tmp_path / "one", 1)
    line = json.loads(damage.lines_of(damage.files(tmp_path / "one")[0])[0])
    content = json.dumps({key: value for key, value in line.items() if key not in LINK}, separators=(",", ":")).encode()
    # How often a thread waits differs from run to run. So the last place is one after which many are not reached.
    at = last = 0
    while at < last + 60:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir()
        taken, reached = accepted(Writer(folder, durable, 1, 1 << 20, False, 1 << 20), at, content)
        last = at if reached else last
        assert [Count.read(path.read_bytes()) for path in folder.glob(f"*{COUNT}")] in ([], [Count(taken, 0, True)]), at
        if taken:
            [chain] = verify(folder).chains
            assert (chain.closed, chain.missing, chain.count) == (True, 0, taken), at
        assert len(damage.places(folder)) == taken
    assert last > 200
