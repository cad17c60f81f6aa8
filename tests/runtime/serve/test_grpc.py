"""V2 over gRPC: what a server takes on holds as over HTTP. grpc's own client and tritonclient, over a socket."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import pytest

from xai_deploy.images import encode_image
from xai_deploy.serve import engine as module
from xai_deploy.serve import work
from xai_deploy.serve.asked import Asked

from .. import tiny
from .conftest import Running, Start
from .test_refused_memory import left

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")
pb = pytest.importorskip("tritonclient.grpc.service_pb2")
side_module = pytest.importorskip("xai_deploy.serve.grpc_side")

X = tiny.inputs("residual", 1)
MIB = 1 << 20


class Speaking:
    """A service that listens for gRPC.

    Attributes:
        running: The service.
        where: Its address.
        channel: Connected to it.
    """

    def __init__(self, running: Running) -> None:
        self.running, self._loop = running, asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._side, port = self._wait(self._start())
        self.where = f"127.0.0.1:{port}"
        self.channel = grpc.insecure_channel(self.where, options=[("grpc.max_send_message_length", -1)])

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> tuple[Any, int]:
        side = side_module.GrpcSide(self.running.service)
        return side, await side.start("127.0.0.1", 0)

    def close(self) -> None:
        self.channel.close()
        self._wait(self._side.stop(5))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def send(self, data: bytes | Iterator[bytes], name: str = "ModelInfer", **more: Any) -> Any:
        """The answer to bytes as they are, or to a stream of messages."""
        place = f"/inference.GRPCInferenceService/{name}"
        call = self.channel.unary_unary(place) if isinstance(data, bytes) else self.channel.stream_unary(place)
        return pb.ModelInferResponse.FromString(call(data, **{"timeout": 20, **more}))

    def refused(self, code: str, data: bytes | Iterator[bytes], name: str = "ModelInfer", **more: Any) -> str:
        """The line of a refusal."""
        with pytest.raises(grpc.RpcError) as error:
            self.send(data, name, **more)
        line: str = error.value.details()
        assert (error.value.code().name, "\n" in line, "Traceback" in line) == (code, False, False), line
        return line

    def idle(self) -> bool:
        """Whether no request is under way, now or soon."""
        until = time.monotonic() + 5
        while self.running.service.engine.under_way and time.monotonic() < until:
            time.sleep(0.01)
        return not self.running.service.engine.under_way


@pytest.fixture
def speak(start: Start) -> Iterator[Callable[..., Speaking]]:
    """Limits -> a service that listens."""
    made: list[Speaking] = []

    def make(**limits: Any) -> Speaking:
        made.append(Speaking(start(methods={"grad-cam": {}}, **limits)))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Held:
    """Runs wait until they are let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.began, self._run = threading.Event(), threading.Event(), work.run
        self.seen: list[Asked] = []
        monkeypatch.setattr(module, "run", self._held)

    def _held(self, requests: list[Asked], version: Any, alone: bool) -> Any:
        self.seen.extend(requests)
        self.began.set()
        assert self.open.wait(20)
        return self._run(requests, version, alone)


def message(data: Any = X, datatype: str = "FP32", shape: Any = None, name: str = "image", **parameters: Any) -> bytes:
    """A request."""
    request = pb.ModelInferRequest(model_name="net")
    request.inputs.add(name=name, datatype=datatype, shape=data.shape if shape is None else shape)
    request.raw_input_contents.append(data if isinstance(data, bytes) else data.tobytes())
    for key, value in parameters.items():
        setattr(
            request.parameters[key], {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)], value
        )
    return bytes(request.SerializeToString())


def test_a_full_server_refuses_before_it_reads(speak: Callable[..., Speaking], monkeypatch: pytest.MonkeyPatch) -> None:
    one, never = speak(requests=1), threading.Event()
    held = Held(monkeypatch)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(one.send(message())))
    thread.start()
    assert held.began.wait(20)

    def nothing() -> Iterator[bytes]:
        never.wait(20)
        yield b""

    with pytest.raises(grpc.RpcError) as error:
        one.send(nothing())
    never.set()
    assert (error.value.code().name, error.value.details()) == (
        "RESOURCE_EXHAUSTED", "1 requests are under way; try again",
    )  # fmt: skip
    assert ("retry-after", "1") in [tuple(pair) for pair in error.value.trailing_metadata()]
    client = triton.InferenceServerClient(one.where)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("net")
    with pytest.raises(triton.InferenceServerException, match=r"1 requests are under way") as said:
        client.infer("net", [tensor()])
    assert said.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    client.close()
    assert 'xai_refused_total{status="429"} 2.0' in one.running.client.get("/metrics").text
    held.open.set()
    thread.join(20)
    assert [len(answer.outputs) for answer in answers] == [1]


def tensor() -> Any:
    """The image, as tritonclient sends it."""
    made = triton.InferInput("image", list(X.shape), "FP32")
    made.set_data_from_numpy(X)
    return made


def test_two_contents(speak: Callable[..., Speaking]) -> None:
    """Raw contents and others, of which one was taken without a word."""
    request = pb.ModelInferRequest.FromString(message())
    request.inputs[0].contents.fp32_contents.append(0.5)
    with pytest.raises(grpc.RpcError) as error:
        speak(requests=4).send(request.SerializeToString())
    assert (error.value.code().name, error.value.details()) == (
        "INVALID_ARGUMENT", "image: holds contents beside raw_input_contents; send one of them",
    )  # fmt: skip


