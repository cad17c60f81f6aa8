"""PaddlePaddle's programs and weights: an input is both, with the program's length before it."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from ..formats import Net, paddle
from ..mutations import mutate_bytes
from ..reading import place, read


def seeds() -> list[bytes]:
    """A small network."""
    program = paddle.program(Net.drawn())
    return [struct.pack("<I", len(program)) + program + paddle.weights(Net.drawn())]


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Bytes of the program, or of the weights."""
    program, weights = _parts(data)
    if rng.random() < 0.7:
        program = mutate_bytes(program, [_parts(other)[0] for other in others], rng)
    else:
        weights = mutate_bytes(weights, [_parts(other)[1] for other in others], rng)
    return struct.pack("<I", len(program)) + program + weights


def one(data: bytes) -> None:
    """Read the files.

    Raises:
        XaiError: They are refused.
    """
    program, weights = _parts(data)
    folder = place("paddle")
    (folder / "net.pdiparams").write_bytes(weights)
    read(folder / "net.pdmodel", program)


def _parts(data: bytes) -> tuple[bytes, bytes]:
    end = 4 + int.from_bytes(data[:4], "little")
    return data[4:end], data[end:]
