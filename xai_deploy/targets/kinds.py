"""The protocol of a kind of target, and how the text, number or array that a caller writes becomes a target.

A kind is one class in one file of this package, registered under a name; nothing else is edited. The class recognises what a
caller may write for it, checks that before the network runs, and gives the seed after the network has run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import TargetError
from ..format.rows import Rows
from ..foundation.options import quoted, shortened
from ..foundation.registry import Registry
from .places import Seen
from .seeds import Array, Index, Seed

LAST = {"classes": "class", "vector": "class", "dense": "region", "rows": "box"}
"""Kind of scores -> the kind of target that reads what no other one recognises. It refuses what it does not recognise."""


class TargetValue:
    """Base class of targets that are neither numbers, texts nor arrays. A kind may define a subclass (see `Contrast`)."""

    needs: ClassVar[str] = ""
    """What the network has to give, for messages; "": any scores."""


One: TypeAlias = int | str | TargetValue | None
Target: TypeAlias = One | Sequence[One] | NDArray[np.integer] | NDArray[np.floating]
"""A class index, a label, "A vs B" or a `Contrast`, "not A" or a `Not`, or one of these per image. None or -1 is the predicted
class. "top3" gives the three best classes, one target each. Floats [classes] or [N,classes] are weights:
s = sum_c weight_c * logit_c.

A text that is a label always means that label; any other integer as a text is an index. So it is for A and B.
"""


@dataclass(frozen=True)
class ScoreSpace:
    """The scores of a network: what a target can name. A kind that needs more than this adds a field here.

    Attributes:
        classes: Number of classes; of numbers, if they are no classes.
        labels: One label per class, or empty.
        kind: The kind of scores, see `format.manifest.Explained`.
        normalised: Whether the numbers are an embedding of length 1.
        rows: What the rows of a detector hold; None for other kinds.
        embed: Gives the embedding of an image, [classes] float32; None if it can't be computed.
        files: Whether a target may name a file. A server refuses that, since the text comes from a stranger.
    """

    classes: int
    labels: Sequence[str] = ()
    kind: str = "classes"
    normalised: bool = False
    embed: Callable[[Any], Array] | None = None
    rows: Rows | None = None
    files: bool = True

    def refuse_file(self, named: object) -> None:
        """Refuse a file named in a target, unless targets may name files.

        Raises:
            TargetError: They may not.
        """
        if not self.files:
            raise TargetError(f"{named}: a target sent to a server names no file; send what is in it")

    def title(self, index: int) -> str:
        """A class as messages name it."""
        label = f" ({shortened(self.labels[index])})" if 0 <= index < len(self.labels) else ""
        return "the predicted class" if index < 0 else f"class {index}{label}"

    def is_label(self, text: str) -> bool:
        """Whether a text is a label; upper and lower case count as equal."""
        return any(label.casefold() == text.casefold() for label in self.labels)


class CheckedTarget(Protocol):
    """A target of n images, checked against the network."""

    @property
    def classes(self) -> Index | None:
        """The classes [n], -1 for the predicted class, if a graph can be run with them before the logits are known; else None.

        They are given if each image's seed is one class, which is the predicted class or is known without the logits. A graph
        that propagates back is then run with them before the logits are known."""

    @property
    def needs_logits(self) -> bool:
        """Whether `seed` asks for the logits."""

    def part(self, start: int, stop: int) -> CheckedTarget:
        """The same target of the images from `start` to `stop` - 1."""

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """The score to explain, of n images.

        Args:
            logits: Returns the logits [n,classes]; called only if the target depends on them.

        Raises:
            TargetError: The target can't be combined with the network's prediction, such as a class contrasted with itself.
        """
        ...

    def regions(self, seen: Seen) -> Array:
        """The weights of the regions that it asks about, for dense scores, [n,R,H,W]; each region's sum to 1.

        Raises:
            TargetError: A region is empty, or does not fit an image.
        """
        ...

    def titles(self, seed: Seed, label: Callable[[int], str], classes: int) -> tuple[str | None, ...]:
        """For each image what is explained, for people, if the classes of the seed do not say it.

        Args:
            seed: What `seed` gave.
            label: Gives the label of a class.
            classes: Number of classes.
        """
        ...


class Plain:
    """What most kinds of target share: they are for classes and numbers, and their seed's classes say what is explained."""

    scores: ClassVar[tuple[str, ...]] = ("classes", "vector")

    def regions(self, seen: Seen) -> Array:
        """See `CheckedTarget.regions`; there are none."""
        raise AssertionError(f"{type(self).__name__} does not read dense scores")

    def titles(self, seed: Seed, label: Callable[[int], str], classes: int) -> tuple[str | None, ...]:
        """See `CheckedTarget.titles`."""
        return (None,) * len(seed.classes)


