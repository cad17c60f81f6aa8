"""What a method is, and what it may ask of a forward pass.

A method is a frozen dataclass and names `Method` as its base: its fields are its options, `maps` is its formula. To add
one, add one file that registers one; nothing else is edited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Protocol, TypeVar

from numpy.typing import NDArray

from ..errors import NotApplicableError, OptionError, UnknownMethodError
from ..format.bundle import Manifest
from ..foundation.options import build, unknown
from ..foundation.registry import Registry
from ..probabilities import softmax
from ..targets.seeds import Array, Index, Seed

__all__ = [
    "GRADIENT_ADVICE",
    "INPUT_ADVICE",
    "Array",
    "Forward",
    "Index",
    "Method",
    "Seed",
    "check_epsilon",
    "create",
    "methods",
    "require_roles",
    "require_varying_score",
    "scored",
    "softmax",
]

T = TypeVar("T")

GRADIENT_ADVICE = {"gradient": "export the network again, without --roles or with --roles gradient"}
INPUT_ADVICE = {"input-gradient": "export the network again with --input-gradient"}


class Forward(Protocol):
    """One chunk of n images on its way through the network; each part is computed when first asked for, and once."""

    @property
    def x(self) -> NDArray[Any]:
        """The network's input, [n, ...] in its own layout and dtype."""

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the network's input in pixels."""

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

    def has(self, role: str) -> bool:
        """Whether the bundle holds a graph of this role."""

    def probabilities(self, logits: Array) -> Array:
        """The network's own probabilities [..., classes] of its logits.

        Raises:
            NotApplicableError: It has none.
        """

    def tail(self, activation: Array, image: Index) -> Array:
        """Logits [b,classes] of other activations [b,K,h,w]; row i takes the side tensors of image `image[i]`."""

    def network(self, x: NDArray[Any]) -> Array:
        """Logits [b,classes] of other inputs [b, ...]: one full inference."""

    def masked_input(self, image: int, masks: Array) -> NDArray[Any]:
        """Image `image`, in the network's layout, times each mask of [b,H,W] in [0,1]: [b, ...]."""

    def pixel_logits(self, image: int) -> Array:
        """From `pixelwise-tail`: A_p . w_c at every position p of image `image`, [h*w,classes]; no bias."""

    def classifier(self) -> Array:
        """From `pixelwise-tail`: the weight [classes,K] of the linear layer behind global average pooling."""

    def backward(self, role: str, seed: Seed, offset: float = 0.0) -> Array:
        """What arrives from the seed, `offset` added to the weight of every class: from `gradient` d(s . logits)/d(activation)
        [n,K,h,w], from `relevance` the activation's relevance; from graphs that start at the image, as `input-gradient`, the
        same there, [n, ...] in the input's own layout."""

    def at(self, x: NDArray[Any]) -> Forward:
        """The forward pass of other inputs [b, ...]."""

    def channels_first(self, x: NDArray[Any]) -> NDArray[Any]:
        """An array of the input's shape [n, ...] as [n,C,H,W]."""

    @property
    def black(self) -> Array:
        """A black image as the network gets it, [1, ...]."""

    def progress(self, steps: Iterable[T], total: int, label: str) -> Iterator[T]:
        """The steps, shown as a progress bar where one is wanted."""


class Method(Protocol):
    """An explanation method with its options fixed. A method states below its options what differs from the values here.

    Attributes:
        slow: It costs tens of inferences or more, so it runs only if a user names it.
        several_classes: It sets one class against the others, so it is not defined for a network of one class.
        by_position: Its map holds the score of one position at a time. Such a map may be constant because all scores lie
            within one step of a quantised network; see `constant_maps`.
    """

    slow: ClassVar[bool] = False
    several_classes: ClassVar[bool] = False
    by_position: ClassVar[bool] = False

    @property
    def roles(self) -> Mapping[str, str]:
        """The graphs it needs beyond head and tail -> what to tell the user where the bundle lacks one."""

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Raw maps, before resize and min-max.

        Args:
            forward: The chunk of n images.
            seeds: T of them, each for all n images.

        Returns:
            [T,n,h,w] float32 (a method whose formula is at input size gives [T,n,H,W]).
        """
        ...

    def offset(self, classes: int) -> float | None:
        """What is added to the weight of every class before one class is propagated back; the explainer may then run that
        pass before the logits are known. None if it depends on the logits."""
        return 0.0


methods: Registry[type[Method]] = Registry(__package__)


def create(name: str, options: Mapping[str, object]) -> Method:
    """The method `name` with these options.

    Args:
        name: As registered, for example "score-cam".
        options: Field name -> value; strings are read as the field's type, so a command line can hand them on.

    Raises:
        UnknownMethodError: No such method.
        OptionError: No such option, or a value it does not take.
    """
    return _build(name, options) if options else _with_defaults(name)


@lru_cache  # a method is immutable, and most requests take the defaults
def _with_defaults(name: str) -> Method:
    return _build(name, {})


def _build(name: str, options: Mapping[str, object]) -> Method:
    cls = methods.get(name)
    if cls is None:
        raise UnknownMethodError(unknown("method", name, methods))
    return build(cls, name, options)


def scored(score: str, logits: Array, forward: Forward) -> Array:
    """The scores that a method with the option `score` explains.

    Args:
        score: "logit"; "softmax" of the logits, whatever the network is; or "probability", the network's own.
        logits: [..., classes].
        forward: A forward pass of the network.

    Returns:
        The same shape.

    Raises:
        NotApplicableError: The score is "probability", and the network has none.
    """
    if score == "logit":
        return logits
    return softmax(logits) if score == "softmax" else forward.probabilities(logits)


def require_roles(name: str, method: Method, manifest: Manifest) -> None:
    """Refuse a method whose graphs the bundle does not hold.

    Raises:
        NotApplicableError: Says which graph is missing, why, and what to do.
    """
    for role, advice in method.roles.items():
        if role not in manifest.graphs:
            reason = manifest.left_out.get(role, advice)
            raise NotApplicableError(f"{name}: this bundle has no {role!r} graph; {reason}")


def applicable(manifests: Sequence[Manifest]) -> list[str]:
    """The methods that are defined for all these bundles, but for those that are `slow`: tens of inferences or more.

    A bundle has to hold a method's graphs, and several classes where a method sets one against the others.
    """
    single = any(manifest.classes == 1 for manifest in manifests)
    return [
        name
        for name in methods
        if not (method := create(name, {})).slow
        and not (single and method.several_classes)
        and all(role in manifest.graphs for manifest in manifests for role in method.roles)
    ]


def check_epsilon(name: str, eps: float | None) -> None:
    """Refuse what is no epsilon.

    Raises:
        OptionError: It is not positive.
    """
    if eps is not None and not eps > 0:
        raise OptionError(f"{name}: eps is a small positive number, or none; not {eps}")


def require_varying_score(name: str, score: str, forward: Forward) -> None:
    """Refuse a softmax over a single class, and probabilities of a network that has none.

    Raises:
        NotApplicableError: Says what to do.
    """
    if score == "softmax" and forward.logits.shape[-1] == 1:
        raise NotApplicableError(f"{name}: score 'softmax' is always 1 for a network of one class; give score='logit'")
    if score == "probability":
        try:
            forward.probabilities(forward.logits)
        except NotApplicableError as error:
            raise NotApplicableError(f"{name}: {error}; give score='logit'") from None
