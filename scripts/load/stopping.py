"""A bundle that is replaced, and a server that is stopped, while clients ask: is a request lost?"""

from __future__ import annotations

import asyncio
import collections
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .program import Client, Program, Reply, photo
from .rounds import place

CLIENTS = 16
PERIOD = 4.0  # seconds from one replacement to the next


def replace(arguments: Sequence[str], bundle: Path, method: str) -> None:
    """Print what becomes of requests while SIGHUP opens the bundle again, three times."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / bundle.name
        shutil.copytree(bundle, own)
        with Program(str(own), *arguments[1:]) as program:
            replies = asyncio.run(_meanwhile(program, method, lambda: program.process.send_signal(signal.SIGHUP), 3))
            said = collections.Counter(reply.status for reply in replies)
            print(
                f"- bundle opened again three times, {CLIENTS} clients: {dict(said)}, memory {program.resident():.0f} MB"
            )


def swaps(arguments: Sequence[str], bundle: Path, method: str, times: int, every: float) -> bool:
    """Print what becomes of requests that come one by one, below what the server can do, while the bundle is replaced.

    Args:
        arguments: Of xai-serve.
        bundle: The bundle.
        method: What the clients ask for.
        times: How often SIGHUP opens the bundle again.
        every: Seconds between two requests. They are sent whether or not those before them are answered.

    Returns:
        Whether every request was answered.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / bundle.name
        shutil.copytree(bundle, own)
        with Program(str(own), *arguments[1:]) as program:
            replies = asyncio.run(_one_by_one(program, method, times, every))
    said = collections.Counter((reply.status, re.sub(r"[\d.]+", "N", reply.said)) for reply in replies)
    seconds = sorted(reply.seconds for reply in replies if reply.status == 200)
    print(f"- bundle opened again {times} times, a request every {every:g} s:")
    for (status, line), count in said.most_common():
        print(f"  - {count} x {status} {line}")
    if seconds:
        print(f"  - answered after {seconds[len(seconds) // 2]:.2f} s (median), {seconds[-1]:.2f} s (slowest)")
    return all(reply.status == 200 for reply in replies)


async def _one_by_one(program: Program, method: str, times: int, every: float) -> list[Reply]:
    where, body = f"{place(program, 'explain')}?method={method}", photo()
    replies: list[asyncio.Task[Reply]] = []

    async def one() -> Reply:
        client = Client(program.port)
        try:
            return await client.ask(where, body)
        finally:
            client.close()

    for _ in range(times):
        for number in range(max(1, round(PERIOD / every))):
            if number == 0:
                program.process.send_signal(signal.SIGHUP)
            replies.append(asyncio.create_task(one()))
            await asyncio.sleep(every)
    return await asyncio.gather(*replies)


async def _meanwhile(program: Program, method: str, signalled: object, times: int) -> list[Reply]:
    from .program import all_ask

    where = f"{place(program, 'explain')}?method={method}"
    asking = asyncio.create_task(all_ask(program.port, CLIENTS, where, photo(), 5.0 * times))
    for _ in range(times):
        await asyncio.sleep(2)
        assert callable(signalled)
        signalled()
        await asyncio.sleep(2)
    return await asking


def stop(arguments: Sequence[str], method: str) -> None:
    """Print what becomes of requests when SIGTERM comes; clients end when the server closes their connection."""
    total: collections.Counter[int] = collections.Counter()
    for _ in range(3):
        with Program(*arguments, "--drain", "1") as program:
            total += collections.Counter(reply.status for reply in asyncio.run(_until_it_ends(program, method)))
    lost = total.pop(-1, 0)
    print(f"- SIGTERM three times, {CLIENTS} clients: {dict(total)}; sent and not answered: {lost}\n")


async def _until_it_ends(program: Program, method: str) -> list[Reply]:
    where, body = f"{place(program, 'explain')}?method={method}", photo()
    replies: list[Reply] = []
    until = time.perf_counter() + 30

    async def one() -> None:
        client = Client(program.port)
        while time.perf_counter() < until:
            reply = await client.ask(where, body)
            replies.append(reply)
            if reply.last or reply.status == 0:
                client.close()
                return

    asking = asyncio.gather(*(one() for _ in range(CLIENTS)))
    await asyncio.sleep(2)
    program.process.send_signal(signal.SIGTERM)
    await asking
    return replies
