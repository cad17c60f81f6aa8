"""Bundles that are opened, warmed up and replaced."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from xai_deploy import Explainer
from xai_deploy.errors import BundleError, ClosedError
from xai_deploy.serve.refusals import Refusal
from xai_deploy.serve.versions import Version

from .. import tiny
from ..conftest import Bundles
from .conftest import Running, Start

X = tiny.inputs("residual", 1)


@pytest.fixture
def replaced(start: Start, bundles: Bundles, tmp_path: Path) -> tuple[Running, Path]:
    """A running service whose bundle may be replaced by the one beside it, which has other labels."""
    place, other = tmp_path / "net.xai", tmp_path / "other.xai"
    shutil.copytree(bundles("residual", gradients=True).path, place)
    tiny.write(other, "residual", gradients=True, labels=("a", "b", "c", "d", "e"))
    return start(place, methods={"grad-cam": {}}), other


def swap(place: Path, other: Path) -> None:
    """As xai-export --overwrite replaces a bundle: the whole folder at once."""
    place.rename(place.with_suffix(".old"))
    shutil.copytree(other, place)


def test_a_request_keeps_the_version_it_began_with(replaced: tuple[Running, Path]) -> None:
    running, other = replaced
    models = running.service.models
    old = models.enter("net")
    swap(running.path, other)
    models.reload(changed_only=True)
    new = models.current("net")
    assert new is not None
    assert new.number != old.number
    assert old.explainer.explain(X).network.labels[0] == "tabby cat", "in use: still open"
    old.leave()
    with pytest.raises(ClosedError):
        old.explainer.explain(X)
    assert running.explain([X[0].tolist()], target="a")["explanations"]
    assert "tabby cat" in running.refused(400, {"instances": [X[0].tolist()], "parameters": {"target": "tabby cat"}})


def test_no_request_is_lost(replaced: tuple[Running, Path]) -> None:
    """Three clients ask all the time while the bundle is replaced: every answer is of the old version or of the new one."""
    running, other = replaced
    stop, wrong, versions = threading.Event(), [], set()

    def ask() -> None:
        while not stop.is_set():
            reply = running.client.post("/v1/models/net:explain", json={"instances": [X[0].tolist()]})
            if reply.status_code != 200:
                wrong.append(reply.text)
            else:
                versions.add(reply.json()["model"]["version"])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    swap(running.path, other)
    running.service.models.reload(changed_only=True)
    for thread in threads:
        thread.join(0.2)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not wrong
    assert len(versions) == 2


def test_a_damaged_bundle_replaces_nothing(replaced: tuple[Running, Path], caplog: pytest.LogCaptureFixture) -> None:
    running, other = replaced
    manifest = other / "manifest.json"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace("tiny-residual", "tiny-residuaL"), encoding="utf-8"
    )
    swap(running.path, other)
    before = running.service.models.current("net")
    running.service.models.reload(changed_only=True)
    [line] = [record.getMessage() for record in caplog.records if "not replaced" in record.getMessage()]
    assert line.startswith("net: not replaced: ")
    running.service.models.reload(changed_only=True)
    assert sum("not replaced" in record.getMessage() for record in caplog.records) == 1, "said once, not at every look"
    assert running.service.models.current("net") is before
    assert running.explain([X[0].tolist()])["explanations"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a thing of POSIX")
@pytest.mark.parametrize("harm", ["pipe", "link to a device"])
def test_a_manifest_that_is_no_plain_file(
    harm: str, replaced: tuple[Running, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody writes into the pipe, and the device has no end: the server waited for ever, deaf to SIGTERM."""
    running, other = replaced
    manifest = other / "manifest.json"
    manifest.unlink()
    if harm == "pipe":
        os.mkfifo(manifest)
    else:
        manifest.symlink_to("/dev/zero")
    running.path.rename(running.path.with_suffix(".old"))
    other.rename(running.path)
    before = running.service.models.current("net")
    running.service.models.reload(changed_only=True)
    running.service.models.reload(changed_only=False)
    lines = [record.getMessage() for record in caplog.records if "not replaced" in record.getMessage()]
    assert len(lines) == 1
    assert "manifest.json: is " in lines[0]
    assert running.service.models.current("net") is before
    assert running.explain([X[0].tolist()])["explanations"]


