"""Admission, deadlines, batches: what runs together, what is refused, and when."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from xai_deploy.serve import engine as module
from xai_deploy.serve.asked import Asked
from xai_deploy.serve.engine import Engine, Job, Ran
from xai_deploy.serve.limits import Limits
from xai_deploy.serve.refusals import Refusal
from xai_deploy.serve.versions import Costs
from xai_deploy.serve.work import Result

from .. import tiny
from .conftest import Start

X = tiny.inputs("residual", 4)


class Gate:
    """Stands for the network: a run waits until it is let through, and every batch is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.began = threading.Event(), threading.Event()
        self.batches: list[list[Asked]] = []
        self.wrong: Callable[[Asked], BaseException | None] = lambda asked: None
        monkeypatch.setattr(module, "run", self._run)

    def _run(self, requests: list[Asked], version: Any, alone: bool) -> list[Result]:
        self.batches.append(list(requests))
        self.began.set()
        assert self.open.wait(20)
        for asked in requests:
            if (error := self.wrong(asked)) is not None:
                raise error
        return [Result([[]] * len(asked.images), [()] * len(asked.images), {}) for asked in requests]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def asked(method: str | None = None, images: int = 1, timeout: float = 30.0, **options: Any) -> Asked:
    return Asked(list(X[:images]), method, options, [None] * images, [None] * images, None, [b""] * images, timeout)


def submit(engine: Engine, version: Any, one: Asked, alone: bool = False) -> Job:
    return engine.submit(one, version, alone, time.monotonic())


def started(start: Start, gate: Gate, **limits: Any) -> tuple[Engine, Any, Job, list[Ran]]:
    """An engine with one request in its run, which the gate holds."""
    running = start()
    ran: list[Ran] = []
    engine = Engine(Limits(**limits), ran.append)
    version = running.service.models.current("net")
    assert version is not None
    first = submit(engine, version, asked())
    assert gate.began.wait(20)
    return engine, version, first, ran


def test_what_waits_runs_together(start: Start, gate: Gate) -> None:
    """Same bundle, method and options; in the order of arrival; no more images than a batch holds."""
    engine, version, first, ran = started(start, gate, batch=3, batch_wait=0)
    wanted = [
        asked("grad-cam"),
        asked("reciprocam"),
        asked("grad-cam", images=2),
        asked("grad-cam"),
        asked("lime", samples=5),
    ]
    jobs = [submit(engine, version, one) for one in wanted] + [submit(engine, version, asked("lime", samples=6))]
    alone = submit(engine, version, asked("lime", samples=6), alone=True)
    assert engine.waiting == 7
    gate.open.set()
    for job in [first, *jobs, alone]:
        job.result.result(20)
    engine.close()
    names = [[(one.method, len(one.images)) for one in batch] for batch in gate.batches]
    assert names == [
        [(None, 1)],
        [("grad-cam", 1), ("grad-cam", 2)],
        [("reciprocam", 1)],
        [("grad-cam", 1)],
        [("lime", 1)],
        [("lime", 1)],
        [("lime", 1)],
    ]
    assert [(one.method, one.images, one.requests) for one in ran][:2] == [("prediction", 1, 1), ("grad-cam", 3, 2)]


def test_a_batch_waits_for_what_is_being_read(start: Start, gate: Gate) -> None:
    engine, version, _, _ = started(start, gate, batch_wait=10.0)
    gate.open.set()
    while engine.waiting or len(gate.batches) < 1:
        time.sleep(0.001)
    with engine.reading():
        one = submit(engine, version, asked("grad-cam"))
        two = submit(engine, version, asked("grad-cam"))
    for job in (one, two):
        job.result.result(5)  # not 10 s: nothing is being read any more
    engine.close()
    assert [len(batch) for batch in gate.batches] == [1, 2]


