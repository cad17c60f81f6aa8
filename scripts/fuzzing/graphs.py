"""Graphs of a bundle whose hashes fit, opened and run by a runtime. An input is a role, a line break and the graph's bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .explaining import METHODS, explain
from .material import bundle, changed_bundle
from .onnx_fields import mutate_file


def seeds() -> list[bytes]:
    """The small network's graphs."""
    return [f"{role}\n".encode() + (bundle() / f"{role}.onnx").read_bytes() for role in METHODS]


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Mostly fields of the graph, sometimes its bytes."""
    role, _, graph = data.partition(b"\n")
    return role + b"\n" + mutate_file(graph, [other.partition(b"\n")[2] for other in others], rng, 0.8)


def one(data: bytes, backend: str) -> None:
    """Open and run.

    Raises:
        XaiError: It is refused.
    """
    role, _, graph = data.partition(b"\n")
    name = role.decode("ascii", "replace")
    if name in METHODS:
        explain(changed_bundle({f"{name}.onnx": graph}), backend, [name])
