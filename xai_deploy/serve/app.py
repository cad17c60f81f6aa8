"""The HTTP side: routes, bodies, status lines. The only module that imports starlette."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..version import __version__
from . import openapi, page, v1, v2, v2_json
from .json_text import dumps
from .limits import SLOW
from .refusals import BAD_REQUEST, BROKEN, NOT_FOUND, NOT_READY, SLOW_BODY, TOO_LARGE, Refusal, refusal
from .service import Service, Track

log = logging.getLogger(__name__)

_JSON = "application/json"
_DRAINED = 4  # times the largest body that is read of a body that is larger


def make_app(service: Service) -> Starlette:
    """The ASGI application of a server; it may be mounted in another one."""
    web = _Web(service)
    routes = [
        Route("/", web.form),
        Route("/openapi.json", web.openapi),
        Route("/metrics", web.metrics),
        Route("/v1/models", web.models),
        Route("/v1/models/{name}", web.model_v1),
        Route("/v1/models/{name}:predict", web.predict_v1, methods=["POST"]),
        Route("/v1/models/{name}:explain", web.explain_v1, methods=["POST"]),
        Route("/v2", web.server),
        Route("/v2/health/live", web.live),
        Route("/v2/health/ready", web.ready),
        Route("/v2/models/{name}", web.metadata),
        Route("/v2/models/{name}/versions/{version}", web.metadata),
        Route("/v2/models/{name}/ready", web.model_ready),
        Route("/v2/models/{name}/versions/{version}/ready", web.model_ready),
        Route("/v2/models/{name}/infer", web.infer, methods=["POST"]),
        Route("/v2/models/{name}/versions/{version}/infer", web.infer, methods=["POST"]),
    ]
    middleware = [Middleware(_Door, service)]
    return Starlette(
        routes=routes, middleware=middleware, exception_handlers={HTTPException: _not_there, Exception: _broken}
    )


class _Door:
    """Refuses requests while the server is full, before anything else is done for them: thousands a second cost little."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (full := self._service.engine.full) is not None:
            self._service.metrics.turned_away(full.status)
            await _refused(full)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _Web:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def form(self, request: Request) -> Response:
        return Response(page.html(self._service.models), media_type="text/html", headers=page.HEADERS)

    async def openapi(self, request: Request) -> Response:
        return _json(openapi.document(self._service))

    async def metrics(self, request: Request) -> Response:
        body, kind = self._service.metrics.text(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind})

    async def models(self, request: Request) -> Response:
        return _json({"models": self._service.models.names})

    async def model_v1(self, request: Request) -> Response:
        name = request.path_params["name"]
        return await self._told(lambda: _json({"name": name, "ready": self._service.models.current(name) is not None}))

    async def server(self, request: Request) -> Response:
        extensions = ["binary_tensor_data", "explain"]
        return _json({"name": "xai-serve", "version": __version__, "extensions": extensions})

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        ready = self._service.ready
        return _json({"ready": ready}, 200 if ready else NOT_READY)

    async def model_ready(self, request: Request) -> Response:
        def told() -> Response:
            self._service.models.enter(request.path_params["name"], request.path_params.get("version")).leave()
            return _json({"name": request.path_params["name"], "ready": True})

        return await self._told(told)

    async def metadata(self, request: Request) -> Response:
        def told() -> Response:
            name = request.path_params["name"]
            version = self._service.models.enter(name, request.path_params.get("version"))
            try:
                return _json(v2.metadata(name, version))
            finally:
                version.leave()

        return await self._told(told)

    async def _told(self, work: Callable[[], Response]) -> Response:
        try:
            return work()
        except Refusal as error:
            return _refused(error)

    async def predict_v1(self, request: Request) -> Response:
        return await self._v1(request, explain=False)

    async def explain_v1(self, request: Request) -> Response:
        return await self._v1(request, explain=True)

    async def _v1(self, request: Request, explain: bool) -> Response:
        name, limits = request.path_params["name"], self._service.limits

        async def work(body: bytes, track: Track) -> Response:
            return await self._service.answer(
                name,
                None,
                lambda version: v1.read(body, _query(request), explain, version, limits),
                lambda version, whole, result: _json(v1.write(name, version, whole, result, explain)),
                track,
            )

        return await self._answered(request, "v1", work)

    async def infer(self, request: Request) -> Response:
        name, limits = request.path_params["name"], self._service.limits
        number, length = request.path_params.get("version"), request.headers.get(v2_json.LENGTH)

        async def work(body: bytes, track: Track) -> Response:
            read: list[v2_json.Request] = []

            def reading(version: Any) -> Any:
                read.append(v2_json.Request(body, length))
                return v2.read(read[0].tensors, read[0].parameters, read[0].outputs, version, limits)

            def writing(version: Any, whole: Any, result: Any) -> Response:
                text, size = read[0].body_of(name, version.number, v2.write(whole, version, result))
                headers = {} if size is None else {v2_json.LENGTH: str(size)}
                return Response(text, media_type=_JSON if size is None else "application/octet-stream", headers=headers)

            return await self._service.answer(name, number, reading, writing, track)

        return await self._answered(request, "v2", work)

    async def _answered(
        self, request: Request, protocol: str, work: Callable[[bytes, Track], Awaitable[Response]]
    ) -> Response:
        """Take a request on, read its body, and answer it."""
        with Track(self._service, protocol, request.headers) as track:
            try:
                with self._service.engine.admitted():
                    body = await _body(request, self._service.limits.body)
                    response = await work(body, track)
            except Refusal as error:
                track.refused(error)
                response = _refused(error)
            response.headers["x-request-id"] = track.id if track.id.isascii() and track.id.isprintable() else "?"
            if self._service.draining:
                response.headers["connection"] = "close"
            return response


