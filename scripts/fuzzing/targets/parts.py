"""Lists of a graph's parts, in a bundle whose hashes fit: read, put together, explained from."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import replace

from xai_deploy.format.bundle import MANIFEST, FileRecord, file_records, parse_manifest

from ..explaining import explain
from ..material import bundle, copied_bundle
from ..mutations import mutate_bytes

_NUMBERS = (b"0", b"1", b"4096", b"2147483648", b"999999999999999", b"9999999999999999", b"-1", b"00", b"")
_FILES = (b"head.onnx", b"tail.onnx", b"gradient.parts", b"manifest.json", b"labels.txt", b"../head.onnx", b".", b"")


def seeds() -> list[bytes]:
    """Lists of several parts and of none, with all that the gradient's ONNX file holds between them."""
    graph = (bundle() / "gradient.onnx").read_bytes()
    tail = (bundle() / "tail.onnx").read_bytes()
    length = next(n for n in range(256, 0, -1) if tail.find(graph[-n:]) >= 0 or n == 1)
    lines = f"{len(graph) - length} tail.onnx {max(tail.find(graph[-length:]), 0)} {length}\n".encode()
    return [b"\n" + graph, lines + b"\n" + graph[:-length], b"0 head.onnx 0 64\n8 tail.onnx 9 64\n\n" + graph]


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Mostly words and lines of the list; sometimes any bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(data, others, rng)
    head, _, own = data.partition(b"\n\n")
    lines = head.split(b"\n")
    line = rng.randrange(len(lines))
    words = lines[line].split(b" ")
    word = rng.randrange(len(words))
    words[word] = rng.choice(_FILES if re.search(rb"[a-z]", words[word]) else _NUMBERS)
    lines[line] = b" ".join(words)
    if rng.random() < 0.3:
        lines = lines * rng.choice((2, 3, 1000))
    return b"\n".join(lines) + b"\n\n" + own[: rng.choice((len(own), len(own) - 1, 0))]


def one(data: bytes) -> None:
    """Open a bundle whose gradient has these parts, and explain by it.

    Raises:
        XaiError: It is refused.
    """
    place = copied_bundle("parts")
    manifest = parse_manifest((bundle() / MANIFEST).read_bytes())
    gradient = manifest.graphs["gradient"]
    graph = (bundle() / gradient.file).read_bytes()
    # Half of all lists are said to make up as many bytes as they do, if that can be told: the sizes alone would refuse the others.
    found = re.findall(rb"(?m)^[0-9]{1,15} [^ ]* [0-9]{1,15} ([0-9]{1,15})$", data.partition(b"\n\n")[0])
    size = len(data.partition(b"\n\n")[2]) + sum(map(int, found)) if data[-1:] > b"\x7f" else len(graph)
    whole = FileRecord(hashlib.sha256(graph).hexdigest(), size)
    graphs = manifest.graphs | {"gradient": replace(gradient, file="gradient.parts", whole=whole)}
    files = manifest.files | file_records({"gradient.parts": data})
    (place / "gradient.parts").write_bytes(data)
    (place / MANIFEST).write_bytes(replace(manifest, graphs=graphs, files=files, requires=("parts",)).to_bytes())
    explain(place, "onnxruntime", ["gradient"])
