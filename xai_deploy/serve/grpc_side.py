"""V2 over gRPC: the only module that imports grpc."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from ..version import __version__
from . import grpc_messages, v2, v2_json
from .asked import Whole
from .limits import MIB, SLOW
from .pictures import KINDS
from .refusals import BAD_REQUEST, BROKEN, SLOW_BODY, TOO_LARGE, Refusal, forget_frames
from .service import Service, Track
from .versions import Version
from .work import Result

log = logging.getLogger(__name__)

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype -> the field that holds its numbers one by one; the other way is raw bytes."""


class GrpcSide:
    """The gRPC server of a service.

    Args:
        service: The service.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._messages = grpc_messages.build()
        options = [
            ("grpc.max_receive_message_length", service.limits.body + MIB),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        # A few more than are taken on, so that most of the refused ones get a line of ours, and a bound for memory.
        self._server: Any = grpc.aio.server(options=options, maximum_concurrent_rpcs=2 * service.limits.requests)
        handlers = {name: self._handler(name) for name in grpc_messages.METHODS}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(grpc_messages.SERVICE, handlers),))

    async def start(self, host: str, port: int) -> int:
        """Listen; gives the port, which the system chooses if it is 0.

        Raises:
            RuntimeError: The address can't be used.
        """
        bound: int = self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        await self._server.start()
        return bound

    async def stop(self, grace: float) -> None:
        """Take no further requests, and wait for those under way, `grace` seconds at most."""
        await self._server.stop(grace)

    def _handler(self, name: str) -> Any:
        """A method of the service.

        To a client it takes one message and gives one. Here it takes a stream, so that it is called before the message is read: a
        full server refuses without reading, and a message is read within the time that a body has.
        """
        own = getattr(self, name)

        async def call(messages: AsyncIterator[bytes], context: Any) -> bytes:
            try:
                return bytes(await own(messages, context))
            except Refusal as error:
                forget_frames(error)  # they hold the message
                await _abort(context, error)
            except Exception as error:  # a bug
                log.error("%s: unexpected %s: %s", name, type(error).__name__, error, exc_info=error)
                await _abort(context, Refusal(BROKEN, f"unexpected {type(error).__name__}; the server's log says more"))
            raise AssertionError  # abort raises

        return grpc.stream_unary_rpc_method_handler(call)

    async def _message(self, messages: AsyncIterator[bytes]) -> bytes:
        """The one message of a request.

        Raises:
            Refusal: It is missing, too slow or too large.
        """
        limit = self._service.limits.body
        try:
            async with asyncio.timeout(SLOW):
                message = await anext(messages, None)
        except TimeoutError:
            raise Refusal(SLOW_BODY, f"the request did not arrive within {SLOW:g} s") from None
        if message is None:
            raise Refusal(BAD_REQUEST, "the request holds no message")
        if len(message) > limit:
            raise Refusal(TOO_LARGE, f"the request is larger than {limit} bytes; send fewer or smaller images")
        return message

    def _parsed(self, name: str, message: bytes) -> Any:
        """A message as the protocol describes it.

        Raises:
            Refusal: It is something else.
        """
        try:
            return self._messages[name].FromString(message)
        except grpc_messages.DecodeError:
            raise Refusal(BAD_REQUEST, f"the request is no {name} of the protocol V2") from None

    def _written(self, name: str, /, **fields: Any) -> bytes:
        written: bytes = self._messages[name](**fields).SerializeToString()
        return written

    async def ServerLive(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        return self._written("ServerLiveResponse", live=True)

    async def ServerReady(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        return self._written("ServerReadyResponse", ready=self._service.ready)

    async def ModelReady(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        request = self._parsed("ModelReadyRequest", await self._message(messages))
        ready = self._service.models.current(request.name) is not None
        return self._written("ModelReadyResponse", ready=ready)

    async def ServerMetadata(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        return self._written("ServerMetadataResponse", name="xai-serve", version=__version__, extensions=["explain"])

    async def ModelMetadata(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        request = self._parsed("ModelMetadataRequest", await self._message(messages))
        version = self._service.models.enter(request.name, request.version or None)
        try:
            return self._written("ModelMetadataResponse", **v2.metadata(request.name, version))
        finally:
            version.leave()

    async def ModelInfer(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        if (full := self._service.engine.full) is not None:
            self._service.metrics.turned_away(full.status)
            raise full
        headers = {str(key): str(value) for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        with Track(self._service, "grpc", headers) as track:
            try:
                with self._service.engine.admitted():
                    return await self._infer(await self._message(messages), context, track)
            except Refusal as error:
                track.refused(error)
                raise

    async def _infer(self, message: bytes, context: Any, track: Track) -> bytes:
        loop = asyncio.get_running_loop()
        request = await loop.run_in_executor(self._service.readers, self._parsed, "ModelInferRequest", message)
        left: float | None = context.time_remaining()
        return await self._service.answer(
            request.model_name,
            request.model_version or None,
            lambda version: self._read(request, version, left),
            lambda version, whole, result: self._write(request, version, whole, result),
            track,
        )

    def _read(self, request: Any, version: Version, left: float | None) -> Whole:
        raw: Sequence[bytes] = request.raw_input_contents
        if raw and len(raw) != len(request.inputs):
            raise Refusal(BAD_REQUEST, f"{len(request.inputs)} inputs, and raw contents for {len(raw)}")
        if not request.inputs:
            raise Refusal(BAD_REQUEST, "the request holds no input")
        tensors = [_tensor(one, raw[i] if raw else None) for i, one in enumerate(request.inputs)]
        parameters = _parameters(request.parameters)
        limits = self._service.limits
        if left is not None:  # nobody waits longer, whatever the parameter allows
            limits = replace(limits, timeout=max(min(limits.timeout, left), 1e-3))
        outputs = [v2.asked_for(one.name, one.parameters) for one in request.outputs]
        return v2.read(tensors, parameters, outputs or None, version, limits)

    def _write(self, request: Any, version: Version, whole: Whole, result: Result) -> bytes:
        tensors = v2.write(whole, version, result)
        response = self._messages["ModelInferResponse"](
            model_name=request.model_name, model_version=version.number, id=request.id
        )
        for tensor in tensors:
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            response.raw_output_contents.append(v2_json.to_bytes(tensor))
        written: bytes = response.SerializeToString()
        return written


async def _abort(context: Any, refused: Refusal) -> None:
    if refused.retry_after is not None:
        context.set_trailing_metadata((("retry-after", str(refused.retry_after)),))
    await context.abort(_CODES.get(refused.status, grpc.StatusCode.INTERNAL), refused.line)


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: getattr(value, kind) for name, value in given.items() if (kind := value.WhichOneof("parameter_choice"))
    }


def _tensor(written: Any, raw: bytes | None) -> v2.Tensor:
    name, shape = written.name[:200], list(written.shape)
    if raw is not None:
        if written.contents.ByteSize():
            raise Refusal(BAD_REQUEST, f"{name}: holds contents beside raw_input_contents; send one of them")
        return v2.from_bytes(name, written.datatype, shape, raw)
    kind, sizes, count = v2.shaped(name, written.datatype, shape)
    field = _CONTENTS.get(kind)
    if field is None:
        raise Refusal(BAD_REQUEST, f"{name}: {kind} is sent as raw_input_contents")
    values = getattr(written.contents, field)
    if len(values) != count:
        raise Refusal(BAD_REQUEST, f"{name}: {kind} {sizes} takes {count} numbers in {field}, not {len(values)}")
    if kind == "BYTES":
        return v2.Tensor(name, kind, sizes, list(values))
    array = np.array(values)
    cast: NDArray[Any] = array.astype(KINDS[kind])
    if cast.dtype.kind != "f" and not np.array_equal(cast, array):
        raise Refusal(BAD_REQUEST, f"{name}: a number is no {kind}")
    return v2.Tensor(name, kind, sizes, cast.reshape(sizes))
