"""A bundle that is replaced, and a server that is stopped, while clients ask: is a request lost?"""

from __future__ import annotations

import asyncio
import collections
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .program import Client, Program, Reply, photo
from .rounds import place

CLIENTS = 16


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