class TargetKind(CheckedTarget, Protocol):
    """A class of checked targets: what `kinds` registers."""

    per_image: ClassVar[bool]
    """Whether it may be an item of a list with one target per image; `read` then gives one target for one image."""
    scores: ClassVar[tuple[str, ...]]
    """The kinds of scores that it is for."""

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> Sequence[CheckedTarget] | None:
        """Recognise and check what a caller has written.

        Args:
            written: Any object.
            images: n.
            space: What the network scores.

        Returns:
            One target or several, each of n images; None if it is not of this kind, so that another kind may recognise it.
            A text that is a label belongs to the kind "class".

        Raises:
            TargetError: It is of this kind, but does not fit this network or this number of images.
        """


kinds: Registry[type[TargetKind]] = Registry(__package__)


@dataclass(frozen=True, eq=False)
class PerImage:
    """A target for each image, of any kinds that are `per_image`.

    Attributes:
        parts: n targets of one image each.
    """

    parts: tuple[CheckedTarget, ...]

    @property
    def classes(self) -> Index | None:
        """See `CheckedTarget.classes`."""
        by_part = [part.classes for part in self.parts]
        known = [classes for classes in by_part if classes is not None]
        return np.concatenate(known) if len(known) == len(by_part) else None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        return any(part.needs_logits for part in self.parts)

    def part(self, start: int, stop: int) -> PerImage:
        """See `CheckedTarget.part`."""
        return PerImage(self.parts[start:stop])

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`."""

        def one(image: int) -> Seed:
            # A slice, not an index: a target of one image expects logits [1,classes].
            return self.parts[image].seed(lambda: logits()[image : image + 1])

        return Seed.join([one(image) for image in range(len(self.parts))])

    def regions(self, seen: Seen) -> Array:
        """See `CheckedTarget.regions`; an image with fewer regions than others repeats its last one."""
        each = [part.regions(seen.part(image, image + 1)) for image, part in enumerate(self.parts)]
        most = max(where.shape[1] for where in each)
        more = [((0, 0), (0, most - w.shape[1]), *((0, 0),) * (w.ndim - 2)) for w in each]
        return np.concatenate([np.pad(w, pad, mode="edge") for w, pad in zip(each, more, strict=True)])

    def titles(self, seed: Seed, label: Callable[[int], str], classes: int) -> tuple[str | None, ...]:
        """See `CheckedTarget.titles`."""
        rows = (seed.rows(np.array([image])) for image in range(len(self.parts)))
        return tuple(part.titles(row, label, classes)[0] for part, row in zip(self.parts, rows, strict=True))


def read(targets: Sequence[Target], images: int, space: ScoreSpace) -> list[CheckedTarget]:
    """Read and check all targets, before the network has run.

    Args:
        targets: What the caller wrote, each item for all images; one item may give several targets ("top3" gives three).
        images: n.
        space: What the network scores.

    Raises:
        TargetError: There is no target, a class that does not exist, a label that is not listed, something that is neither,
            another number of targets than of images, or weights that can't be used.
    """
    if is_single(targets):
        raise TargetError(f"targets are a list of classes and labels, not {quoted(targets)}")
    if len(targets) == 0:
        raise TargetError("no target was given")
    return [checked for written in targets for checked in _read(written, images, space)]


def read_one(target: Target, images: int, space: ScoreSpace) -> CheckedTarget:
    """`read` of what has to be one target.

    Raises:
        TargetError: It is no target, or several ("top3").
    """
    return _only(read([target], images, space), target)


def _only(checked: Sequence[CheckedTarget], written: object) -> CheckedTarget:
    if len(checked) != 1:
        raise TargetError(f"target {quoted(written)}: give one target, not {len(checked)}")
    return checked[0]


def is_single(target: object) -> bool:
    """Whether what a caller wrote is one target for all images, and not a list of one per image."""
    # Floats [classes] are one set of weights for all images; integers [n] are one class per image.
    if isinstance(target, np.ndarray):
        return target.ndim == (1 if target.dtype.kind == "f" else 0)
    return isinstance(target, (str, bytes)) or not isinstance(target, Sequence)


def _read(written: Any, images: int, space: ScoreSpace) -> Sequence[CheckedTarget]:
    by_name = {name: kind for name in kinds if (kind := kinds.get(name)) is not None and space.kind in kind.scores}
    by_class = by_name.pop(LAST[space.kind])
    if (checked := _first(by_name.values(), written, images, space)) is not None:
        return checked
    if is_single(written):
        return by_class.read(written, images, space) or ()
    several = list(written)
    if len(several) != images:
        raise TargetError(f"{len(several)} targets for {images} images; give one for all, or one per image")
    listed = [*(kind for kind in by_name.values() if kind.per_image), by_class]
    return [PerImage(tuple(_only(_first(listed, one, 1, space) or (), one) for one in several))]


def _first(
    asked: Iterable[type[TargetKind]], written: object, images: int, space: ScoreSpace
) -> Sequence[CheckedTarget] | None:
    """The targets of the first of these kinds that recognises what was written; None if no kind does."""
    return next((c for kind in asked if (c := kind.read(written, images, space)) is not None), None)
