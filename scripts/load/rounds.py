"""Predictions and explanations in alternating rounds; and more clients than the server takes on."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Sequence

import numpy as np

from .program import Program, Reply, all_ask, photo


def place(program: Program, what: str) -> str:
    """The address of the only model."""
    import json
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{program.port}/v1/models") as reply:
        return f"/v1/models/{json.load(reply)['models'][0]}:{what}"


def table(program: Program, method: str, counts: Sequence[int], rounds: int, seconds: float) -> None:
    """Print a row for each number of clients."""
    asked = {"plain": place(program, "predict"), "explained": f"{place(program, 'explain')}?method={method}"}
    body = photo()
    print("| clients | plain /s | p50 | p99 | explained /s | p50 | p99 | ratio, median (all rounds) | memory |")
    print("|-|-|-|-|-|-|-|-|-|")
    for count in counts:
        rates: dict[str, list[float]] = {what: [] for what in asked}
        times: dict[str, list[float]] = {what: [] for what in asked}
        for _ in range(rounds):
            for what, where in asked.items():
                started = time.perf_counter()
                replies = asyncio.run(all_ask(program.port, count, where, body, seconds))
                wrong = [reply for reply in replies if reply.status != 200]
                if wrong:
                    raise SystemExit(f"{what}, {count} clients: {collections.Counter(reply.status for reply in wrong)}")
                rates[what].append(len(replies) / (time.perf_counter() - started))
                times[what] += [reply.seconds for reply in replies]
        cells = []
        for what in asked:
            p50, p99 = np.percentile(times[what], [50, 99]) * 1e3
            cells.append(f"{np.median(rates[what]):.1f} | {p50:.0f} ms | {p99:.0f} ms")
        ratios = [own / plain for plain, own in zip(rates["plain"], rates["explained"], strict=True)]
        every = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"| {count} | {' | '.join(cells)} | {np.median(ratios):.2f} ({every}) | {program.resident():.0f} MB |",
            flush=True,
        )
    print()


def overload(program: Program, method: str, clients: int, seconds: float) -> None:
    """Print what becomes of many more clients than requests are taken on; a refused client waits a tenth of a second."""
    where, body = f"{place(program, 'explain')}?method={method}", photo()
    before = program.resident()
    replies = asyncio.run(all_ask(program.port, clients, where, body, seconds, pause=0.1))
    after = program.resident()
    again = asyncio.run(all_ask(program.port, clients, where, body, seconds, pause=0.1))
    print(f"{clients} clients, 32 requests taken on, 5 s allowed, twice {seconds:g} s:\n")
    print(f"- answered: {_told([reply for reply in replies + again if reply.status == 200])}")
    print(f"- refused: {_told([reply for reply in replies + again if reply.status in (429, 503)])}")
    others = collections.Counter(reply.status for reply in replies + again if reply.status not in (200, 429, 503))
    late = sum(reply.status == 200 and reply.seconds > 5 for reply in replies + again)
    print(f"- anything else: {dict(others) or 'none'}; answered later than allowed: {late}")
    print(
        f"- memory: {before:.0f} MB before, {after:.0f} MB after, {program.resident():.0f} MB after the second time\n"
    )


def _told(replies: Sequence[Reply]) -> str:
    if not replies:
        return "none"
    p50, p99, most = np.percentile([reply.seconds for reply in replies], [50, 99, 100]) * 1e3
    after = sum(reply.seconds > 1 for reply in replies)
    return f"{len(replies)}, {after} of them after more than 1 s, p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {most:.0f} ms"
