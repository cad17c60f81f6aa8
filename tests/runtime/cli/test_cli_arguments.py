"""How the command line's words are read, and how results are named."""

from __future__ import annotations

import os
import time
from pathlib import Path

from xai_deploy.cli.arguments import MethodRequest, parse_methods, unique_names


def test_parse_methods() -> None:
    assert parse_methods(
        ["cam, reciprocam:score=softmax:mask=pixel", "cam", "reciprocam:mask=pixel:score=softmax"]
    ) == [
        MethodRequest("cam"),
        MethodRequest("reciprocam", {"mask": "pixel", "score": "softmax"}),
    ]
    assert parse_methods(["a:b=c=d"])[0].title == "a+b=c=d"


def test_unique_names() -> None:
    paths = [Path(name) for name in ("a/x.png", "b/x.png", "x-2.png", "X.bmp", "y.z.png")]
    assert list(unique_names(paths).values()) == ["x", "x-2", "x-2-2", "X-3", "y.z"]


def test_names_of_results_hold_no_control_characters() -> None:
    paths = [Path(f"{name}.png") for name in ("a\nb", "\x1b]0;x\x07", "\u202egnp", "a_b", "caf\udce9")]
    assert list(unique_names(paths).values()) == ["a_b", "_]0;x_", "_gnp", "a_b-2", "caf\udce9"]


def test_time_for_names_grows_with_their_number_and_length_and_no_faster() -> None:
    seconds = []
    for count in (1_000, 4_000):
        paths = [Path(f"{i}/x.png") for i in range(count)]
        started = time.process_time()
        names = unique_names(paths)
        seconds.append(time.process_time() - started)
        assert names[paths[-1]] == f"x-{count}"
    assert seconds[1] < 8 * seconds[0] + 0.1
    started = time.process_time()
    assert unique_names([Path("x" * 60_000 + ".png")]) == {Path("x" * 60_000 + ".png"): "x" * 100}
    assert time.process_time() - started < 0.2


def test_names_are_cut_by_bytes() -> None:
    for letter in ("x", "猫", "\udce9"):
        name = unique_names([Path(f"{letter * 80}.png")])[Path(f"{letter * 80}.png")]
        assert set(name) == {letter}
        assert len(os.fsencode(name)) <= 100
