"""Which class of a network a box's label means; the rules are the same for all formats.

1. A text that is a label of the network means that class: an exact match first, else a match that ignores upper and lower case.
2. Any other text that is a number is the class's index, counted from 0; so are the numbers of formats that have no texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import TruthError
from ...images.archive import label_of
from .annotations import Box, Boxes, Label
from .reading import quoted, whole

_SHOWN = 3  # number of the network's labels that a message shows


def classes_of(label: Label, labels: Sequence[str], classes: int) -> tuple[int, ...]:
    """The indices of the classes meant: none if the network has no such class, several if its labels repeat.

    Args:
        label: A box's label.
        labels: The network's labels, one for each class; empty if it has none.
        classes: How many classes it has.
    """
    if label is None or label == "":  # networks also have empty labels, which an empty label must not match
        return ()
    if isinstance(label, int):
        return (label,) if 0 <= label < classes else ()
    indices = [index for index, own in enumerate(labels) if own == label]
    indices = indices or [index for index, own in enumerate(labels) if own.casefold() == label.casefold()]
    if not indices and (index := whole(label)) is not None and index < classes:
        indices = [index]
    return tuple(indices)


def class_given(path: Path, labels: Sequence[str], classes: int) -> int:
    """The class that an image's archive gives for it (WebDataset's `.cls` or `.json`, Parquet's column of labels).

    Args:
        path: The image, ARCHIVE/NAME.
        labels: The network's labels.
        classes: How many classes it has.

    Returns:
        The class's index; of a network with one output 1 for yes, 0 for no.

    Raises:
        TruthError: It gives none, or none of this network.
    """
    label = label_of(path)
    if label is None:
        raise TruthError(
            f"{path}: has no class; --labelled takes KEY.cls or KEY.json of a tar file, or the column 'label' of a Parquet file"
        )
    if classes == 1:
        return _answer(path, label, labels)
    indices = classes_of(label, labels, classes)
    if len(indices) != 1:
        count = "no class" if not indices else f"{len(indices)} classes"
        raise TruthError(f"{path}: its label {quoted(str(label))} is {count} of the network, which has {classes}")
    return indices[0]


def _answer(path: Path, label: str | int, labels: Sequence[str]) -> int:
    """Yes (1) or no (0), as an image's label says it of the one output of a network: by its label or by the number."""
    if isinstance(label, str) and classes_of(label, labels, 0):
        return 1
    number = whole(label) if isinstance(label, str) else int(label)
    if number not in (0, 1):
        raise TruthError(
            f"{path}: its label {quoted(str(label))} is no answer of a network with one output, which are 1 (yes) and 0 (no)"
        )
    return number


def of_class(boxes: Iterable[Box], target: int, labels: Sequence[str], classes: int) -> tuple[Box, ...]:
    """The boxes whose label means the class `target`; see `classes_of`."""
    return tuple(box for box in boxes if target in classes_of(box.label, labels, classes))


def unknown(boxes: Boxes, network: str, labels: Sequence[str], classes: int) -> str | None:
    """A message if no box belongs to any class of a network; None if one does.

    Args:
        boxes: The boxes read.
        network: The network's name.
        labels: The network's labels.
        classes: How many classes it has.
    """
    if any(classes_of(label, labels, classes) for label in boxes.labels):
        return None
    if not boxes.labels:
        return f"{boxes.path}: no box has a label, so none is of the class explained; add labels, or take all boxes"
    known = f"the network's labels are {', '.join(map(quoted, labels[:_SHOWN]))}" + ", ..." * (len(labels) > _SHOWN)
    return (
        f"{boxes.path}: no label of its boxes is a class of {network}, for example not {quoted(boxes.labels[0])}; "
        + (known if labels else f"the network has no labels, only the numbers 0 to {classes - 1}")
        + "; use these as the boxes' labels, or take all boxes"
    )
