"""From a request's parts to its answer, whatever protocol it came in: read, wait, run, write."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from ..answer import Answer
from ..explainer import Explainer
from .asked import Whole
from .engine import Engine, Job, Ran
from .limits import Limits
from .metrics import Metrics
from .refusals import BROKEN, NOT_READY, Refusal, forget_frames, refusal
from .spans import Spans
from .versions import PREDICTION, Models, Version
from .work import Result, shares_a_batch

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Served:
    """One explanation that a client got: what a record keeps.

    Attributes:
        request: The request's id.
        model: The name that the bundle is served under.
        explainer: The explainer that made the answer.
        answer: The answer.
        prediction: What the network says of the image.
        image: The image as it was sent: the bytes of a file, or numbers.
        asked: The target as the client wrote it; None: the predicted class.
        beside: What the network took beside the image, by name.
    """

    request: str
    model: str
    explainer: Explainer
    answer: Answer
    prediction: list[dict[str, Any]]
    image: bytes | NDArray[Any]
    asked: Any
    beside: Mapping[str, Any]


class Service:
    """The models and the engine behind every protocol.

    Args:
        models: The bundles.
        limits: What the server takes on.
        on_answer: Called for every explanation before it is sent, in a thread. What it raises is logged, and the client gets 500:
            an answer that has to be recorded is not sent unrecorded.
    """

    def __init__(self, models: Models, limits: Limits, on_answer: Callable[[Served], None] | None = None) -> None:
        self.models = models
        self.limits = limits
        self.engine = Engine(limits, self._ran)
        self.metrics = Metrics(lambda: self.engine.under_way, lambda: self.engine.waiting)
        self.spans = Spans()
        self.draining = False
        self._on_answer = on_answer
        self.readers = ThreadPoolExecutor(2, "xai-serve-reader")

    @property
    def ready(self) -> bool:
        """Whether every bundle answers, and the server is not about to stop."""
        return self.models.ready and not self.draining

    async def answer(
        self,
        name: str,
        number: str | None,
        read: Callable[[Version], Whole],
        write: Callable[[Version, Whole, Result], T],
        track: Track,
    ) -> T:
        """Answer one request.

        Args:
            name: The model.
            number: Its version; None: the present one.
            read: Reads the request; in a thread.
            write: Writes the answer; in a thread.
            track: Follows the request.

        Raises:
            Refusal: It is not answered.
        """
        try:
            return await self._answer(name, number, read, write, track)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            raise self._refusal(name, error) from None

    def _refusal(self, name: str, error: BaseException) -> Refusal:
        """The refusal that an error means. What is not to be told a client is logged."""
        refused = refusal(error)
        if refused.status == BROKEN:
            log.error("%s: %s: %s", name, type(error).__name__, error, exc_info=log.isEnabledFor(logging.INFO))
        forget_frames(error)
        return refused

    async def _answer(
        self,
        name: str,
        number: str | None,
        read: Callable[[Version], Whole],
        write: Callable[[Version, Whole, Result], T],
        track: Track,
    ) -> T:
        loop = asyncio.get_running_loop()
        version = self.models.enter(name, number)
        track.model = name
        try:
            with self.engine.reading():
                whole = await loop.run_in_executor(self.readers, read, version)
                track.method = whole.asked.method or PREDICTION
                alone = not shares_a_batch(whole.asked, whole.extra["counts"])
                job = self.engine.submit(whole.asked, version, alone, track.started)
            result = await self._in_time(job)
            told = await loop.run_in_executor(
                self.readers, self._written, name, version, whole, result, write, track.id
            )
            self.engine.sent(job)
            return told
        finally:
            version.leave()

    async def _in_time(self, job: Job) -> Result:
        """The result, unless a run that has begun takes longer than the request has time: nothing is sent late.

        Raises:
            Refusal: It is not there in time.
        """
        try:
            async with asyncio.timeout(job.deadline - time.monotonic()):
                return await asyncio.wrap_future(job.result)
        except TimeoutError:
            line = f"was not done in {job.asked.timeout:.2g} s: its run took longer than expected; try again"
            raise Refusal(NOT_READY, line, job.seconds) from None

    def _written(
        self,
        name: str,
        version: Version,
        whole: Whole,
        result: Result,
        write: Callable[[Version, Whole, Result], T],
        request: str,
    ) -> T:
        written = write(version, whole, result)
        if self._on_answer is not None:
            asked = whole.asked
            for i, answers in enumerate(result.answers):
                beside = {key: column[i if len(column) > 1 else 0] for key, column in (asked.inputs or {}).items()}
                facts = result.predictions[i], asked.sources[i], asked.written[i], beside
                for one in answers:
                    self._on_answer(Served(request, name, version.explainer, one, *facts))
        return written

    def _ran(self, ran: Ran) -> None:
        name = next((one for one in self.models.names if self.models.current(one) is ran.version), "replaced")
        self.metrics.ran(name, ran)

    def close(self) -> None:
        """Answer what waits, and close the bundles."""
        self.engine.close()
        self.readers.shutdown()
        self.models.close()


class Track:
    """Follows one request: for metrics and spans.

    Args:
        service: The service.
        protocol: "v1", "v2" or "grpc".
        headers: The request's headers, in lower case.
    """

    def __init__(self, service: Service, protocol: str, headers: Mapping[str, str]) -> None:
        self.started = time.monotonic()
        self.model, self.method, self.status = "", "", 200
        self.id = headers.get("x-request-id", "")[:100] or uuid.uuid4().hex
        self._service, self._protocol = service, protocol
        self._span = service.spans.request(f"xai-serve {protocol}", headers)

    def __enter__(self) -> Track:
        self._set = self._span.__enter__()
        return self

    def refused(self, error: Refusal) -> None:
        """Note that the request is not answered."""
        self.status = error.status

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self.status = NOT_READY if isinstance(error[1], asyncio.CancelledError) else BROKEN
        for key, value in (
            ("xai.model", self.model),
            ("xai.method", self.method),
            ("http.response.status_code", self.status),
        ):
            self._set(key, value)
        self._span.__exit__(*error)
        seconds = time.monotonic() - self.started
        self._service.metrics.answered(self.model, self._protocol, self.method, self.status, seconds)
