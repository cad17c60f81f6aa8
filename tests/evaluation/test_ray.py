"""An evaluation on a Ray cluster is the evaluation of one machine: without Ray by threads in its place, and once with Ray."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xai_deploy.cli import evaluate as command
from xai_deploy.errors import XaiError
from xai_deploy.evaluation import evaluate
from xai_deploy.foundation import cluster as clusters
from xai_deploy.foundation.cluster import Cluster, spread

from .conftest import Refused, Run, interrupt, pictures

ASKED = ("-m", "reciprocam", "--metrics", "complexity,average-drop", "--threads", "1")
FILES = ("results.json", "images.csv", "images.parquet")


class Died(Exception):
    """Stands for RayActorError."""


class Failed(Exception):
    """Stands for RayTaskError."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class Threads:
    """What the code asks of the module ray, with a thread for each actor.

    Args:
        dying: Number of a call over all actors -> whether its actor dies in it.
    """

    def __init__(self, dying: Callable[[int, Any], bool] = lambda call, item: False, cores: int = 2) -> None:
        self.exceptions = SimpleNamespace(RayActorError=Died, RayTaskError=Failed)
        self.dying, self.cores, self.calls = dying, cores, 0
        self.most = 0  # calls under way at a time
        self.open: set[Future[Any]] = set()
        self.killed = 0

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cores}

    def put(self, value: Any) -> Any:
        return value

    def get(self, future: Future[Any]) -> Any:
        return future.result()

    def wait(self, futures: list[Future[Any]], num_returns: int, timeout: float) -> tuple[list[Future[Any]], Any]:
        self.most = max(self.most, len(futures))
        done = wait(futures, timeout, "FIRST_COMPLETED").done
        return [one for one in futures if one in done][:num_returns], []

    def kill(self, actor: Any) -> None:
        self.killed += 1
        actor.thread.shutdown(cancel_futures=True)

    def remote(self, **options: Any) -> Callable[[type], Any]:
        return lambda cls: SimpleNamespace(remote=lambda *arguments: Actor(self, cls(*arguments)))


class Actor:
    """A worker in a thread of its own; dead from the first death on."""

    def __init__(self, ray: Threads, worker: Any) -> None:
        thread = self.thread = ThreadPoolExecutor(1)
        dead: list[int] = []

        def do(item: Any) -> Any:
            ray.calls += 1
            if dead or ray.dying(ray.calls, item):
                dead.append(1)
                raise Died
            try:
                return worker.do(item)
            except Exception as error:
                raise Failed(error) from error

        self.ready = SimpleNamespace(remote=lambda: thread.submit(worker.ready))
        self.do = SimpleNamespace(remote=lambda item: thread.submit(do, item))


def squares() -> Callable[[int], int]:
    return lambda item: item * item


def with_threads(patch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> Threads:
    ray = Threads(*arguments, **options)
    patch.setattr(clusters, "require_ray", lambda: ray)
    return ray


@pytest.mark.parametrize("count", [0, 1, 3, 50])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_item_once(monkeypatch: pytest.MonkeyPatch, count: int, workers: int) -> None:
    ray = with_threads(monkeypatch, cores=8)
    done = list(spread(squares, range(count), Cluster(workers=workers)))
    assert sorted(done) == [(item, item * item) for item in range(count)]
    assert ray.most <= 2 * workers  # back-pressure: however many items there are


@pytest.mark.parametrize("deaths", [[1], [3, 8], [1, 2], [50, 51]])
def test_workers_that_die(monkeypatch: pytest.MonkeyPatch, deaths: list[int], caplog: pytest.LogCaptureFixture) -> None:
    with_threads(monkeypatch, lambda call, item: call in deaths)
    assert sorted(spread(squares, range(50), Cluster())) == [(item, item * item) for item in range(50)]
    assert "a worker died; what it had under way is done again" in caplog.messages


def test_an_item_that_kills_every_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = with_threads(monkeypatch, lambda call, item: item == 7)
    with pytest.raises(XaiError, match=r"^7: 3 workers died over it; is there enough memory\?$"):
        list(spread(squares, range(20), Cluster()))
    assert ray.killed


def test_errors_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Callable[[int], int]:
        def work(item: int) -> int:
            if item == 5:
                raise XaiError("five is refused")
            return 1 // (item - 90)

        return work

    with_threads(monkeypatch)
    with pytest.raises(XaiError, match=r"^five is refused$"):
        list(spread(failing, range(20), Cluster()))
    with pytest.raises(ZeroDivisionError):
        list(spread(failing, [90], Cluster()))
    with pytest.raises(XaiError, match="a worker takes 4 cores and 0 GPUs, and the cluster has 2 and 0"):
        list(spread(squares, range(3), Cluster(cpus=4)))
    with pytest.raises(XaiError, match="a worker takes 1 cores and 1 GPUs, and the cluster has 2 and 0"):
        list(spread(squares, range(3), Cluster(gpus=1)))


@pytest.fixture
def many(desk: Path) -> Path:
    """Seven chunks of images, one image damaged."""
    pictures(desk / "many", 110)
    Path("many/0020-cut.png").write_bytes(Path("many/0001.png").read_bytes()[:-40])
    return desk


def test_same_results_without_ray_itself(
    many: Path, run: Run, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    whole = run(*ASKED, "-q", images="many", out="whole")
    monkeypatch.setattr("xai_deploy.evaluation.session.require_ray", lambda: None)
    with_threads(monkeypatch, lambda call, item: call == 3)
    run(*ASKED, "-q", "--ray", "local", images="many", out="spread")
    assert [Path("spread", name).read_bytes() for name in FILES] == [Path("whole", name).read_bytes() for name in FILES]
    with monkeypatch.context() as patch:  # interrupted on one machine, it goes on on a cluster
        interrupt(patch)
        assert command.main(["net.xai", "many", *ASKED, "-q", "-o", "mixed"]) == 130
    run(*ASKED[:-2], "-q", "--ray", "local", images="many", out="mixed")  # one thread unless it is said
    assert [Path("mixed", name).read_bytes() for name in FILES] == [Path("whole", name).read_bytes() for name in FILES]
    assert whole["plan"]["networks"][0]["threads"] == 1
    line = refused(
        "net.xai", "-o", "mixed", "--threads", "2", "--ray", "local", "--metrics", "complexity", images="many"
    )
    assert "differs in" in line


def test_ray_is_missing(desk: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "shard 1/2: not with --ray" in refused("net.xai", "--ray", "local", "--shard", "1/2", "-o", "out")
    line = refused("net.xai", "--ray", "local")
    assert line == 'xai-evaluate: error: --ray needs Ray, which is not installed; pip install "xai-deploy[ray]"\n'


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
@pytest.mark.filterwarnings("ignore")
def test_with_ray_and_a_kill(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process is killed when the first chunk is done; the results are those of one machine."""
    import psutil

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    asked: dict[str, Any] = {"methods": ["reciprocam"], "metrics": ["complexity"], "threads": 1}
    evaluate("net.xai", "many", out="whole", **asked)
    killed: list[int] = []

    def kill(journal: Path, done: int, images: int) -> None:
        if done and not killed:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):  # one that has ended meanwhile
                    if "_Worker" in " ".join(process.cmdline()) and not killed:
                        process.kill()
                        killed.append(process.pid)

    evaluate("net.xai", "many", out="spread", ray="local", ray_workers=2, on_chunk=kill, **asked)
    assert killed
    assert [Path("spread", name).read_bytes() for name in FILES] == [Path("whole", name).read_bytes() for name in FILES]
