"""A SavedModel whose weights lie in its folder `variables`: the graph, the weights' index, and their numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..formats import Net, tensorflow
from ..formats.checkpoint import checkpoint
from ..mutations import mutate_bytes
from ..reading import place, read

_PARTS = b"\nbeside it:\n"


def seeds() -> list[bytes]:
    """A small network."""
    net = Net.drawn()
    index, numbers = checkpoint({"filters": net.filters, "matrix": net.matrix})
    return [_PARTS.join((tensorflow.saved_model(net, variables=True), index, numbers))]


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Mostly the index; sometimes the numbers or the graph."""
    parts = data.split(_PARTS)
    which = rng.choice((1, 1, 1, 1, 2, 0))
    parts[which] = mutate_bytes(parts[which], [other.split(_PARTS)[which] for other in others], rng)
    return _PARTS.join(parts)


def one(data: bytes) -> None:
    """Read the folder.

    Raises:
        XaiError: It is refused.
    """
    graph, index, numbers = (*data.split(_PARTS), b"", b"")[:3]
    beside = place("tensorflow-variables") / "variables"
    beside.mkdir(exist_ok=True)
    (beside / "variables.index").write_bytes(index)
    (beside / "variables.data-00000-of-00001").write_bytes(numbers)
    read(beside.parent / "saved_model.pb", graph)