def _query(request: Request) -> dict[str, str]:
    query = dict(request.query_params)
    if len(query) != len(request.query_params.multi_items()):
        raise Refusal(BAD_REQUEST, "a parameter stands twice in the address")
    return query


async def _body(request: Request, limit: int) -> bytes:
    """The body. One that is too large is read up to four times the limit: a client that is still sending sees no answer.

    Raises:
        Refusal: It is too large, too slow, or breaks off.
    """
    announced = request.headers.get("content-length", "0")

    def too_large() -> (
        Refusal
    ):  # a local Refusal would keep this frame, and with it the body, until a garbage collection
        return Refusal(TOO_LARGE, f"the body is larger than {limit} bytes; send fewer or smaller images")

    size = int(announced) if announced.isdecimal() else _DRAINED * limit + 1
    if size > _DRAINED * limit or (size > limit and "expect" in request.headers):  # it waits before it sends
        raise too_large()
    parts, refused, size = [], size > limit, 0
    try:
        async with asyncio.timeout(SLOW):
            async for part in request.stream():
                size += len(part)
                refused = refused or size > limit
                if size > _DRAINED * limit:
                    raise too_large()
                if not refused:
                    parts.append(part)
    except TimeoutError:
        raise too_large() if refused else Refusal(SLOW_BODY, f"the body did not arrive within {SLOW:g} s") from None
    except ClientDisconnect:
        raise Refusal(BAD_REQUEST, "the connection broke off") from None
    if refused:
        raise too_large()
    return b"".join(parts)


def _json(value: Any, status: int = 200) -> Response:
    return Response(dumps(value), status, media_type=_JSON)


def _refused(error: Refusal) -> Response:
    response = _json({"error": error.line}, error.status)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(error.retry_after)
    if error.status in (TOO_LARGE, SLOW_BODY):
        response.headers["connection"] = "close"  # what is left of the body is not read
    return response


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    lines = {NOT_FOUND: f"there is nothing at {request.url.path[:200]}; /openapi.json lists what there is"}
    line = lines.get(error.status_code, f"{request.method} is not possible at {request.url.path[:200]}")
    response = _refused(Refusal(error.status_code, line))
    response.headers.update(error.headers or {})
    return response


async def _broken(request: Request, error: Exception) -> Response:
    log.error("%s: unexpected %s: %s", request.url.path[:200], type(error).__name__, error, exc_info=error)
    return _refused(
        refusal(error) if isinstance(error, MemoryError) else Refusal(BROKEN, f"unexpected {type(error).__name__}")
    )