def test_one_bad_request_does_not_harm_its_batch(start: Start, gate: Gate) -> None:
    from xai_deploy.errors import TargetError

    engine, version, first, _ = started(start, gate, batch_wait=0)
    bad = asked("grad-cam")
    gate.wrong = lambda one: TargetError("no") if one is bad else None
    jobs = [submit(engine, version, one) for one in (asked("grad-cam"), bad, asked("grad-cam"))]
    gate.open.set()
    assert isinstance(jobs[1].result.exception(20), TargetError)
    assert [jobs[i].result.exception(20) for i in (0, 2)] == [None, None]
    first.result.result(20)
    engine.close()


def test_the_thread_survives_a_bug(start: Start, gate: Gate) -> None:
    engine, version, _, _ = started(start, gate, batch_wait=0)
    gate.wrong = lambda one: RuntimeError("bug") if one.method else None
    gate.open.set()
    assert isinstance(submit(engine, version, asked("grad-cam")).result.exception(20), RuntimeError)
    submit(engine, version, asked()).result.result(20)
    engine.close()


def test_too_many(start: Start, gate: Gate) -> None:
    engine, _, _, _ = started(start, gate, requests=2)
    with engine.admitted(), engine.admitted():
        assert engine.under_way == 2
        with pytest.raises(Refusal, match="2 requests are under way") as error, engine.admitted():
            pass
        assert (error.value.status, error.value.retry_after) == (429, 1)
    with engine.admitted():
        pass
    gate.open.set()
    engine.close()


