"""Which class a map explains: from what the caller wrote to class indices per image."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import TargetError, UnknownClassError, UnknownLabelError

Target: TypeAlias = int | str | Sequence[int | str | None] | NDArray[np.integer] | None
"""A class index, a label, or one of these per image; None or -1: the predicted class; "top3": the three best, in turn.
"""

_TOP = re.compile(r"top([1-9]\d*)")


class Rank(int):
    """The class in place `rank` of each image's own prediction, counted from 0."""


def expand(targets: Sequence[Target], images: int, classes: int, labels: Sequence[str]) -> list[Target | Rank]:
    """Write "topK" out as K targets; check everything before the network has run.

    Raises:
        TargetError: No target, a class that does not exist, a label that is not listed, something that is neither, or not as many
            targets as images.
    """
    if is_single(targets):
        raise TargetError(f"targets are a list of classes and labels, not {targets!r}")
    if len(targets) == 0:
        raise TargetError("no target was given")
    expanded: list[Target | Rank] = []
    for target in targets:
        top = _TOP.fullmatch(target) if isinstance(target, str) and target not in labels else None
        if top:
            count = int(top.group(1))
            if count > classes:
                raise UnknownClassError(f"target {target!r}: the network has {classes} classes")
            expanded += [Rank(rank) for rank in range(count)]
        else:
            several = [target] if is_single(target) else list(target)  # type: ignore[arg-type]
            if not is_single(target) and len(several) != images:
                raise TargetError(f"{len(several)} targets for {images} images; give one for all, or one per image")
            for one in several:
                _index(one, classes, labels)
            expanded.append(target)
    return expanded


def resolve(target: Target | Rank, logits: NDArray[np.float32], labels: Sequence[str]) -> NDArray[np.int64]:
    """Class indices [N] for logits [N,classes]; `target` has passed `expand`."""
    count, classes = logits.shape
    if isinstance(target, Rank):
        order = np.argsort(-logits, axis=1, kind="stable")
        return order[:, target].astype(np.int64)
    if is_single(target):
        index = _index(target, classes, labels)
        return logits.argmax(axis=1) if index < 0 else np.full(count, index, dtype=np.int64)
    indices = np.array([_index(one, classes, labels) for one in target], dtype=np.int64)  # type: ignore[union-attr]
    return np.where(indices < 0, logits.argmax(axis=1), indices)


def is_single(target: object) -> bool:
    """Whether one target stands for all images."""
    if isinstance(target, np.ndarray):
        return target.ndim == 0
    return isinstance(target, (str, bytes)) or not isinstance(target, Sequence)


def _index(target: object, classes: int, labels: Sequence[str]) -> int:
    """One target as a class index; -1 for the predicted class."""
    if target is None:
        return -1
    if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
        if not -1 <= target < classes:
            raise UnknownClassError(f"class {int(target)} does not exist; the network has classes 0 to {classes - 1}")
        return int(target)
    if not isinstance(target, str):
        raise TargetError(f"a target is a class index or a label, not {target!r}")
    found = [i for i, label in enumerate(labels) if target and label.casefold() == target.casefold()]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise UnknownLabelError(f"label {target!r} stands for classes {', '.join(map(str, found))}; give the index")
    if not labels:
        raise UnknownLabelError(f"label {target!r}: this bundle has no labels; give a class index (0 to {classes - 1})")
    close = difflib.get_close_matches(target, labels, 3, cutoff=0.5)
    raise UnknownLabelError(
        f"no label {target!r}" + (f"; the nearest are {', '.join(map(repr, close))}" if close else "")
    )
