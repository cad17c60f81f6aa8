"""Which class a map explains: from what the caller wrote to seeds."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import TargetError, UnknownClassError, UnknownLabelError
from ..format.bundle import PREDICTED
from .seeds import Seed


@dataclass(frozen=True)
class Contrast:
    """Why `target` rather than `versus`: the difference of their scores. Each is a class index or a label; None or -1: the
    predicted class."""

    target: int | str | None
    versus: int | str | None


One: TypeAlias = int | str | Contrast | None
Target: TypeAlias = One | Sequence[One] | NDArray[np.integer] | NDArray[np.floating]
"""A class index, a label, "A vs B" or a `Contrast`, or one of these per image; None or -1: the predicted class; "top3": the
three best, in turn; floats [classes] or [N,classes]: a seed by hand, the score being the sum of weight times logit.

A text that is a label is that label; A and B are labels, or else indices.
"""

_TOP = re.compile(r"top([1-9]\d*)")
_VERSUS = re.compile(r" vs ", re.IGNORECASE)
_INDEX = re.compile(r"-?[0-9]{1,18}")


class Rank(int):
    """The class in place `rank` of each image's own prediction, counted from 0."""


def expand(targets: Sequence[Target], images: int, classes: int, labels: Sequence[str]) -> list[Target | Rank]:
    """Write "topK" out as K targets; check everything before the network has run.

    Raises:
        TargetError: No target, a class that does not exist, a label that is not listed, something that is neither, not as many
            targets as images, or a seed that is none.
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
        elif (seed := _floats(target)) is not None:
            expanded.append(_check_seed(seed, images, classes))
        else:
            several = [target] if is_single(target) else list(target)  # type: ignore[arg-type]
            if not is_single(target) and len(several) != images:
                raise TargetError(f"{len(several)} targets for {images} images; give one for all, or one per image")
            for one in several:
                _pair(one, classes, labels)
            expanded.append(target)
    return expanded


def known_classes(target: Target | Rank, images: int, classes: int, labels: Sequence[str]) -> NDArray[np.int64] | None:
    """The classes [n] of a target before the network has run, -1 for the predicted class; None for a seed of another kind."""
    if isinstance(target, Rank):
        return np.full(images, PREDICTED, dtype=np.int64) if target == 0 else None
    if _floats(target) is not None:
        return None
    pairs = [_pair(one, classes, labels) for one in ([target] * images if is_single(target) else target)]  # type: ignore[union-attr]
    if any(versus is not None for _, versus in pairs):
        return None
    return np.array([index for index, _ in pairs], dtype=np.int64)


def needs_logits(target: Target | Rank, classes: int, labels: Sequence[str]) -> bool:
    """Whether `resolve` asks for the logits."""
    if isinstance(target, Rank) or _floats(target) is not None:
        return isinstance(target, Rank)
    pairs = [_pair(one, classes, labels) for one in ([target] if is_single(target) else target)]  # type: ignore[union-attr]
    return any(PREDICTED in pair for pair in pairs)


def resolve(
    target: Target | Rank, images: int, classes: int, labels: Sequence[str], logits: Callable[[], NDArray[np.float32]]
) -> Seed:
    """The seed of n images; `target` has passed `expand`.

    Args:
        target: What the caller wrote, for these images.
        images: n.
        classes: Number of classes.
        labels: One label per class, or nothing.
        logits: Gives the logits [n,classes]; asked only where the target depends on the prediction.

    Raises:
        TargetError: The predicted class of an image is contrasted with itself.
    """
    if isinstance(target, Rank):
        order = np.argsort(-logits(), axis=1, kind="stable")
        return Seed.of_class(order[:, target].astype(np.int64))
    if (seed := _floats(target)) is not None:
        return Seed.by_hand(np.broadcast_to(seed, (images, classes)).astype(np.float32))
    pairs = [_pair(one, classes, labels) for one in ([target] * images if is_single(target) else target)]  # type: ignore[union-attr]
    chosen = np.array([index for index, _ in pairs], dtype=np.int64)
    against = np.array([index if versus is None else versus for index, versus in pairs], dtype=np.int64)
    if min(chosen.min(), against.min()) < 0:
        predicted = logits().argmax(axis=1)
        chosen, against = np.where(chosen < 0, predicted, chosen), np.where(against < 0, predicted, against)
    contrasted = np.array([versus is not None for _, versus in pairs])
    if not contrasted.any():
        return Seed.of_class(chosen)
    if (same := contrasted & (chosen == against)).any():
        raise TargetError(f"class {chosen[same][0]} is an image's predicted class and would be contrasted with itself")
    seed_ = Seed.contrast(chosen, against)
    seed_.weights[~contrasted, 1] = 0
    return seed_


def is_single(target: object) -> bool:
    """Whether one target stands for all images."""
    if isinstance(target, np.ndarray):
        return target.ndim == (1 if target.dtype.kind == "f" else 0)
    return isinstance(target, (str, bytes)) or not isinstance(target, Sequence)


def _floats(target: object) -> NDArray[Any] | None:
    """A seed by hand, or None for any other target."""
    return target if isinstance(target, np.ndarray) and target.dtype.kind == "f" else None


def _check_seed(seed: NDArray[Any], images: int, classes: int) -> NDArray[np.float32]:
    if seed.shape not in ((classes,), (images, classes)):
        raise TargetError(
            f"a seed by hand has a weight for each class, [{classes}] or [{images},{classes}]; this one has shape "
            f"{list(seed.shape)}"
        )
    with np.errstate(over="ignore"):
        weights = seed.astype(np.float32)
    if not np.isfinite(weights).all():
        raise TargetError("a seed by hand holds NaN or infinity, as float32")
    if not weights.reshape(-1, classes).any(axis=1).all():
        raise TargetError("a seed by hand is all zeros, as float32: there is nothing to explain")
    return weights


def _pair(target: object, classes: int, labels: Sequence[str]) -> tuple[int, int | None]:
    """One target as a class index and the one it is contrasted with, or None; -1 for the predicted class.

    Raises:
        TargetError: See `expand`.
    """
    if isinstance(target, str) and not _is_label(target, labels):
        target = _read_contrast(target, labels) or target
    if not isinstance(target, Contrast):
        return _index(target, classes, labels), None
    index, versus = (_index(one, classes, labels) for one in (target.target, target.versus))
    if index == versus:
        what = "the predicted class" if index == PREDICTED else f"class {target.target!r}"
        raise TargetError(f"{what} is contrasted with itself")
    return index, versus


def _read_contrast(text: str, labels: Sequence[str]) -> Contrast | None:
    """The two sides of "A vs B", or None where it is something else; labels may hold " vs " themselves.

    Raises:
        TargetError: It can be read in two ways.
    """
    cuts = [(text[: m.start()], text[m.end() :]) for m in _VERSUS.finditer(text)]
    cuts = [cut for cut in cuts if all(cut)]
    known = [cut for cut in cuts if all(_INDEX.fullmatch(side) or _is_label(side, labels) for side in cut)]
    if len(known) > 1:
        raise TargetError(f"target {text!r} can be read in {len(known)} ways; give indices")
    if not cuts:
        return None
    return Contrast(*(int(s) if _INDEX.fullmatch(s) and not _is_label(s, labels) else s for s in (known or cuts)[0]))


def _is_label(text: str, labels: Sequence[str]) -> bool:
    return any(label.casefold() == text.casefold() for label in labels)


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
