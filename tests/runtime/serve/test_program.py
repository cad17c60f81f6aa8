"""xai-serve as a process: its line, its answers, its end; and what it refuses before it starts."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xai_deploy
from xai_deploy import serve
from xai_deploy.cli import serve as command
from xai_deploy.errors import BackendNotInstalledError, XaiError
from xai_deploy.serve import server

from .. import tiny
from ..conftest import Bundles
from .program import BODY, Program, X, ask

ROOT = Path(__file__).resolve().parents[3]


def test_sigterm_loses_no_request(program: Program) -> None:
    """Requests that run or wait when the signal comes are answered; then the process ends with 0, and nobody listens."""
    slow = json.dumps({"instances": [X[0].tolist()], "parameters": {"method": "rise"}})
    found: list[tuple[int, Any]] = []
    threads = [threading.Thread(target=lambda: found.append(ask(program.port, body=slow))) for _ in range(3)]
    for thread in threads:
        thread.start()
    metrics = ""
    while "xai_requests_under_way 3.0" not in metrics:
        with urllib.request.urlopen(f"http://127.0.0.1:{program.port}/metrics", timeout=10) as reply:
            metrics = reply.read().decode()
    program.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    assert [status for status, _ in found] == [200, 200, 200]
    said = program.process.communicate(timeout=60)
    assert program.process.returncode == 0
    assert said == ("", "")
    with pytest.raises(ConnectionRefusedError):
        ask(program.port)


def test_a_bundle_is_replaced_while_requests_run(program: Program, tmp_path: Path) -> None:
    """--watch sees the other manifest. Over a connection that stays open, every request is answered."""
    other = tmp_path / "other.xai"
    tiny.write(other, "residual", gradients=True, labels=("a", "b", "c", "d", "e"))
    connection = http.client.HTTPConnection("127.0.0.1", program.port, timeout=60)
    labels: set[str] = set()
    until = time.monotonic() + 60
    while time.monotonic() < until and not labels & set("abcde"):
        connection.request("POST", "/v1/models/net:explain", BODY)
        reply = connection.getresponse()
        told = json.loads(reply.read())
        assert reply.status == 200, told
        labels.add(told["explanations"][0]["explanations"][0]["label"])
        if len(labels) == 1 and other.exists():
            (tmp_path / "net.xai").rename(tmp_path / "old.xai")
            other.rename(tmp_path / "net.xai")
    connection.close()
    assert labels & set("abcde"), "the new bundle answers"
    assert labels & set(tiny.LABELS), "the old one did before"


def test_records_that_can_not_be_written(bundles: Bundles, tmp_path: Path) -> None:
    """500 in one line to the client, and one line a request in the log; the server goes on and predicts."""
    path, folder = bundles("residual", gradients=True).path, tmp_path / "records"
    program = Program(f"net={path}", "-m", "grad-cam", "--records", str(folder), "--records-durable")
    assert ask(program.port)[0] == 200
    for file in folder.glob("*.jsonl"):
        file.unlink()
    for _ in range(2):
        status, told = ask(program.port)
        line = "the answer can't be recorded, so it is not sent; the server's log says why"
        assert (status, told) == (500, {"error": line}), "no path of the server's"
    assert ask(program.port, "/v1/models/net:predict")[0] == 200
    lines = program.stop().splitlines()
    assert [line[: line.index(" records can't")] for line in lines] == [
        *[f"xai-serve: error: net: RecordsError: {folder}:"] * 2,
        f"xai-serve: error: {folder}:",  # as it ends
    ]
    assert program.process.returncode == 2


def test_grpc(program: Program) -> None:
    """Raw contents and contents one by one; the map that REST gives; refusals. The messages are tritonclient's own."""
    grpc = pytest.importorskip("grpc")
    pb = pytest.importorskip("tritonclient.grpc.service_pb2")

    with grpc.insecure_channel(f"127.0.0.1:{program.grpc}") as channel:

        def call(name: str, request: Any, answer: Any) -> Any:
            method = channel.unary_unary(
                f"/inference.GRPCInferenceService/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            return method(request, timeout=30)

        assert call("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
        assert call("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
        assert call("ModelReady", pb.ModelReadyRequest(name="net"), pb.ModelReadyResponse).ready
        assert call("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse).name == "xai-serve"
        told = call("ModelMetadata", pb.ModelMetadataRequest(name="net"), pb.ModelMetadataResponse)
        assert list(told.inputs[0].shape) == [-1, 3, tiny.HEIGHT, tiny.WIDTH]

        def infer(raw: bool, **parameters: Any) -> Any:
            request = pb.ModelInferRequest(model_name="net", id="9")
            one = request.inputs.add(name="image", datatype="FP32", shape=X.shape)
            if raw:
                request.raw_input_contents.append(X.tobytes())
            else:
                one.contents.fp32_contents.extend(X.ravel().tolist())
            for name, value in parameters.items():
                kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
                setattr(request.parameters[name], kind, value)
            return call("ModelInfer", request, pb.ModelInferResponse)

        status, rest = ask(
            program.port, body=json.dumps({"instances": X.tolist(), "parameters": {"target": 3, "map": "heatmap"}})
        )
        assert status == 200
        expected = [one["explanations"][0]["map"]["values"] for one in rest["explanations"]]
        for raw in (True, False):
            reply = infer(raw, explain=True, target=3)
            assert (reply.id, [one.name for one in reply.outputs]) == ("9", ["scores", "saliency_map", "answer"])
            maps = np.frombuffer(reply.raw_output_contents[1], "<f4").reshape(list(reply.outputs[1].shape))
            np.testing.assert_allclose(maps, expected, atol=1e-5)
        for parameters, line in (
            ({"explain": True, "target": 77}, "class 77 does not exist"),
            ({"explain": True, "method": "nope"}, "no method 'nope'; there are grad-cam"),
            ({"explain": True, "method": "rise", "timeout": 1000}, "allow more time"),
        ):
            with pytest.raises(grpc.RpcError) as error:
                infer(True, **parameters)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert line in error.value.details()
        with pytest.raises(grpc.RpcError) as error:
            call("ModelMetadata", pb.ModelMetadataRequest(name="x"), pb.ModelMetadataResponse)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["missing.xai"], "missing.xai: no such"),
        (["a/b=net.xai"], "a model's name is of letters"),
        (["net.xai", "net.xai"], "net is the name of net.xai already"),
        (["net.xai", "-m", "rise,rise:masks=4"], "rise: is given twice"),
        (["net.xai", "-m", "lrp"], "lrp: this bundle has no"),
        (["net.xai", "--port", "70000"], "0 to 65535"),
        (["net.xai", "--timeout", "0"], "above 0"),
        (["net.xai", "--host", "192.0.2.1"], "192.0.2.1:0: can't listen there"),
    ],
)
def test_refused_at_the_start(arguments: list[str], line: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = command.main([*arguments, *([] if "--port" in arguments else ["--port", "0"]), "-q"])
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr().err
    assert (status, said.count("\n")) == (2, 1), said
    assert line in said


def test_a_port_that_is_taken(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert command.main(["net.xai", "--port", port]) == 2
    assert f"127.0.0.1:{port}: can't listen there (Address already in use)" in capsys.readouterr().err


STARTED = """
import os, signal, sys
from xai_deploy.cli import serve
real = serve.require
def require():
    os.kill(os.getpid(), signal.Signals[sys.argv[1]])
    real()
serve.require = require
sys.exit(serve.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_before_it_listens(name: str, bundles: Bundles) -> None:
    """While modules are imported nobody handles signals: SIGTERM has its line, SIGHUP does nothing."""
    path = bundles("residual", gradients=True).path
    command = [sys.executable, "-c", STARTED, name, f"net={path}", "-m", "grad-cam", "--port", "0", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("xai-serve: net at http://127.0.0.1:") == (name == "SIGHUP"), line
        process.terminate()
        said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == ((0, "") if name == "SIGHUP" else (130, "xai-serve: interrupted\n"))


def test_sigterm_while_it_opens_bundles(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = xai_deploy.Explainer

    def slow(*given: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.5)
        return opened(*given, **options)

    monkeypatch.setattr(command, "Explainer", slow)
    path = bundles("residual", gradients=True).path
    assert command.main([f"net={path}", "-m", "grad-cam", "--port", "0"]) == 0
    assert capsys.readouterr().err == "xai-serve: warning: stopped before all bundles were open\n"


def test_sigterm_while_it_warms_up(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The warm-up ends with the run that is under way, and says nothing more; it went on for minutes."""
    runs, several = 0, xai_deploy.Explainer.explain_many

    def slow(self: xai_deploy.Explainer, *given: Any, **options: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs == 1:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.5)
        return several(self, *given, **options)

    monkeypatch.setattr(xai_deploy.Explainer, "explain_many", slow)
    path = bundles("residual", gradients=True).path
    assert command.main([f"net={path}", f"two={path}", "-m", "grad-cam,layer-cam", "-v", "--port", "0"]) == 0
    for thread in threading.enumerate():  # a process ends when its loader has
        if thread.name.startswith("xai-serve-loader"):
            thread.join(60)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "debug" not in line]
    assert (line, runs) == ("xai-serve: warning: stopped before all bundles were open", 1)


def test_two_servers_that_bind_one_port() -> None:
    """Linux lets both bind while none listens: the second is told, by us and at once."""
    with contextlib.closing(server._bound("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(XaiError, match=f"^127.0.0.1:{port}: can't listen there .*choose another --host or --port$"):
            server._bound("127.0.0.1", port)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are those of the extra."""
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"][
        "serve"
    ]
    named = {re.split(r"[<>=]", one)[0].replace("-", "_") for one in extra}
    assert named - {"opencv_python_headless", "protobuf"} == {
        "grpcio" if one == "grpc" else one for one in serve.PACKAGES
    }
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(BackendNotInstalledError, match=r"xai-serve needs uvicorn; pip install 'xai-deploy\[serve\]'"):
        serve.require()
