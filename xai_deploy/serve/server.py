"""A server's life: it listens, opens its bundles, answers, replaces bundles, and stops without losing a request.

Only this module and `protocol` import uvicorn.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..errors import XaiError
from .priority import give_way
from .service import Service

log = logging.getLogger(__name__)

_GRACE = 5.0  # seconds beyond the longest request
_BACKLOG = 2048


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and how it goes.

    Attributes:
        host: The address. 127.0.0.1 is reached from this machine alone.
        port: Of HTTP; 0: any that is free.
        grpc_port: Of gRPC; None: it does not listen.
        drain: Seconds between the signal to stop and the end of listening: not ready any more, and still answering.
        watch: Seconds between looks for bundles that have changed; None: only SIGHUP opens them again.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    drain: float = 0.0
    watch: float | None = None


class Server:
    """A service that listens.

    Args:
        service: What answers.
        listening: Where.
        on_ready: Called when all bundles are ready, with the port of HTTP and that of gRPC.
    """

    def __init__(
        self,
        service: Service,
        listening: Listening,
        on_ready: Callable[[int, int | None], None] = lambda http, grpc: None,
    ) -> None:
        self._service, self._listening, self._on_ready = service, listening, on_ready
        self._stop = asyncio.Event()
        self._again = asyncio.Event()
        self._loader = ThreadPoolExecutor(
            1, "xai-serve-loader", give_way
        )  # a runtime's threads are as nice as who opens it

    def stop(self) -> None:
        """Stop: not ready from now on, then no new connections, then the answers that are due. Call it in the loop's thread."""
        self._stop.set()

    def reload(self) -> None:
        """Open all bundles again. Call it in the loop's thread."""
        self._again.set()

    async def run(self) -> None:
        """Serve until `stop`, or until a bundle can't be opened at the start.

        Raises:
            XaiError: The address can't be used, or a bundle can't be opened.
        """
        import uvicorn

        from .app import make_app
        from .protocol import Protocol

        listening, service = self._listening, self._service
        sock = _bound(listening.host, listening.port)
        config = uvicorn.Config(
            make_app(service),
            http=Protocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(service.limits.timeout + _GRACE),
        )
        http: Any = uvicorn.Server(config)
        http.capture_signals = contextlib.nullcontext  # signals are handled below
        grpc = await self._grpc()
        with self._signals():
            serving = asyncio.create_task(http.serve(sockets=[sock]))
            keeping = asyncio.create_task(self._keep(sock.getsockname()[1], grpc[1] if grpc else None))
            stopping = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait([serving, keeping, stopping], return_when=asyncio.FIRST_COMPLETED)
                service.draining = True
                if self._stop.is_set():
                    if not service.models.ready:
                        log.warning("stopped before all bundles were open")
                    await asyncio.sleep(listening.drain)
            finally:
                http.should_exit = True
                grace = service.limits.timeout + _GRACE
                await asyncio.gather(serving, *([grpc[0].stop(grace)] if grpc else []))
                stopping.cancel()
                failed = keeping.done() and not keeping.cancelled() and keeping.exception()
                keeping.cancel()
                self._loader.shutdown(wait=False)
                await asyncio.get_running_loop().run_in_executor(None, service.close)
        if failed:
            raise failed

    async def _grpc(self) -> tuple[Any, int] | None:
        if self._listening.grpc_port is None:
            return None
        from .grpc_side import GrpcSide

        side = GrpcSide(self._service)
        try:
            return side, await side.start(self._listening.host, self._listening.grpc_port)
        except RuntimeError:
            where = f"{self._listening.host}:{self._listening.grpc_port}"
            raise XaiError(f"{where}: gRPC can't listen there; choose another --grpc-port") from None

    async def _keep(self, http: int, grpc: int | None) -> None:
        """Open the bundles, and open them again when asked or when they have changed."""
        loop, models = asyncio.get_running_loop(), self._service.models
        for name in models.names:
            await loop.run_in_executor(self._loader, models.load, name)
        self._on_ready(http, grpc)
        while True:
            asked = True
            try:
                async with asyncio.timeout(self._listening.watch):
                    await self._again.wait()
            except TimeoutError:
                asked = False
            self._again.clear()
            await loop.run_in_executor(self._loader, models.reload, not asked)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        wanted = {signal.SIGINT: self.stop, signal.SIGTERM: self.stop}
        if sys.platform != "win32":
            wanted[signal.SIGHUP] = self.reload
        added = []
        for number, handler in wanted.items():
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
                loop.add_signal_handler(number, handler)
                added.append(number)
        try:
            yield
        finally:
            for number in added:
                loop.remove_signal_handler(number)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns off the delay of small packets: 40 ms of a single client's 56.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(_BACKLOG)  # of two servers that bind one port, the second fails here
    except (OSError, OverflowError) as error:
        sock.close()
        why = getattr(error, "strerror", None) or error
        raise XaiError(f"{host}:{port}: can't listen there ({why}); choose another --host or --port") from None
    return sock