def test_deadlines(speak: Callable[..., Speaking], monkeypatch: pytest.MonkeyPatch) -> None:
    """The shorter of the client's deadline and the parameter; nothing is sent late."""
    one = speak(requests=4)
    held = Held(monkeypatch)
    client = triton.InferenceServerClient(one.where)
    with pytest.raises(triton.InferenceServerException, match=r"was not done in 0\.3 s") as said:
        client.infer("net", [tensor()], timeout=300_000)
    assert said.value.status() == "StatusCode.UNAVAILABLE"
    held.open.set()
    client.infer("net", [tensor()], client_timeout=5, timeout=20_000_000)
    assert 3 < held.seen[-1].timeout < 5.1  # gRPC rounds what is sent
    client.infer("net", [tensor()], client_timeout=20, timeout=5_000_000)
    assert held.seen[-1].timeout == 5
    client.close()


def test_a_client_that_does_not_wait(speak: Callable[..., Speaking], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its request takes no place any more, and the next one is answered."""
    one = speak(requests=1)
    held = Held(monkeypatch)
    client = triton.InferenceServerClient(one.where)
    with pytest.raises(triton.InferenceServerException) as said:
        client.infer("net", [tensor()], client_timeout=1)
    assert said.value.status() in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")
    assert one.idle()
    held.open.set()
    client.infer("net", [tensor()])
    client.close()


def test_a_message_that_does_not_come(speak: Callable[..., Speaking], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_module, "SLOW", 0.2)
    one, never = speak(), threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(20)
        yield b""

    assert one.refused("DEADLINE_EXCEEDED", nothing()) == "the request did not arrive within 0.2 s"
    never.set()
    assert one.refused("INVALID_ARGUMENT", iter(())) == "the request holds no message"
    assert one.idle()


def test_sizes(speak: Callable[..., Speaking]) -> None:
    """Of a message, also of one that is small only while it is compressed, and of images."""
    one = speak(body=MIB, pixels=1000)
    large = b"\0" * (3 * MIB // 2)
    line = one.refused("INVALID_ARGUMENT", message(large, shape=[1]))
    assert line == f"the request is larger than {MIB} bytes; send fewer or smaller images"
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        bomb = message(b"\0" * (64 * MIB), shape=[1])
        assert "larger than max" in one.refused("RESOURCE_EXHAUSTED", bomb, compression=compression)
    picture = encode_image(np.zeros((40, 40, 3), np.uint8))
    file = len(picture).to_bytes(4, "little") + picture
    for data, kind, shape in (
        (np.zeros((1, 40, 40, 3), np.uint8), "UINT8", None),
        (file, "BYTES", [1]),
    ):
        line = one.refused("INVALID_ARGUMENT", message(data, kind, shape))
        assert "the limit is 1000" in line
    assert one.idle()
    assert one.send(message()).outputs


@pytest.mark.parametrize("name", ["ModelReady", "ModelMetadata", "ModelInfer"])
def test_what_is_no_message(name: str, speak: Callable[..., Speaking], caplog: pytest.LogCaptureFixture) -> None:
    line = speak().refused("INVALID_ARGUMENT", b"\xff\xff\xff\xff", name)
    assert line == f"the request is no {name}Request of the protocol V2"
    assert not caplog.records


def test_an_output_in_a_form_that_is_not_given(speak: Callable[..., Speaking]) -> None:
    one = speak()
    client = triton.InferenceServerClient(one.where)
    with pytest.raises(triton.InferenceServerException, match="scores: this server gives no classification"):
        client.infer("net", [tensor()], outputs=[triton.InferRequestedOutput("scores", class_count=3)])
    client.close()


def test_a_bug_is_one_line(speak: Callable[..., Speaking], monkeypatch: pytest.MonkeyPatch) -> None:
    one = speak()
    monkeypatch.setattr(one.running.service.models, "enter", lambda *_: 1 / 0)
    line = one.refused("INTERNAL", pb.ModelMetadataRequest(name="net").SerializeToString(), "ModelMetadata")
    assert line == "unexpected ZeroDivisionError; the server's log says more"


def test_messages_of_refused_requests_do_not_pile_up(speak: Callable[..., Speaking]) -> None:
    """Without a garbage collection, which finds circles only."""
    one, asked = speak(), message(explain=True, target="zebra")
    one.refused("INVALID_ARGUMENT", asked)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            one.refused("INVALID_ARGUMENT", asked)
        assert one.idle()
        frames = [frame.f_code.co_name for frame in left(FrameType)]
        assert not {"_infer", "_parsed", "_read"} & set(frames)  # they hold messages
    finally:
        gc.enable()


def test_an_output_is_named_once(speak: Callable[..., Speaking]) -> None:
    request = pb.ModelInferRequest.FromString(message(explain=True))
    for name in ("saliency_map", "answer", "saliency_map"):
        request.outputs.add(name=name)
    line = speak().refused("INVALID_ARGUMENT", request.SerializeToString())
    assert line == "output 'saliency_map' is asked for 2 times; name each output once"
