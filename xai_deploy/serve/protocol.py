"""HTTP for strangers: what a connection may send, and how long it may take."""

from __future__ import annotations

import asyncio
import sys

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .limits import SLOW

_LARGEST_HEAD = 65536  # bytes
_TOO_LARGE = f"The head of the request is larger than {_LARGEST_HEAD} bytes."


def most_connections() -> int:
    """How many connections may be open: half of the files that this process may have open, so that bundles can be opened, too."""
    if sys.platform == "win32":
        return 1 << 16
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(1, min(soft // 2, 1 << 16))


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with a head that is bounded: uvicorn waits for one for ever, and keeps as much of it as comes.

    It also keeps an answer that is not read for ever: so clients have as long to take one as they have to send a request.

    Clients that close their half of the connection after the request get their answer, too.
    """

    _head, _fields, _head_due = 0, 0, True
    _late: asyncio.TimerHandle | None = None
    _untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn types it
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            transport.abort()  # else strangers take all files, and asyncio tries thousands of times a second to take one more
        transport.set_write_buffer_limits(high=0)  # paused while anything waits to be taken
        self._await_head()

    def connection_lost(self, error: Exception | None) -> None:
        self._head_over()
        self._taken()
        super().connection_lost(error)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._untaken is None:
            # abort, since close would wait until all is taken
            self._untaken = asyncio.get_running_loop().call_later(SLOW, self.transport.abort)

    def resume_writing(self) -> None:
        self._taken()
        super().resume_writing()

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head_due and self._head > _LARGEST_HEAD and not self.transport.is_closing():
            self.send_400_response(_TOO_LARGE)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def _count(self, more: int) -> None:
        self._fields += more
        if self._fields > _LARGEST_HEAD:  # it came in one read, or after a body in parts
            raise ValueError("too large")  # an error of the parser's, which uvicorn answers

    def send_400_response(self, message: str) -> None:
        super().send_400_response(_TOO_LARGE if self._fields > _LARGEST_HEAD else message)

    def on_message_begin(self) -> None:
        self._fields = 0
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_over()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_over()
        self._head_due, self._head = True, 0
        self._late = asyncio.get_running_loop().call_later(SLOW, self._close_late)

    def _head_over(self) -> None:
        self._head_due = False
        if self._late is not None:
            self._late.cancel()

    def _close_late(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # the request before it is being answered
        else:
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio knows both
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        cycle.keep_alive = False
        return True