def test_a_full_server_turns_away(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 with Retry-After, at once and without reading the body; health and metrics still answer."""
    running = start(requests=1)
    gate = Gate(monkeypatch)
    body = {"instances": [X[0].tolist()]}
    held: list[int] = []
    thread = threading.Thread(
        target=lambda: held.append(running.client.post("/v1/models/net:predict", json=body).status_code)
    )
    thread.start()
    assert gate.began.wait(20)
    reply = running.client.post("/v1/models/net:explain", content=b"never read")
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
    assert reply.json() == {"error": "1 requests are under way; try again"}
    assert 'xai_refused_total{status="429"} 1.0' in running.client.get("/metrics").text
    assert running.client.get("/v2/health/ready").status_code == 200
    gate.open.set()
    thread.join(20)
    assert held == [200]
    assert running.ask("net:predict", body)


def test_deadlines(start: Start, gate: Gate) -> None:
    """By known costs: refused for good if no waiting helps, for now if others are first, and late ones before they start."""
    engine, version, first, _ = started(start, gate, batch_wait=0)
    version.costs = Costs()
    version.costs.measured("grad-cam", 5 / 3)  # seconds per image; half is added
    with pytest.raises(
        Refusal, match=r"grad-cam: takes about 2\.5 s for 1 images here, and the request has 2 s"
    ) as error:
        submit(engine, version, asked("grad-cam", timeout=2))
    assert (error.value.status, error.value.retry_after) == (400, None)
    jobs = [submit(engine, version, asked("grad-cam", timeout=6)) for _ in range(2)]
    with pytest.raises(Refusal, match=r"can't be answered in 6 s: 5 s of work wait") as error:
        submit(engine, version, asked("grad-cam", timeout=6))
    assert error.value.status == 429
    assert error.value.retry_after in (5, 6)  # and what is left of the first
    jobs[1].deadline = time.monotonic() + 1  # as if the first run had taken longer than it should
    gate.open.set()
    first.result.result(20)
    jobs[0].result.result(20)
    late = jobs[1].result.exception(20)
    assert isinstance(late, Refusal)
    assert "earlier ones took longer than expected" in late.line
    assert [len(batch) for batch in gate.batches] == [1, 1], "what is late does not run"
    engine.close()


def test_a_run_that_was_held_up_refuses_nobody_for_long(
    start: Start, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stall (a new version's warm-up, a machine that slept): refused for now, not for good, and let in again by itself.

    What is refused is not measured, so without that the server refused all requests for ever.
    """
    engine, version, first, _ = started(start, gate, batch_wait=0)
    gate.open.set()
    first.result.result(20)
    usual = version.costs.known("grad-cam")
    assert usual is not None
    version.costs.measured("grad-cam", 40.0)
    with pytest.raises(Refusal, match=r"grad-cam takes about 60 s at this moment, and 0 s of work wait") as error:
        submit(engine, version, asked("grad-cam"))
    assert error.value.status == 429
    now = time.monotonic()
    with monkeypatch.context() as clock:
        clock.setattr(time, "monotonic", lambda: now + 5)
        assert version.costs.known("grad-cam") == pytest.approx(usual + (40 - usual) / 2, rel=0.05), (
            "half of it after 5 s"
        )
        clock.setattr(time, "monotonic", lambda: now + 15)
        job = submit(engine, version, asked("grad-cam"))
        job.result.result(20)
    engine.close()


def test_what_can_not_be_in_time_is_refused_as_soon_as_that_is_known(start: Start, gate: Gate) -> None:
    """A run that took longer than expected: the end of the queue is told at its end, not when its turn comes."""
    engine, version, first, _ = started(start, gate, batch=1, batch_wait=0)
    version.costs.measured("grad-cam", 1.0)
    jobs = [submit(engine, version, asked("grad-cam", timeout=8)) for _ in range(4)]
    version.costs.measured("grad-cam", 2.5)  # three fit
    runs: list[int] = []
    jobs[3].result.add_done_callback(lambda _: runs.append(len(gate.batches)))
    gate.open.set()
    first.result.result(20)
    with pytest.raises(Refusal, match="can't be answered in 8 s any more") as error:
        jobs[3].result.result(20)
    assert runs == [1], "after the run that is over, before the next one"
    assert (error.value.status, error.value.retry_after) == (429, 8)
    assert [job.result.exception(20) for job in jobs[:3]] == [None] * 3
    engine.close()


def test_the_door_knows_how_much_waits(start: Start, gate: Gate) -> None:
    """Refused before it is read: if what waits and what is being read leaves no time for the cheapest that was asked of late."""
    engine, version, first, _ = started(start, gate, batch_wait=0, timeout=10.0)
    version.costs.measured("grad-cam", 2.0)  # 3 s with the margin
    jobs = [submit(engine, version, asked("grad-cam", timeout=10)) for _ in range(2)]
    assert engine.full is None, "6 s wait: a third one fits"
    with engine.reading():
        assert engine.full is None, "predictions cost less, and one was asked"
        engine._lately.popleft()
        assert engine.full is not None
        assert (engine.full.status, engine.full.line) == (429, "9 s of work wait; try again")
        with pytest.raises(Refusal, match="9 s of work wait"), engine.admitted():
            pass
    with engine.admitted():
        pass
    gate.open.set()
    for job in [first, *jobs]:
        job.result.result(20)
    engine.close()


def test_nothing_is_sent_late(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes longer than the request has: 503 at its deadline, and the server goes on."""
    running = start()
    gate = Gate(monkeypatch)
    body = {"instances": [X[0].tolist()], "parameters": {"timeout_ms": 300}}
    started = time.monotonic()
    reply = running.client.post("/v1/models/net:predict", json=body)
    assert 0.2 < time.monotonic() - started < 2
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json() == {"error": "was not done in 0.3 s: its run took longer than expected; try again"}
    gate.open.set()
    assert running.ask("net:predict", {"instances": [X[0].tolist()]})


def test_time_is_kept_for_sending(start: Start, gate: Gate) -> None:
    """Twice what it took lately, a quarter of the request's time at most; a shorter way makes it less bit by bit."""
    engine, version, first, _ = started(start, gate)
    assert engine.kept(10) == 0
    first.ended = time.monotonic() - 1
    engine.sent(first)
    assert engine.kept(10) == pytest.approx(2, abs=0.05)
    assert engine.kept(4) == 1
    job = submit(engine, version, asked(timeout=10))
    assert job.deadline - time.monotonic() == pytest.approx(8, abs=0.1)
    first.ended = time.monotonic()
    engine.sent(first)
    assert engine.kept(10) == pytest.approx(1.8, abs=0.05)
    gate.open.set()
    job.result.result(20)
    engine.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
def test_the_network_gives_way(start: Start, gate: Gate) -> None:
    """The engine's thread is nicer than the one that reads requests."""
    engine, _, first, _ = started(start, gate)
    nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert engine._thread.native_id is not None
    assert os.getpriority(os.PRIO_PROCESS, engine._thread.native_id) == min(nice + 5, 19)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == nice
    gate.open.set()
    first.result.result(20)
    engine.close()


def test_a_batch_is_no_larger_than_its_requests_have_time_for(start: Start, gate: Gate) -> None:
    engine, version, first, _ = started(start, gate, batch_wait=0)
    version.costs.measured("grad-cam", 0.8)  # 1.2 s with the margin
    jobs = [submit(engine, version, asked("grad-cam")) for _ in range(4)]
    jobs[1].deadline = time.monotonic() + 3  # two fit
    gate.open.set()
    for job in [first, *jobs]:
        job.result.result(20)
    engine.close()
    assert [len(batch) for batch in gate.batches] == [1, 2, 2]


def test_options_cost(start: Start) -> None:
    """More steps take longer, by the ratio, until they have been measured."""
    version = start().service.models.current("net")
    assert version is not None
    version.costs = Costs()
    version.costs.measured("integrated-gradients+steps=4", 100.0)

    def cost(**options: Any) -> float:
        name, method, own = version.method("integrated-gradients", options)
        return version.cost(name, method, own)

    assert cost() == 150.0
    assert cost(steps=40) == 1500.0
    assert cost(steps=2) == 150.0
    version.served = {"occlusion": {"stride": "3"}}
    version.costs.measured("occlusion+stride=3", 8.0)
    name, method, own = version.method("occlusion", {"stride": 1})
    assert version.cost(name, method, own) == 108.0, "nine times as many places"
    version.served = {"integrated-gradients": {"steps": "4"}}
    version.costs.measured("integrated-gradients+steps=40", 7.0)
    assert cost(steps=40) == 10.5


def test_memory_of_what_waits_is_bounded(start: Start, gate: Gate) -> None:
    engine, version, first, _ = started(start, gate, held=3 * X[0].nbytes)
    submit(engine, version, asked(images=2))
    with pytest.raises(Refusal, match="fill the memory") as error:
        submit(engine, version, asked(images=2))
    assert error.value.status == 429
    gate.open.set()
    first.result.result(20)
    engine.close()


def test_close_answers_what_waits(start: Start, gate: Gate) -> None:
    engine, version, first, _ = started(start, gate)
    jobs = [submit(engine, version, asked("grad-cam")) for _ in range(5)]
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine._stopping:
        time.sleep(0.001)
    with pytest.raises(Refusal, match="the server is stopping") as error:
        submit(engine, version, asked())
    assert error.value.status == 503
    gate.open.set()
    results: list[Future[Result]] = [job.result for job in [first, *jobs]]
    assert all(one.result(20) for one in results)
    closing.join(20)


def test_requests_share_runs_of_the_network(start: Start) -> None:
    """Six clients at once: fewer runs than requests, and everyone gets the map of its own image."""
    from xai_deploy import Explainer

    running = start(batch_wait=0.5)
    own = Explainer(running.path, "onnxruntime").explain(X, "grad-cam", [0, 1, 2, 3])
    found: dict[int, Any] = {}

    def ask(i: int) -> None:
        found[i] = running.explain([{"image": X[i % 4].tolist(), "target": i % 4}], method="grad-cam")

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for i in range(8):
        shown = found[i]["explanations"][0]["explanations"][0]
        np.testing.assert_allclose(shown["map"]["values"], own.raw[i % 4], atol=1e-5)
    text = running.client.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['xai_batch_images_sum{method="grad-cam",model="net"}']) == 8
    assert float(values['xai_batch_images_count{method="grad-cam",model="net"}']) < 8
    assert float(values['xai_requests_total{method="grad-cam",model="net",protocol="v1",status="200"}']) == 8
    assert float(values["xai_requests_under_way"]) == 0
