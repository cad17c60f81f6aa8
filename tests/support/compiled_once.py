"""A graph that OpenVINO has compiled for the check on every runtime, compiled once for all exports that write the same bytes.

Compiling takes 20 to 60 ms of processor time however small a graph is, a third of an export's; running it takes 1 ms, and is
done anew each time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LARGEST = 4 << 20
"""Bytes of a graph that is kept, at most."""
_KEPT = 64


def compile_once(everywhere: Any) -> None:
    """Let `everywhere._openvino` keep what it compiled last.

    The key is all that the result depends on: the graph's bytes, its name in messages, and the functions and the class that
    compile it, which a test may have replaced. What OpenVINO can't open is tried again.

    Args:
        everywhere: The module `xai_exporters.bundle.everywhere`.
    """
    kept: OrderedDict[Any, Callable[..., Any]] = OrderedDict()
    compiled = everywhere._openvino

    def opened(model: bytes | Path, what: str) -> Callable[..., Any]:
        content = model.read_bytes() if isinstance(model, Path) else model
        if len(content) > _LARGEST or b"location" in content:  # external data: the weights lie beside it
            return compiled(model, what)  # type: ignore[no-any-return]
        by = (everywhere.compiled, everywhere.compute_exactly, everywhere.has_one_thread, everywhere.needs_fixed_sizes)
        key = (hashlib.sha256(content).digest(), what, *by, everywhere.runtimes.openvino().Core)
        if key not in kept:
            kept[key] = compiled(model, what)
        kept.move_to_end(key)
        if len(kept) > _KEPT:
            kept.popitem(last=False)
        return kept[key]

    everywhere._openvino = opened
