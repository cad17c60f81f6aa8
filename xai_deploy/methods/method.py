"""The protocol of a method, and the protocol of the forward pass that a method asks for tensors.

[n,K,h,w] and [n,h,w] stand for volumes, too, whose positions have three axes: [n,K,d,h,w] and [n,d,h,w]. All axes after the
channels are positions.

A method is a frozen dataclass with `Method` as its base: its fields are its options, `maps` is its formula. To add a
method, add one file that registers it; nothing else is edited.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import NotApplicableError, OptionError, UnknownMethodError
from ..format.bundle import Input, Manifest
from ..foundation.options import build, unknown
from ..foundation.registry import Registry
from ..probabilities import Score, has_probabilities, softmax, why_none
from ..targets.seeds import Array, Index, Seed
from .across import class_for, seen_by

__all__ = [
    "GRADIENT_ADVICE",
    "INPUT_ADVICE",
    "Array",
    "Forward",
    "Index",
    "Method",
    "MethodSet",
    "Score",
    "Seed",
    "check_epsilon",
    "create",
    "lacks",
    "left_out",
    "methods",
    "require_roles",
    "require_varying_score",
    "score_explained",
    "softmax",
    "why_no_score",
]

T = TypeVar("T")
MethodSet: TypeAlias = Literal["all", "fast"]

GRADIENT_ADVICE = {"gradient": "export the network again, without --roles or with --roles gradient"}
INPUT_ADVICE = {"input-gradient": "export the network again with --input-gradient"}


class Forward(Protocol):
    """The forward pass of one chunk of n images; each part is computed once, when a method first asks for it."""

    @property
    def x(self) -> NDArray[Any]:
        """The network's input, [n, ...] in its own layout and dtype."""

    @property
    def image_size(self) -> tuple[int, ...]:
        """(H, W) of the network's input in pixels; (D, H, W) for volumes."""

    @property
    def spec(self) -> Input:
        """How an image becomes the network's input."""

    @property
    def sizes(self) -> Sequence[tuple[int, int] | None]:
        """Per image, (height, width) of the photo; None for floats and prepared inputs. Empty if nobody has said."""

    @property
    def batch_size(self) -> int:
        """The largest batch that a graph should be given."""

    @property
    def activation(self) -> Array:
        """The activation at the target layer, [n,K,h,w]."""

    @property
    def logits(self) -> Array:
        """The logits, [n,classes]."""

    @property
    def classes(self) -> int:
        """How many classes the network has."""

    @property
    def compared(self) -> int:
        """Among how many classes a class can be compared with the others; 0 if the network's numbers are no classes."""

    @property
    def ends_in(self) -> str:
        """What makes the network's output of its logits: the manifest's `activation`."""

    def weights(self, seed: Seed, offset: Array | float = 0.0) -> Array:
        """The seed as a weight for each entry of the scores, [n,entries].

        Args:
            seed: What is explained.
            offset: Added to the weights of all classes, for dense scores of those in the regions explained; [n], or one for all.
        """

    def has(self, role: str) -> bool:
        """Whether the bundle holds a graph of this role."""

    def probabilities(self, logits: Array) -> Array:
        """The network's own probabilities [..., classes] of its logits.

        Raises:
            NotApplicableError: The network's output is not a probability.
        """

    def tail(self, activation: Array, image: Index, score: Score = "logit") -> Array:
        """Scores [b,classes] of other activations [b,K,h,w]; row i takes the side tensors of image `image[i]`.

        Args:
            score: "logit"; "softmax" of the logits, for any network; or "probability", the network's own.
        """

    def network(self, x: NDArray[Any], image: Index, score: Score = "logit") -> Array:
        """Scores [b,classes] of other inputs [b, ...]: one full inference; row i is made of image `image[i]`."""

    def scored(self, score: Score, logits: Array) -> Array:
        """Logits [..., classes] as scores.

        Raises:
            NotApplicableError: The score is "probability", and the network has none.
        """

    def masked_input(self, image: int, masks: Array, base: Array | None = None) -> NDArray[Any]:
        """Image `image`, in the network's layout, times each mask of [b,H,W] in [0,1]: [b, ...].

        Args:
            base: What shows in its place, times 1 - mask: an input [1, ...]; None for zeros.
        """

    def pixel_logits(self, image: int) -> Array:
        """From `pixelwise-tail`: A_p . w_c at every position p of image `image`, [h*w,classes]; no bias."""

    def window_parts(self) -> Sequence[tuple[Index, Index]]:
        """The rows [R] and columns [S] of positions that `windowed-tail` takes at once, until all are taken; some twice."""

    @property
    def window_share(self) -> float | None:
        """The multiply-adds of `windowed-tail` for all positions, as a share of those of one tail for each; None: not known."""

    def window_logits(self, image: int, rows: Index, columns: Index) -> Array:
        """From `windowed-tail`: the logits if only one position of the activation of image `image` is not 0, [R*S,classes]."""

    def classifier(self) -> Array:
        """From `pixelwise-tail`: the weight [classes,K] of the linear layer that follows global average pooling."""

    def backward(self, role: str, seed: Seed, offset: float = 0.0) -> Array:
        """The result of propagating the seed back, with `offset` added to the weight of every class.

        `gradient` gives d(s . logits)/d(activation) [n,K,h,w]; `relevance` gives the activation's relevance. Graphs that
        start at the image, such as `input-gradient`, give the same at the input, [n, ...] in the input's own layout."""

    def backward_from_logits(self, role: str, seed: Seed) -> Array:
        """As `backward`, but each logit starts with its weight in the seed times the logit itself."""

    def cell_scores(self) -> list[Array]:
        """Of a detector, the probability of each class in the cells of each level, [n,classes,anchors,h,w]; see `Rows.grids`. Of
        dense scores one level of one anchor: the network's own output.

        Raises:
            NotApplicableError: The detector's rows are no cells, the output holds codes, or the network is another one.
        """

    def own_map(self) -> Array:
        """From `own-map`: the map that the network itself makes, [n,h,w]."""

    def at(self, x: NDArray[Any], image: Index) -> Forward:
        """The forward pass of other inputs [b, ...]; row i is made of image `image[i]`."""

    def channels_first(self, x: NDArray[Any]) -> NDArray[Any]:
        """An array of the input's shape [n, ...] as [n,C,H,W]."""

    def arranged(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Values [n,C,H,W] in the input's shape [n, ...] and dtype, 8-bit pixels rounded; the inverse of `channels_first`."""

    @property
    def black(self) -> Array:
        """A black image after preprocessing, [1, ...]."""

    def report(self, name: str, values: NDArray[np.floating]) -> None:
        """Keep what a method knows of its own maps, a number for each, [T,n]; see `Explanation.diagnostics`."""

    def progress(self, steps: Iterable[T], total: int, label: str) -> Generator[T, None, None]:
        """The steps, shown as a progress bar if the user wants one."""


class Method(Protocol):
    """An explanation method with its options fixed. A method overrides, after its options, the values here that differ.

    Attributes:
        shows: What its map is made of, in a line, for `xai-explain --list-methods`.
        plainly: What a bright place means, in a sentence for people who know no networks; the card gives it, or `shows`.
        passes: What it costs with its defaults, in inferences of the whole network or of the tail; going back costs as much again.
        slow: It costs tens of inferences or more, so it runs only if a user names it.
        several_classes: It compares one class with the others, so it is not defined for a network of one class.
        by_position: Its map holds the score of one position at a time. Such a map may be constant because all scores lie
            within one step of a quantised network; see `constant_maps`.
        at_pixels: It goes back to the pixels of the input. A few of them may outshine all others, so pictures clip them.
        needs_layer: It reads the activation at the layer, so it needs a network that is cut.
        of_sides: It explains a side of a detection's box, too, not the class alone.
        sums_products: Its map is the sum over the channels of gradient times activation; see `faithful.PRODUCTS`.
    """

    shows: ClassVar[str] = "-"
    plainly: ClassVar[str] = ""
    passes: ClassVar[str] = "-"
    slow: ClassVar[bool] = False
    several_classes: ClassVar[bool] = False
    by_position: ClassVar[bool] = False
    at_pixels: ClassVar[bool] = False
    needs_layer: ClassVar[bool] = True
    of_sides: ClassVar[bool] = True
    sums_products: ClassVar[bool] = False

    @property
    def roles(self) -> Mapping[str, str]:
        """The graphs it needs besides head and tail -> the advice to the user if the bundle lacks one."""

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Raw maps, before resize and min-max.

        Args:
            forward: The chunk of n images.
            seeds: T seeds, each for all n images.

        Returns:
            [T,n,h,w] float32 (a method whose formula is at input size gives [T,n,H,W]).
        """
        ...

    def why_not(self, manifest: Manifest) -> str | None:
        """Why it is not defined for a network whose bundle has its graphs; None if it is defined."""
        if self.several_classes and manifest.classes == 1:
            return "it compares classes, and the network has one"
        return None

    def offset(self, classes: int) -> float | None:
        """The value added to the weight of every class before one class is propagated back; None if it depends on the logits.

        If it does not depend on them, the explainer may run the backward pass before the logits are known.

        Args:
            classes: `Forward.compared`.
        """
        return 0.0

    def signed(self, contrast: bool) -> bool:
        """Whether 0 is neutral in its raw maps, and values below 0 speak against the class explained.

        Args:
            contrast: The seed has weights above and below 0. Scores of masked inputs are not signed for that: of one class or of
                two, they hold a constant that moves the neutral value away from 0.
        """
        return False


methods: Registry[type[Method]] = Registry(__package__)


def create(name: str, options: Mapping[str, object]) -> Method:
    """The method `name` with these options.

    Args:
        name: As registered, for example "score-cam".
        options: Field name -> value; a string is parsed as the field's type, so a command line can pass its text.

    Raises:
        UnknownMethodError: No method has this name.
        OptionError: The method has no such option, or does not accept the value.
    """
    return _build(name, options) if options else _with_defaults(name)


@lru_cache  # a method is immutable, and most requests take the defaults
def _with_defaults(name: str) -> Method:
    return _build(name, {})


def _build(name: str, options: Mapping[str, object]) -> Method:
    cls = methods.get(name)
    if cls is None:
        if name in get_args(MethodSet):
            raise UnknownMethodError(
                f"{name!r} is a set of methods; Explainer.methods({name!r}) gives it for explain_many"
            )
        raise UnknownMethodError(unknown("method", name, methods))
    made: Method = build(class_for(cls, name, options), name, options)
    return made


def score_explained(score: Score, seed: Seed, scores: Array) -> Array:
    """The score of a seed, of scores of that kind: [n,...,classes] -> [n,...]."""
    return seed.of(scores) if score == "logit" else seed.of_probabilities(scores)


def lacks(method: Method, manifest: Manifest) -> tuple[str, str] | None:
    """What a method needs and a bundle lacks ("no 'gradient' graph"), and why or what to do; None if nothing."""
    if method.needs_layer and not manifest.is_cut:
        return "no layer", "its network is not cut: export it again with --split LAYER"
    for where, seen in seen_by(method, manifest):
        for role, advice in method.roles.items():
            if role not in seen.graphs:
                return f"no {role!r} graph{where}", seen.left_out.get(role, advice)
    return None


def require_roles(name: str, method: Method, manifest: Manifest) -> None:
    """Refuse a method whose graphs the bundle does not hold.

    Raises:
        NotApplicableError: A graph is missing, or the layer; the message says which one, why, and what to do.
    """
    if (missing := lacks(method, manifest)) is not None:
        raise NotApplicableError(f"{name}: this bundle has {'; '.join(missing)}")


def applicable(manifests: Sequence[Manifest], which: MethodSet = "fast") -> list[str]:
    """The methods of a set that are defined for all these bundles; see `left_out` for the others."""
    without = left_out(manifests, which)
    return [name for name in methods if name not in without]


def left_out(manifests: Sequence[Manifest], which: MethodSet) -> dict[str, str]:
    """The methods that a set leaves out for these bundles, and why: name -> reason.

    Args:
        manifests: A method has to be defined for all of them.
        which: "all", or "fast": all but those that are `slow` (tens of inferences or more).
    """
    reasons = {}
    for name in methods:
        method = create(name, {})
        missing = (": ".join(what) for manifest in manifests if (what := lacks(method, manifest)) is not None)
        undefined = (reason for manifest in manifests if (reason := method.why_not(manifest)) is not None)
        slow = ["slow: tens of inferences or more"] if which == "fast" and method.slow else []
        if (reason := next(itertools.chain(slow, missing, undefined), None)) is not None:
            reasons[name] = reason
    return reasons


def check_epsilon(name: str, eps: float | None) -> None:
    """Refuse an epsilon that is not positive.

    Raises:
        OptionError: It is not positive.
    """
    if eps is not None and not eps > 0:  # `not >` also refuses NaN
        raise OptionError(f"{name}: eps is a small positive number, or none; not {eps}")


def why_no_score(score: str, manifest: Manifest) -> str | None:
    """Why a network has no such score that varies: a softmax over one class, or probabilities of a network without; else None."""
    if manifest.scores.kind == "vector":
        return "score 'softmax' is for classes; give score='logit'" if score == "softmax" else None
    if manifest.scores.kind == "rows" and score == "softmax":
        return "score 'softmax' is for classes; a detection is matched (score='probability') or read by its logit (score='logit')"
    rows = manifest.scores.rows
    if score == "logit" and rows is not None and (manifest.choices or rows.chosen_inside):
        by = "suppression" if rows.chosen_inside else "TopK"
        return (
            f"this network chooses its rows anew in each run ({by}), so that the logit of a row can't be followed; "
            "score='probability' looks for the same detection"
        )
    if score == "softmax" and manifest.classes == 1:
        return "score 'softmax' is always 1 for a network of one class; give score='logit'"
    if score == "probability" and not has_probabilities(manifest.activation, manifest.classes):
        return f"{why_none(manifest.activation)}; give score='logit'"
    return None


def require_varying_score(name: str, score: str, forward: Forward) -> None:
    """Refuse a softmax over a single class, and probabilities of a network that has none.

    Raises:
        NotApplicableError: The score is one of these; the message says what to do.
    """
    if score == "softmax" and forward.classes == 1:
        raise NotApplicableError(f"{name}: score 'softmax' is always 1 for a network of one class; give score='logit'")
    if score == "probability":
        try:
            forward.probabilities(forward.logits[..., : forward.classes])
        except NotApplicableError as error:
            raise NotApplicableError(f"{name}: {error}; give score='logit'") from None
