"""Malformed requests: whether a server answers any of them with 5xx, and whether its memory grows.

Four kinds, in equal shares: broken image files, JSON that is nearly right, tensors of V2 that contradict themselves, and bytes
of no meaning. The seed is fixed, so a run can be repeated.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import json
import random
import time
from typing import Any

import cv2
import numpy as np

from .program import Client, Program
from .rounds import place

CLIENTS = 8
_WORDS = (
    *(
        "instances",
        "parameters",
        "image",
        "b64",
        "target",
        "method",
        "options",
        "inputs",
        "outputs",
        "name",
        "shape",
        "datatype",
    ),
    *(
        "data",
        "explain",
        "grad-cam",
        "class",
        "where",
        "like",
        "not",
        "versus",
        "all",
        "predicted",
        "top3",
        "-1",
        "FP32",
        "BYTES",
    ),
    *("UINT8", "lime", "segments", "../../etc/passwd", "a\x00b", "\ud83d\ude00", "", "x" * 5000),
)


class Garbage:
    """Draws requests.

    Args:
        predict: The address of predictions.
        seed: Of the draws.
    """

    def __init__(self, predict: str, seed: int = 0) -> None:
        self._random = random.Random(seed)
        name = predict.removesuffix(":predict").rpartition("/")[2]
        self._v1 = (predict, f"/v1/models/{name}:explain")
        self._v2 = f"/v2/models/{name}/infer"
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        self._files = [
            bytes(cv2.imencode(end, pixels)[1]) for end in (".png", ".jpg", ".bmp", ".webp", ".tiff", ".gif")
        ]

    def draw(self) -> tuple[str, bytes]:
        """An address and a body."""
        kind = self._random.choice((self._file, self._nearly, self._tensor, self._bytes))
        return kind()

    def _file(self) -> tuple[str, bytes]:
        data = bytearray(self._random.choice(self._files))
        for _ in range(self._random.randint(1, 12)):
            data[self._random.randrange(min(len(data), 200))] = self._random.randrange(256)
        if self._random.random() < 0.3:
            del data[self._random.randrange(len(data)) :]
        where = self._random.choice(self._v1)
        if self._random.random() < 0.5:
            return where, bytes(data)
        written = {"instances": [{"b64": base64.b64encode(bytes(data)).decode()}]}
        return where, json.dumps(written).encode()

    def _tree(self, depth: int = 0) -> Any:
        draw = self._random.random()
        if depth > 4 or draw < 0.4:
            numbers = (0, -1, 1.5, 1e308, 2**63, -(2**70), True, None, 1e-320)
            return self._random.choice((*_WORDS, *numbers))
        several = range(self._random.randint(0, 4))
        if draw < 0.7:
            return [self._tree(depth + 1) for _ in several]
        return {self._random.choice(_WORDS): self._tree(depth + 1) for _ in several}

    def _nearly(self) -> tuple[str, bytes]:
        picture = {"b64": base64.b64encode(self._files[0]).decode()}
        written: dict[str, Any] = {"instances": [picture]}
        draw = self._random.random()
        if draw < 0.25:
            written["instances"] = self._tree()
        elif draw < 0.5:
            written["parameters"] = {
                self._random.choice(("target", "method", "options", "map", "timeout_ms")): self._tree()
            }
        elif draw < 0.75:
            written["instances"] = [{"image": picture, self._random.choice(("target", "inputs", "b64")): self._tree()}]
        else:
            written = self._tree()
        return self._random.choice(self._v1), json.dumps(written).encode("utf-8", "surrogatepass")

    def _tensor(self) -> tuple[str, bytes]:
        datatype = self._random.choice(("FP32", "FP16", "FP64", "UINT8", "INT64", "BOOL", "BYTES", "FP33"))
        shape: Any = [
            self._random.choice((1, 2, 3, 0, -1, 224, 10**9, 2**40)) for _ in range(self._random.randint(0, 5))
        ]
        data: Any = [
            self._random.choice((0, 1, 255, 256, 1e40, "a", None, [])) for _ in range(self._random.randint(0, 6))
        ]
        one = {"name": self._random.choice(("image", "input", "x")), "shape": shape, "datatype": datatype, "data": data}
        if self._random.random() < 0.3:
            one[self._random.choice(list(one))] = self._tree()
        written: dict[str, Any] = {"inputs": [one], "parameters": {"explain": True, "target": self._tree()}}
        if self._random.random() < 0.3:
            written[self._random.choice(("outputs", "id", "parameters", "inputs"))] = self._tree()
        return self._v2, json.dumps(written).encode("utf-8", "surrogatepass")

    def _bytes(self) -> tuple[str, bytes]:
        size = self._random.choice((0, 1, 7, 100, 3000))
        start = self._random.choice((b"", b"{", b"[", b'{"inputs": ', b"\xff\xd8\xff", b"[" * 5000))
        return self._random.choice((*self._v1, self._v2)), start + self._random.randbytes(size)


def send(program: Program, count: int, minutes: float = 0.0) -> None:
    """Send requests, and print their statuses and the memory in ten steps.

    Args:
        program: The server.
        count: How many.
        minutes: Over how long they are spread evenly; 0: one after the other.

    Raises:
        SystemExit: One was answered with 5xx, or not at all.
    """
    pause, started = 60 * minutes / 10, time.perf_counter()
    garbage, step = Garbage(place(program, "predict")), max(count // 10, 1)
    statuses: collections.Counter[int] = collections.Counter()
    memory = [program.resident()]

    async def some(share: int) -> None:
        client, began = Client(program.port), time.perf_counter()
        for i in range(share):
            await asyncio.sleep(began + i * pause / share - time.perf_counter())
            where, body = garbage.draw()
            reply = await client.ask(where, body)
            statuses[reply.status] += 1
            if reply.status >= 500 or reply.status < 1:
                raise SystemExit(f"{reply.status}: {where} {body[:2000]!r}")
        client.close()

    async def all_of() -> None:
        await asyncio.gather(*(some(step // CLIENTS) for _ in range(CLIENTS)))

    for _ in range(10):
        asyncio.run(all_of())
        memory.append(program.resident())
        print(f"{(time.perf_counter() - started) / 60:.1f} minutes: {memory[-1]:.0f} MB", flush=True)
    told = ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items()))
    print(
        f"{statuses.total()} malformed requests: {told}; memory {' '.join(f'{one:.0f}' for one in memory)} MB, "
        f"{program.resident(peak=True):.0f} MB at most"
    )
