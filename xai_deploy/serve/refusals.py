"""Why a request is not answered: a status, one line, and when to come again."""

from __future__ import annotations

import math

from ..errors import (
    ClosedError,
    ImageTooLargeError,
    InputError,
    MethodError,
    NonFiniteOutputError,
    RecordsError,
)
from ..foundation.printable import printable

BAD_REQUEST, NOT_FOUND, NOT_ALLOWED, SLOW_BODY, TOO_LARGE = 400, 404, 405, 408, 413
UNFIT, TOO_MANY, BROKEN, NOT_READY = 422, 429, 500, 503

_LONGEST = 1000  # characters of a message


class Refusal(Exception):
    """A request is not answered.

    Attributes:
        status: The HTTP status; gRPC's codes follow from it.
        line: What is wrong, where, what to do: one line.
        retry_after: Seconds after which the same request may be answered; None if it never will be.
    """

    def __init__(self, status: int, line: str, retry_after: float | None = None) -> None:
        text = printable(" ".join(line.split()))
        # what a client sent stands first, and what to do last
        half = _LONGEST // 2
        super().__init__(text if len(text) <= _LONGEST else f"{text[:half]} ... {text[5 - half :]}")
        self.status = status
        self.line = str(self)
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))


def forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error and of those that it came from.

    A job holds its error, and the error's frames hold the job: what a refused request sent would stay in memory until a garbage
    collection finds the circle.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def refusal(error: BaseException) -> Refusal:
    """The refusal that an error of the library means to a client.

    What the client sent is at fault in all but errors of the runtime, of the bundle and of ours, whose lines may name paths of the
    server: they are for its log. A result that is not finite comes from an input that makes the network overflow.
    """
    match error:
        case Refusal():
            return error
        case ImageTooLargeError():
            return Refusal(TOO_LARGE, str(error))
        case InputError() | MethodError():
            return Refusal(BAD_REQUEST, str(error))
        case NonFiniteOutputError():
            return Refusal(UNFIT, str(error))
        case ClosedError():
            return Refusal(NOT_READY, "the server is stopping; ask another one", 1)
        case MemoryError():
            return Refusal(TOO_LARGE, "not enough memory for this request; send fewer or smaller images")
        case RecordsError():
            return Refusal(BROKEN, "the answer can't be recorded, so it is not sent; the server's log says why")
        case _:
            return Refusal(BROKEN, f"unexpected {type(error).__name__}; the server's log says more")
