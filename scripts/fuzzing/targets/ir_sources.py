"""OpenVINO IR: the graph's XML is changed, the weights stay."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from xai_deploy.foundation import runtimes

from ..material import network
from ..mutations import mutate_bytes
from ..reading import place, read

_NUMBER = re.compile(rb'(?<=")-?[0-9]+(?=[",])')
_VALUES = (b"0", b"-1", b"1", b"2", b"7", b"65536", b"2147483647", b"-9223372036854775808", b"99999999999999999999")


def seeds() -> list[bytes]:
    """The small network of other targets, converted by OpenVINO."""
    ov, folder = runtimes.openvino(), place("ir")
    (folder / "net.onnx").write_bytes(network().SerializeToString())
    ov.save_model(ov.convert_model(folder / "net.onnx"), folder / "net.xml", compress_to_fp16=False)
    return [(folder / "net.xml").read_bytes()]


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Mostly a number in an attribute; sometimes bytes."""
    places = list(_NUMBER.finditer(data))
    if rng.random() < 0.3 or not places:
        return mutate_bytes(data, others, rng)
    for _ in range(rng.choice((1, 1, 2))):
        number = rng.choice(places)
        data = data[: number.start()] + rng.choice(_VALUES) + data[number.end() :]
        places = list(_NUMBER.finditer(data))
    return data


def one(data: bytes) -> None:
    """Read the file.

    Raises:
        XaiError: It is refused.
    """
    read(place("ir") / "net.xml", data)
