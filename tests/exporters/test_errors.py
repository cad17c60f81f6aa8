"""One tree, drawn at the top of its file as it is."""

from __future__ import annotations

import inspect
import re

from xai_exporters import errors

from xai_deploy.errors import XaiError


def test_the_drawing_is_the_tree() -> None:
    classes = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and c.__module__ == errors.__name__}
    assert all(issubclass(c, XaiError) for c in classes.values())
    drawn: dict[str, str | None] = {}
    stack: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([│├└─ ]*)(\w+Error)\b", line):
            depth = len(match[1]) // 4
            stack[depth:] = [match[2]]
            drawn[match[2]] = stack[depth - 1] if depth else None
    assert drawn.keys() == classes.keys()
    for name, parent in drawn.items():
        assert classes[name].__bases__ == ((classes[parent],) if parent else (XaiError,))
