"""Contrasts written as text: where they are cut, and what a text of many cuts costs."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from xai_deploy.errors import TargetError
from xai_deploy.targets import ScoreSpace, read
from xai_deploy.targets.contrast import ContrastTarget

LABELS = ("cat", "dog vs wolf", "straße", "wolf", "ﬃ" * 4)
SPACE = ScoreSpace(5, LABELS)


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("cat vs wolf", (0, 3)),
        ("cat vs dog vs wolf", (0, 1)),
        ("Dog Vs Wolf VS cat", (1, 0)),
        ("STRASSE vs #3", (2, 3)),
        (" vs ".join(["ffi" * 4, "dog vs wolf"]), (4, 1)),
    ],
)
def test_cuts(text: str, sides: tuple[int, int]) -> None:
    [target] = read([text], 1, SPACE)
    assert isinstance(target, ContrastTarget)
    assert (target.target.tolist(), target.versus.tolist()) == ([sides[0]], [sides[1]])


def test_a_text_that_can_be_cut_in_two_ways() -> None:
    with pytest.raises(TargetError, match="can be read in 2 ways; give indices"):
        read(["a vs b vs c"], 1, ScoreSpace(4, ("a", "b vs c", "a vs b", "c")))


@pytest.mark.parametrize("end", ["", "x"])
def test_memory_grows_with_the_text_and_no_faster(end: str) -> None:
    text = "1" + " vs 1" * 4_000 + end  # all cuts together: 80 MB
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(TargetError, match=r"^no label"):
            read([text], 1, SPACE)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 5


@pytest.mark.parametrize("side", ["a" * 5000, "a\0b"], ids=["long", "with a NUL"])
def test_a_reference_whose_name_no_file_can_have(side: str) -> None:
    with pytest.raises(TargetError, match=r"is no file; two references are compared as 'like A vs like B'"):
        read([f"like {side} vs b"], 1, ScoreSpace(4, (), "vector"))
