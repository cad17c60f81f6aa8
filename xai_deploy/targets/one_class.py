"""A class: s = the class's logit."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import TargetError, UnknownClassError, UnknownLabelError
from ..format.bundle import PREDICTED
from ..foundation.options import quoted
from .kinds import Plain, ScoreSpace, TargetValue, kinds
from .seeds import Array, Index, Seed

_FEW = 5  # so many labels are listed
_INDEX = re.compile(r"-?[0-9]{1,18}")  # 18 digits always fit into int64
_NUMBERED = re.compile(r"#([0-9]{1,18})")
_WORD = re.compile(r"\w+")
_MARKED = re.compile(r"[@#:]|^box|^top", re.IGNORECASE)  # what looks like a detection
_OF_ANOTHER = re.compile(
    r"(?:not )?(?:(?P<like>like .*)|(?P<box>box \d+(?::.*)?)|(?P<top>top\d+))", re.IGNORECASE | re.DOTALL
)
_GIVES = {
    "classes": "a score for each class",
    "vector": "numbers",
    "dense": "scores at each position",
    "rows": "detections",
}
_DETECTIONS = ("box 0", "CLASS#1", "@x,y,width,height", "box 0:left", "top3")


@kinds.register("class")
@dataclass(frozen=True, eq=False)
class ClassTarget(Plain):
    """One class per image, by its index or its label; None or -1 is the predicted class.

    Attributes:
        classes: [n], -1 for the predicted class.
    """

    per_image: ClassVar[bool] = True

    classes: Index

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[ClassTarget]:
        """See `TargetKind.read`; anything that is neither a class nor a label is refused."""
        return [cls(np.full(images, class_index(written, space), np.int64))]

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        return bool((self.classes == PREDICTED).any())

    def part(self, start: int, stop: int) -> ClassTarget:
        """See `CheckedTarget.part`."""
        return ClassTarget(self.classes[start:stop])

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`."""
        return Seed.of_class(or_predicted(self.classes, logits))


def or_predicted(classes: Index, logits: Callable[[], Array]) -> Index:
    """The classes [n], with -1 replaced by the predicted class; `logits` is called only if there is a -1."""
    return classes if classes.min() >= 0 else np.where(classes < 0, logits().argmax(axis=1), classes)


def class_index(written: object, space: ScoreSpace) -> int:
    """A class as its index; -1 for the predicted class.

    Raises:
        TargetError: There is no such class or label, several classes have the label, or it is neither an index nor a text.
    """
    if isinstance(written, str) and names_class(written, space) and not space.is_label(written):
        written = int(written.removeprefix("#"))
    if space.kind == "vector" and (written is None or (isinstance(written, int) and written == PREDICTED)):
        if space.classes > 1:
            raise TargetError(
                f"the network gives {space.classes} numbers, none of which is a predicted class: name one ('#3')"
                + (
                    ", or an image to compare with (Like, --like FILE); if they are scores of classes, export it with "
                    "--task classes"
                    if space.normalised
                    else ""
                )
            )
        return 0
    if written is None:
        return PREDICTED
    if isinstance(written, (int, np.integer)) and not isinstance(written, bool):  # a bool is an int in Python
        if not -1 <= written < space.classes:
            one, all_ = ("output", "outputs") if space.kind == "vector" else ("class", "classes")
            raise UnknownClassError(
                f"{one} {int(written)} does not exist; the network has {all_} 0 to {space.classes - 1}"
            )
        return int(written)
    if isinstance(written, TargetValue) and written.needs:
        raise TargetError(
            f"{type(written).__name__} needs a network that gives {written.needs}; this one gives {_GIVES[space.kind]}"
        )
    if isinstance(written, np.ndarray) and written.ndim and space.kind != "classes":
        raise TargetError(
            f"weights need a network that gives a score for each class; this one gives {_GIVES[space.kind]}"
        )
    if not isinstance(written, str):
        raise TargetError(f"a target is a class index or a label, not {quoted(written)}")
    return _labelled(written, space)


def names_class(text: str, space: ScoreSpace) -> bool:
    """Whether a text is a label or an index, of a class that may not exist."""
    return space.is_label(text) or _INDEX.fullmatch(text) is not None or _NUMBERED.fullmatch(text) is not None


def written_class(text: str, space: ScoreSpace) -> int | str:
    """A text that may be a class: an index as an integer, anything else as it is. A label goes before an index."""
    return int(text) if _INDEX.fullmatch(text) and not space.is_label(text) else text


def _labelled(text: str, space: ScoreSpace) -> int:
    """The class with this label; upper and lower case count as equal."""
    matches = [i for i, label in enumerate(space.labels) if text and label.casefold() == text.casefold()]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise UnknownLabelError(
            f"label {quoted(text)} stands for classes {', '.join(map(str, matches))}; give the index"
        )
    meant = _meant(text, space.kind)
    if space.kind == "vector":
        raise UnknownLabelError(
            f"{quoted(text)} names none of the network's {space.classes} numbers; name one by its place ('#0' to "
            f"'#{space.classes - 1}'){meant}"
        )
    if not space.labels:
        raise UnknownLabelError(
            f"label {quoted(text)}: this bundle has no labels; give a class index (0 to {space.classes - 1}){meant}"
        )
    import difflib  # late: only mistakes need it

    close = _with_words(text, space.labels)[:3] or difflib.get_close_matches(text, space.labels, 3, cutoff=0.5)
    few = len(space.labels) <= _FEW
    what = "the nearest are" if close else "there are" if few else f"there are {len(space.labels)}, such as"
    named = ", ".join(map(quoted, close or space.labels[: _FEW if few else 3]))
    there = f"; {what} {named}" if close or not meant else ""
    raise UnknownLabelError(f"no label {quoted(text)}{there}{meant}")


def _meant(text: str, kind: str) -> str:
    """What to say of a text that is written for networks of another kind, or as no detection is."""
    if kind == "rows" and _MARKED.search(text):
        return f"; a detection is written {', '.join(map(repr, _DETECTIONS))}"
    if "@" in text and kind not in ("dense", "rows"):
        return "; a region needs scores at each position"
    if (named := _OF_ANOTHER.fullmatch(text)) is None or (named["top"] and kind == "classes"):
        return ""
    if named["like"]:
        return "; images are compared by networks that give an embedding"
    return (
        "; boxes are found by detectors" if named["box"] else "; the best classes are those of a score for each class"
    )


def _with_words(text: str, labels: Sequence[str]) -> list[str]:
    """The labels that hold every word of a text, "tiger cat" for "cat"; those that end with it first: kinds of it."""
    words = set(_WORD.findall(text.casefold()))
    fitting = [label for label in labels if words and words <= set(_WORD.findall(label.casefold()))]
    return sorted(fitting, key=lambda label: not label.casefold().endswith(text.casefold()))