def test_a_bug_replaces_nothing(
    replaced: tuple[Running, Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = replaced

    def fails(name: str) -> None:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(running.service.models, "load", fails)
    running.service.models.reload(changed_only=False)
    assert "net: not replaced: unexpected ZeroDivisionError: bug" in caplog.text
    assert running.explain([X[0].tolist()])["explanations"]


def test_what_a_warm_up_takes_beside_requests_refuses_none(
    replaced: tuple[Running, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new version's first runs compete with those that answer. What they took (here: an hour) was taken for its cost."""
    running, other = replaced
    swap(running.path, other)
    warm_up = Version.warm_up

    def slowly(self: Version) -> None:
        warm_up(self)
        for title in ("prediction", "grad-cam"):
            self.costs.measured(title, 3600.0)

    monkeypatch.setattr(Version, "warm_up", slowly)
    running.service.models.reload(changed_only=True)
    assert running.explain([X[0].tolist()], target="a")["explanations"]
    assert running.ask("net:predict", {"instances": [X[0].tolist()]})


def test_what_has_not_changed_stays(replaced: tuple[Running, Path]) -> None:
    running, _ = replaced
    before = running.service.models.current("net")
    running.service.models.reload(changed_only=True)
    assert running.service.models.current("net") is before
    running.service.models.reload(changed_only=False)
    assert running.service.models.current("net") is not before


def test_not_ready_until_it_is_warm(bundles: Bundles, start: Start) -> None:
    running = start()
    models = running.service.models
    models.paths["second"] = Path("/does/not/exist")
    assert running.client.get("/v2/health/ready").status_code == 503
    assert running.client.get("/v2/models/net/ready").status_code == 200
    reply = running.client.get("/v2/models/second/ready")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert reply.json() == {"error": "second: is being opened; try again"}
    with pytest.raises(BundleError):
        models.load("second")
    del models.paths["second"]
    assert running.client.get("/v2/health/ready").json() == {"ready": True}
    running.service.draining = True
    assert running.client.get("/v2/health/ready").status_code == 503
    assert (
        running.client.post("/v1/models/net:predict", json={"instances": [X[0].tolist()]}).headers["connection"]
        == "close"
    )


def test_costs_are_known_when_it_is_ready(start: Start, backend: str) -> None:
    """What is slow is measured with the options that the server fixes."""
    version = start("residual", backend).service.models.current("net")
    assert version is not None
    for name in ("grad-cam", "reciprocam", "integrated-gradients", "lime"):
        assert 0 < version.cost_of(name) < 10
    name, method, options = version.method(None, {})
    assert (name, options) == ("grad-cam", {})
    assert version.cost(name, method, options) == 1.5 * version.cost_of(name)
    assert version.method("lime", {"seed": 3})[2] == {"samples": "20", "seed": 3}


def test_methods_that_do_not_fit(bundles: Bundles, start: Start) -> None:
    from xai_deploy.cli.arguments import parse_methods
    from xai_deploy.cli.serve import served
    from xai_deploy.errors import NotApplicableError, OptionError

    explainer = Explainer(bundles("residual", gradients=True).path, "onnxruntime")
    with pytest.raises(NotApplicableError, match="relevance"):
        served(explainer, parse_methods(["grad-cam,lrp"]))
    with pytest.raises(OptionError, match="rise: is given twice"):
        served(explainer, parse_methods(["rise:masks=5,rise:masks=6"]))
    assert served(explainer, parse_methods(["lime:samples=9,grad-cam"])) == {"lime": {"samples": "9"}, "grad-cam": {}}
    fast: Any = served(explainer, parse_methods(["fast"]))
    assert "grad-cam" in fast
    assert "rise" not in fast


def test_models_have_names(start: Start) -> None:
    running = start()
    with pytest.raises(Refusal, match="no model 'x'; this server has net"):
        running.service.models.enter("x")
