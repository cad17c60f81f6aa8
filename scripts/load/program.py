"""xai-serve in a process of its own, and clients of it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np


def photo() -> bytes:
    """A JPEG of 224 x 224 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (14, 14, 3), dtype=np.uint8)
    encoded = cv2.imencode(".jpg", cv2.resize(noise, (224, 224), interpolation=cv2.INTER_CUBIC))[1]
    return bytes(encoded.tobytes())


class Program:
    """A server that is ready; it is stopped at the end of the `with` block.

    Attributes:
        process: The process.
        port: Where it listens.
        grpc: Where it listens for gRPC, if it does.
    """

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xai_deploy", "serve", *arguments, "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)(?:.*:(\d+))?$", line.strip())
        if found is None:
            raise SystemExit(f"xai-serve did not start: {line!r}")
        self.port = int(found[1])
        self.grpc = int(found[2]) if found[2] else None

    def resident(self, peak: bool = False) -> float:
        """Its memory in MB; `peak`: the most it ever was."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) * 1024 / 1e6

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait(120)
        assert self.process.stdout is not None
        self.process.stdout.close()


@dataclass(frozen=True)
class Reply:
    """What a request got.

    Attributes:
        status: Its status; 0: the connection was refused; -1: the request was sent, and the connection ended without an answer.
        seconds: From sending to the whole answer.
        last: The server closes the connection.
        said: The line of a refusal; "" of an answer.
    """

    status: int
    seconds: float
    last: bool = False
    said: str = ""


class Client:
    """One connection, opened again if the server closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, place: str, body: bytes) -> Reply:
        """POST a body."""
        started = time.perf_counter()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return Reply(0, time.perf_counter() - started)
        reader, writer = self._streams
        try:
            writer.write(f"POST {place} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            text = await reader.readexactly(int(length[1]) if length else 0)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return Reply(-1, time.perf_counter() - started, True)
        last = b"connection: close" in head.lower()
        if last:
            self.close()
        said = "" if status == 200 else text.decode("utf-8", "replace")[:300]
        return Reply(status, time.perf_counter() - started, last, said)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def all_ask(port: int, count: int, place: str, body: bytes, seconds: float, pause: float = 0.0) -> list[Reply]:
    """`count` clients that ask again as soon as they are answered, or `pause` seconds after a refusal."""
    until = time.perf_counter() + seconds
    replies: list[Reply] = []

    async def one() -> None:
        client = Client(port)
        while time.perf_counter() < until:
            reply = await client.ask(place, body)
            replies.append(reply)
            if reply.status != 200 and pause:
                await asyncio.sleep(pause)
        client.close()

    await asyncio.gather(*(one() for _ in range(count)))
    return replies
