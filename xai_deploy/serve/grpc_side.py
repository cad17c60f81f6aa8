"""V2 over gRPC: the only module that imports grpc."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from ..version import __version__
from . import grpc_messages, v2, v2_json
from .asked import Whole
from .limits import MIB
from .pictures import KINDS
from .refusals import BAD_REQUEST, Refusal
from .service import Service, Track
from .versions import Version
from .work import Result

log = logging.getLogger(__name__)

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
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
        async def call(request: Any, context: Any) -> Any:
            try:
                return await getattr(self, name)(request, context)
            except Refusal as error:
                if error.retry_after is not None:
                    context.set_trailing_metadata((("retry-after", str(error.retry_after)),))
                await context.abort(_CODES.get(error.status, grpc.StatusCode.INTERNAL), error.line)

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=self._messages[f"{name}Request"].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return self._messages["ServerLiveResponse"](live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return self._messages["ServerReadyResponse"](ready=self._service.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        ready = self._service.models.current(request.name) is not None
        return self._messages["ModelReadyResponse"](ready=ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return self._messages["ServerMetadataResponse"](name="xai-serve", version=__version__, extensions=["explain"])

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        version = self._service.models.enter(request.name, request.version or None)
        try:
            return self._messages["ModelMetadataResponse"](**v2.metadata(request.name, version))
        finally:
            version.leave()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        headers = {str(key): str(value) for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        left: float | None = context.time_remaining()
        with Track(self._service, "grpc", headers) as track:
            try:
                with self._service.engine.admitted():
                    return await self._service.answer(
                        request.model_name,
                        request.model_version or None,
                        lambda version: self._read(request, version, left),
                        lambda version, whole, result: self._write(request, version, whole, result),
                        track,
                    )
            except Refusal as error:
                track.refused(error)
                raise

    def _read(self, request: Any, version: Version, left: float | None) -> Whole:
        raw: Sequence[bytes] = request.raw_input_contents
        if raw and len(raw) != len(request.inputs):
            raise Refusal(BAD_REQUEST, f"{len(request.inputs)} inputs, and raw contents for {len(raw)}")
        if not request.inputs:
            raise Refusal(BAD_REQUEST, "the request holds no input")
        tensors = [_tensor(one, raw[i] if raw else None) for i, one in enumerate(request.inputs)]
        parameters = _parameters(request.parameters)
        if left is not None and "timeout" not in parameters:
            parameters["timeout"] = max(left, 1e-3) * 1e6
        return v2.read(
            tensors, parameters, [one.name for one in request.outputs] or None, version, self._service.limits
        )

    def _write(self, request: Any, version: Version, whole: Whole, result: Result) -> Any:
        tensors = v2.write(whole, version, result)
        response = self._messages["ModelInferResponse"](
            model_name=request.model_name, model_version=version.number, id=request.id
        )
        for tensor in tensors:
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            response.raw_output_contents.append(v2_json.to_bytes(tensor))
        return response


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: getattr(value, kind) for name, value in given.items() if (kind := value.WhichOneof("parameter_choice"))
    }


def _tensor(written: Any, raw: bytes | None) -> v2.Tensor:
    name, shape = written.name[:200], list(written.shape)
    if raw is not None:
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
