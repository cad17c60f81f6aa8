"""The options --records... of xai-explain: a record of each explanation."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..answer import Answer
from ..errors import InputError
from ..explainer import Explainer
from ..records import Recorder
from ..targets import Target
from ..targets import read as read_targets


def add_records(parser: argparse.ArgumentParser) -> None:
    """Add the options --records..."""
    add = parser.add_argument
    add(
        "--records",
        metavar="DIR",
        help="keep a record of each explanation in this folder, for xai-records and xai-monitor",
    )
    add("--records-durable", action="store_true", help="go on only when each record is on the disk")
    add("--records-images", action="store_true", help="keep the images in the records, too, not their sha256 alone")


def refuse_alone(arguments: argparse.Namespace) -> None:
    """Refuse options of records without records.

    Raises:
        InputError: One is given without --records.
    """
    for name in ("records_durable", "records_images"):
        if getattr(arguments, name):
            raise InputError(f"--{name.replace('_', '-')} needs --records DIR")


class Recording:
    """The records of one call.

    Args:
        recorder: Where they go.
        explainer: What explains.
        targets: What the user asked for.
    """

    def __init__(self, recorder: Recorder, explainer: Explainer, targets: Sequence[Target]) -> None:
        self._recorder, self._explainer = recorder, explainer
        self._asked: list[Target] = []
        for one in targets:  # "top3" is three targets
            self._asked += [one] * (len(read_targets([one], 1, explainer.space)) if isinstance(one, str) else 1)

    @classmethod
    def of(cls, arguments: argparse.Namespace, explainer: Explainer, targets: Sequence[Target]) -> Recording | None:
        """What the command line asks for; None without --records.

        Raises:
            InputError: Another option is given without --records.
            RecordsError: The folder can't be made or written.
        """
        if arguments.records is None:
            refuse_alone(arguments)
            return None
        durable, images = arguments.records_durable, arguments.records_images
        return cls(Recorder(arguments.records, durable=durable, keep_images=images), explainer, targets)

    def add(
        self,
        path: Path,
        shown: Sequence[Answer],
        prediction: Sequence[Mapping[str, Any]],
        beside: Mapping[str, Any],
    ) -> None:
        """Record the maps of one image: by method, the targets varying fastest.

        Raises:
            RecordsError: They can't be written.
        """
        for i, answer in enumerate(shown):
            asked = self._asked[i % len(self._asked)]
            self._recorder.answered(self._explainer, answer, prediction, path, asked, beside=beside)

    def close(self) -> None:
        """Write what waits.

        Raises:
            RecordsError: They can't be written.
        """
        self._recorder.close()
