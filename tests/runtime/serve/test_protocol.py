"""HTTP for strangers: heads, bodies and connections as a client may send them, over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
import time
from typing import Any

import pytest
import uvicorn

import xai_deploy
from xai_deploy import serve
from xai_deploy.cli.serve import _OnceAMinute
from xai_deploy.serve import protocol, server

from ..conftest import Bundles
from .program import BODY, Program, ask


def test_a_client_that_closes_its_half_is_answered(program: Program) -> None:
    """After its request, alone or behind another one; in the middle of one there is nothing to answer."""
    request = f"POST /v1/models/net:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode()
    for sent, answers in ((request, 1), (2 * request, 2), (request[:-1], 0), (request + request[:30], 1)):
        with socket.create_connection(("127.0.0.1", program.port), timeout=60) as client:
            client.sendall(sent)
            if sent == request + request[:30]:  # the answer is there before the half is closed
                assert client.recv(100)
            client.shutdown(socket.SHUT_WR)
            began, told = time.monotonic(), b""
            while part := client.recv(65536):
                told += part
        assert time.monotonic() - began < 20, "the server closes the connection when it has answered"
        if sent != request + request[:30]:
            assert told.count(b"HTTP/1.1 200 OK") == answers


def test_a_head_that_does_not_come(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a whole head is closed, and one whose request runs longer than that is answered first.

    A head is refused from 64 KiB on, in one field or in many, first or behind another request: uvicorn kept all that came.
    """
    monkeypatch.setattr(protocol, "SLOW", 0.3)
    path = bundles("residual", gradients=True).path
    models = serve.Models({"net": path}, xai_deploy.Explainer, lambda _: {"grad-cam": {}}, serve.Limits())

    def slow(one: serve.Served) -> None:
        time.sleep(1)

    async def told(port: int, sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(20):
            said = await reader.read()
        writer.close()
        return said

    async def flood(port: int, before: bytes, field: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(before + b"GET / HTTP/1.1\r\nHost: x\r\nx: ")
        sent = 0
        with contextlib.suppress(ConnectionError):  # reset while it is sent
            while sent < 20_000_000:
                writer.write(field)
                await writer.drain()
                sent += len(field)
        said = b""
        with contextlib.suppress(ConnectionError):
            said = await reader.read()
        writer.close()
        assert sent < 20_000_000
        return said

    async def main() -> list[bytes]:
        ready = asyncio.get_running_loop().create_future()
        one = server.Server(
            serve.Service(models, serve.Limits(), slow), serve.Listening(port=0), lambda http, _: ready.set_result(http)
        )
        running = asyncio.create_task(one.run())
        request = (
            f"POST /v1/models/net:explain HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode()
        )
        sent = (b"", b"GET / HTTP/1.1\r\nhost", request + b"GET / HTTP/1.1\r\nhost")
        found = [await told(await ready, part) for part in sent]
        for before in (b"", request):
            for field in (b"y" * 10_000, b"x: y\r\n" * 1000):
                said = await flood(await ready, before, field)
                assert said.count(b"HTTP/1.1") <= 1 + bool(before)
                assert b"larger than 65536 bytes" in said or not said.endswith(b"}"), "a reset may take the line away"
        one.stop()
        await running
        return found

    nothing, half, answered = asyncio.run(main())
    assert (nothing, half) == (b"", b"")
    assert answered.startswith(b"HTTP/1.1 200")
    assert answered.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("asked", [1, 3], ids=["one", "behind each other"])
def test_an_answer_that_is_not_taken(asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection ends after the time that a request has, too: a client that never reads held its answer for ever.

    One that has read the answer in parts, with rests between them, gets all of it.
    """
    monkeypatch.setattr(protocol, "SLOW", 1.0)
    answer = b"x" * (16 << 20)  # more than the system keeps for a socket

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
        )
        await send({"type": "http.response.body", "body": answer})

    async def main() -> tuple[int, int]:
        sock = server._bound("127.0.0.1", 0)
        one = uvicorn.Server(uvicorn.Config(app, http=protocol.Protocol, log_config=None, lifespan="off"))
        one.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
        running = asyncio.create_task(one.serve(sockets=[sock]))
        where = sock.getsockname()
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * asked)
        await reader.readuntil(b"\r\n\r\n")
        taken = 0
        for _ in range(4):
            taken += len(await reader.readexactly(len(answer) // 4))
            await asyncio.sleep(0.1)
        writer.close()
        with socket.create_connection(where) as deaf:
            deaf.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * asked)
            await asyncio.sleep(0.5)
            held = len(one.server_state.connections)
            async with asyncio.timeout(20):
                while one.server_state.connections:
                    await asyncio.sleep(0.05)
        one.should_exit = True
        await running
        return taken, held

    assert asyncio.run(main()) == (len(answer), 1)


def test_more_connections_than_files(bundles: Bundles) -> None:
    """Half of the files that the process may open are for connections; the others are closed.

    asyncio takes all that wait before it tells, so files may run out for a moment: that is said in a line, once a minute.
    The log grew by a quarter of a megabyte a second while more connections came than there were files.
    """
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    one = Program(f"net={bundles('residual', gradients=True).path}", "-m", "grad-cam")
    resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (160, limits[1]))
    open_ones = []
    for _ in range(200):
        client = socket.create_connection(("127.0.0.1", one.port), timeout=20)
        open_ones.append(client)
    closed = 0
    for client in open_ones[80:]:
        client.settimeout(10)
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
        closed += 1
    assert closed == 120
    for client in open_ones:
        client.close()
    assert ask(one.port)[0] == 200
    said = one.stop().splitlines()
    assert len(said) <= 2
    assert all(line.startswith("xai-serve: error: ") for line in said)


def test_what_a_library_says_again_and_again() -> None:
    """Once a minute, in a line: the first of the text, without a traceback."""
    seldom = _OnceAMinute()

    def passes(text: str) -> bool:
        record = logging.LogRecord("asyncio", logging.ERROR, "", 0, text, None, (OSError, OSError(24), None))
        new = seldom.filter(record)
        assert (record.getMessage(), record.exc_info) == (text.partition("\n")[0], None)
        return new

    assert [passes(f"no file is left\nsocket: {number}") for number in range(3)] == [True, False, False]
    assert passes("something else")


def test_who_sends_too_much_is_told(program: Program) -> None:
    """A client that has sent all of its body before it listens gets the answer; one that asks first sends nothing."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", program.port, timeout=60)) as connection:
        connection.request("POST", "/v1/models/net:predict", b" " * (40 << 20))
        reply = connection.getresponse()
        assert (reply.status, b"larger than 16777216 bytes" in reply.read()) == (413, True)
    head = "POST /v1/models/net:predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 40000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", program.port), timeout=60) as client:
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_garbage(program: Program) -> None:
    """uvicorn's own loggers have no handler: its line came bare. A head that comes in one read was not bounded."""
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", program.port), timeout=10) as strange:
            strange.sendall(b"\x16\x03\x01\r\n\r\n")
            assert strange.recv(100).startswith(b"HTTP/1.1 400 ")
    start, end = b"POST /v1/models/net:predict HTTP/1.1\r\nhost: x\r\n", b"\r\n\r\n"
    parts = b"transfer-encoding: chunked\r\n\r\n" + f"{len(BODY):x}\r\n{BODY}\r\n0\r\n".encode()
    for whole, status in (
        (start + b"x: " + b"y" * 60_000 + end, 400),  # read, and its body is missing
        (start + b"x: " + b"y" * 70_000 + end, 0),
        (start + b"x: y\r\n" * 14_000 + end, 0),
        (b"GET /?" + b"y" * 70_000 + b" HTTP/1.1\r\nhost: x" + end, 0),
        (start + parts + b"x: " + b"y" * 70_000 + end, 0),  # behind the body
    ):
        with socket.create_connection(("127.0.0.1", program.port), timeout=10) as strange:
            strange.sendall(whole)
            said = strange.recv(2000)
            assert (b"larger than 65536 bytes" in said) == (status == 0), said
    assert program.stop() == "xai-serve: warning: Invalid HTTP request received.\n"


def test_small_packets_are_not_delayed() -> None:
    """A listening socket without a protocol would let asyncio leave Nagle's algorithm on: 40 ms for each answer."""

    async def accepted() -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            told.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        sock = server._bound("127.0.0.1", 0)
        async with await asyncio.start_server(connected, sock=sock):
            with socket.create_connection(sock.getsockname()):
                return await told

    assert asyncio.run(accepted()) != 0
