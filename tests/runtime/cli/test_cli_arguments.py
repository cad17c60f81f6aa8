"""How the command line's words are read, and how results are named."""

from __future__ import annotations

import os
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


def test_names_are_cut_by_bytes() -> None:
    for letter in ("x", "猫", "\udce9"):
        name = unique_names([Path(f"{letter * 80}.png")])[Path(f"{letter * 80}.png")]
        assert set(name) == {letter}
        assert len(os.fsencode(name)) <= 100
