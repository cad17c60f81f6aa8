"""What a server takes on: sizes, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
SLOW = 30.0
"""Seconds in which a request has to arrive."""


@dataclass(frozen=True)
class Limits:
    """What a server takes on.

    Attributes:
        requests: Requests under way at a time, from their headers to their answers.
        body: Bytes of a request.
        pixels: Pixels of an image, known from its header before anything is decoded.
        images: Images in a request.
        held: Bytes of decoded images, and of the maps of their answers, that wait or run.
        timeout: Seconds that a request may take if it does not ask for less.
        batch: Images that run together.
        batch_wait: Seconds that a request which could run waits for others that are being read.
        size_of_options: An option that is a number is at most this, or four times the server's own value if that is more.
    """

    requests: int = 64
    body: int = 16 * MIB
    pixels: int = 20_000_000
    images: int = 16
    held: int = 512 * MIB
    timeout: float = 30.0
    batch: int = 8
    batch_wait: float = 0.002
    size_of_options: int = 1000
