"""Recorder: keeps a record of each explanation, from any thread of any process."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast, get_args

from numpy.typing import NDArray

from .. import answer as answers
from ..answer import Answer
from ..errors import OptionError, RecordsError
from ..explainer import Explainer
from ..explanation import Explanation
from ..foundation.paths import path_of
from ..targets import Target
from ..targets.kinds import is_single
from .facts import Deployed, of_answer, of_arrays, of_image
from .record import encode
from .writer import Writer

WhenFull = Literal["wait", "drop"]


class Recorder:
    """Writes a record of each explanation to a folder: lines of JSON, each with the sha256 of the line before.

    Calls from several threads are safe, and several processes may write to one folder: each writes a chain of its own, a forked
    one too. Records wait in a queue, and a thread writes them after the answer. A process that is killed (kill -9) loses what is
    in its queue and nothing else; the chain's count file says how many records there should be. A process that ends, or calls
    `close`, loses nothing. `os._exit`, which ends the workers of `multiprocessing`, is no end in this sense: close before it.

    Args:
        folder: It is made if it does not exist; its parent must.
        durable: Return from each call only when its record is on the disk (fsync).
        keep_images: Keep the images themselves, too, not their sha256 alone.
        queue: How many records may wait.
        queue_bytes: How many bytes they may take.
        when_full: What a call does when the queue is full: "wait" for its place; or "drop" its record, which the next record
            counts as lost.
        file_bytes: A file that has reached this size gets no further records.

    Raises:
        RecordsError: The folder can't be made or written.
        OptionError: An argument is out of its range.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        durable: bool = False,
        keep_images: bool = False,
        queue: int = 1000,
        queue_bytes: int = 64 << 20,
        when_full: WhenFull = "wait",
        file_bytes: int = 64 << 20,
    ) -> None:
        for name, value in (("queue", queue), ("queue_bytes", queue_bytes), ("file_bytes", file_bytes)):
            if type(value) is not int or value < 1:
                raise OptionError(f"{name} is a whole number, at least 1, not {value!r}")
        if when_full not in get_args(WhenFull):
            raise OptionError(f"when_full is 'wait' or 'drop', not {when_full!r}")
        self.folder = path_of(folder, "the records' folder", RecordsError)
        self.keep_images = keep_images
        _make(self.folder)
        self._writer = Writer(self.folder, durable, queue, queue_bytes, when_full == "drop", file_bytes)
        self._deployed: weakref.WeakKeyDictionary[Explainer, Deployed] = weakref.WeakKeyDictionary()
        self._end = weakref.finalize(self, Writer.end, self._writer)  # also when Python ends

    def explained(
        self,
        explainer: Explainer,
        explanation: Explanation,
        images: Sequence[Any] | None = None,
        asked: Target = None,
        **fields: Any,
    ) -> list[str]:
        """Record each image of an explanation.

        Args:
            explainer: What made it.
            explanation: An explanation of N images.
            images: The N images, as for `of_image`: paths, bytes of files, arrays. None: they are not known.
            asked: The target as `explain` took it, for all images or one for each; None if the network chose it.
            **fields: What else the records shall say: texts, numbers, true, false or None.

        Returns:
            The records' ids.

        Raises:
            RecordsError: They can't be written.
        """
        count = len(explanation.target)
        if images is not None and len(images) != count:
            raise RecordsError(f"{len(images)} images are given for an explanation of {count}")
        ids = []
        for i in range(count):
            answer = answers.answer(explainer, explanation, i)
            ids.append(
                self.answered(
                    explainer,
                    answer,
                    answers.predicted(explainer, explanation, i, [answer]),
                    None if images is None else images[i],
                    asked if is_single(asked) else cast(Any, asked)[i],
                    fields=fields,
                )
            )
        return ids

    def answered(
        self,
        explainer: Explainer,
        answer: Answer,
        prediction: Sequence[Mapping[str, Any]],
        image: Any = None,
        asked: object = None,
        *,
        file: str | None = None,
        beside: Mapping[str, Any] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> str:
        """Record one answer.

        Args:
            explainer: What gave it.
            answer: One map of one image.
            prediction: What `answer.predicted` gives.
            image: The image: a path, the bytes of a file, an array; None if it is not known.
            asked: The target as it was asked for; None if the network chose it.
            file: The file's name, if `image` is no path.
            beside: What the network took beside this image, by name.
            fields: What else the record shall say.

        Returns:
            The record's id.

        Raises:
            RecordsError: It can't be written.
        """
        deployed = self._deployed.get(explainer)
        if deployed is None:
            deployed = self._deployed[explainer] = Deployed.of(explainer)
        seen = of_image(image, self.keep_images, file, beside)
        return self._put(of_answer(deployed, answer, prediction, seen, asked, fields or {}))

    def record(
        self,
        deployed: Deployed,
        raw: NDArray[Any],
        scores: NDArray[Any],
        method: str,
        *,
        target: int | None = None,
        given: Literal["logits", "probabilities"] = "logits",
        options: Mapping[str, Any] | None = None,
        signed: bool = False,
        image: Any = None,
        file: str | None = None,
        seconds: float | None = None,
        stated_error: Mapping[str, float] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> str:
        """Record a map that another program has computed, such as a model server with a fused graph of the bundle.

        Args:
            deployed: The network, see `Deployed.elsewhere`.
            raw: [h,w] or [d,h,w], the map.
            scores: [classes], what the network says of the image.
            method: The method's name.
            target: The class that was asked for; None or -1 if the network chose it.
            given: What the scores are.
            options: The method's options; a method of ours gets the defaults of the others.
            signed: 0 is neutral in the map, and values below it speak against the class.
            image: The image: a path, the bytes of a file, an array; None if it is not known.
            file: The file's name, if `image` is no path.
            seconds: How long it took.
            stated_error: What the method says of its own error.
            fields: What else the record shall say.

        Returns:
            The record's id.

        Raises:
            RecordsError: The arrays are no map and scores of this network, or the record can't be written.
            OptionError: A method of ours has no such option.
        """
        content = of_arrays(
            deployed,
            raw,
            scores,
            method,
            of_image(image, self.keep_images, file),
            target=target,
            given=given,
            options=options or {},
            signed=signed,
            seconds=seconds,
            stated_error=stated_error or {},
            fields=fields or {},
        )
        return self._put(content)

    def _put(self, content: dict[str, Any]) -> str:
        self._writer.put(encode(content))
        own: str = content["id"]
        return own

    @property
    def lost(self) -> int:
        """How many records were dropped because the queue was full."""
        return self._writer.lost

    def close(self) -> None:
        """Write what waits, and end the chain; later calls are refused.

        A signal handler may call this, whatever its thread is doing. A call that it interrupts has accepted its record, or raises.

        Raises:
            RecordsError: Records could not be written.
        """
        self._end.detach()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _make(folder: Path) -> None:
    """Make the folder, if it does not exist.

    Raises:
        RecordsError: It can't be made or written, or is a file.
    """
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise RecordsError(f"{folder}: is a file; records go into a folder") from None
    except FileNotFoundError:
        raise RecordsError(f"{folder}: the folder that it would lie in does not exist") from None
    except OSError as error:
        raise RecordsError(f"{folder}: can't be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RecordsError(f"{folder}: can't be written (Permission denied)")
