"""The protocol of a metric, and the case that a metric measures.

A metric is a frozen dataclass: its fields are its options, `measure` is its formula. To add a metric, add one file that
registers it; nothing else is edited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ... import resample
from ...baselines import as_input
from ...detections import Detection
from ...errors import NotApplicableError, UnknownMetricError
from ...explainer import Explainer
from ...foundation.options import build, unknown
from ...foundation.registry import Registry
from ...preprocess import Prepared
from ...probabilities import has_probabilities, probabilities
from ...settle import likeness, rows_of, scores
from ...targets import Seed, Settled

T = TypeVar("T")
Array: TypeAlias = NDArray[np.float32]
Numbers: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]
Region: TypeAlias = NDArray[np.bool_]
Masking = Literal["input", "image"]
"""What a map is multiplied with: the preprocessed input, or the image before normalisation, in which 0 is black."""


@dataclass(frozen=True)
class Column:
    """One figure per image, and how it becomes a figure of the data set.

    Attributes:
        name: The heading in tables.
        better: Whether higher or lower is better; "" if neither is.
        percent: The figure is in percent.
        of_means: Computes the data set's figure from the means of other columns, by name; None: the mean over the images.
    """

    name: str
    better: Literal["higher", "lower", ""]
    percent: bool = False
    of_means: Callable[[Mapping[str, Numbers]], Numbers] | None = None


@dataclass(eq=False)
class Case:
    """The maps of n images by one method, each for one class.

    Attributes:
        explainer: The network.
        method: The method's name and options.
        x: The network's inputs [n, ...], in its own layout and dtype.
        logits: [n,classes].
        target: The classes explained, [n].
        heatmaps: [n,H,W] in [0,1]; of volumes [n,D,H,W], here and in all that follows.
        regions: The object's pixels [H,W] from its boxes; None for an image without boxes.
        masks: The object's pixels [H,W] from its mask; None for an image without a mask.
        randomised: The same network several times, with more and more of its weights random, beginning at the output.
        settled: What is explained, of a network that gives no classes: regions, numbers, similarities, detections. p is then the
            region's mean probability, if the network has probabilities, else the number explained; of a detection D-RISE's score.
        found: The detection explained in each image, its box in pixels of the network's input; none for other networks.
        beside: What the network takes beside x, by name, [n, ...] each; whatever is done to x, it stays as it is.
    """

    explainer: Explainer
    method: tuple[str, Mapping[str, object]]
    x: NDArray[Any]
    logits: Array
    target: Index
    heatmaps: Array
    regions: Sequence[Region | None] = ()
    masks: Sequence[Region | None] = ()
    randomised: Sequence[Explainer] = ()
    settled: Settled | None = None
    beside: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    found: Sequence[Detection] = ()
    _kept: dict[tuple[str, Masking], Any] = field(default_factory=dict)

    def probability(self, logits: Array, image: Index) -> Numbers:
        """p, the network's own probability of the class explained: row i of logits [b,classes] belongs to image `image[i]`.

        Raises:
            NotApplicableError: The network's output is not a probability.
        """
        try:
            own = probabilities(logits.astype(np.float64), self.explainer.bundle.manifest.activation)
        except NotApplicableError as error:
            raise NotApplicableError(
                f"{error}; leave out the metrics that need one, such as average-drop, insertion, deletion, adcc, road and srg"
            ) from None
        return np.asarray(own[np.arange(len(logits)), self.target[image]])

    @property
    def is_probability(self) -> bool:
        """Whether p is a probability: 0 to 1."""
        manifest = self.explainer.bundle.manifest
        return self.settled is None or (
            manifest.scores.kind == "rows"
            or (manifest.scores.kind == "dense" and has_probabilities(manifest.activation, manifest.classes))
        )

    @property
    def wanted(self) -> Index | Settled:
        """What is explained."""
        return self.target if self.settled is None else self.settled

    def of_class(self, index: Index) -> Index | Settled:
        """Other classes [n], in the regions explained."""
        return index if self.settled is None else Settled(Seed.of_class(index), self.settled.where)

    @property
    def places(self) -> list[Region]:
        """Of dense scores, the pixels [H,W] of the region explained; a position belongs to it if at least half of it does."""
        assert self.settled is not None  # metrics that need regions are refused for other networks
        assert self.settled.where is not None
        where = self.settled.where[:, 0]
        shares = where / where.max(axis=tuple(range(1, where.ndim)), keepdims=True)
        grown = resample.resize(shares, *self.heatmaps.shape[1:], interpolation="nearest")
        return [np.asarray(one >= 0.5) for one in grown]

    @property
    def before(self) -> Numbers:
        """p of the images themselves, [n]."""
        if self.settled is not None:
            return self._once("before", "input", lambda: self.predict(self.x, np.arange(len(self.x))))
        return self.probability(self.logits, np.arange(len(self.x)))

    def predict(self, x: NDArray[Any], image: Index) -> Numbers:
        """p of other inputs [b, ...]; row i takes the class of image `image[i]`."""
        inputs = Prepared(x, {name: rows[image] for name, rows in self.beside.items()})
        if self.settled is not None and self.found:
            explained = self._once("rows", "input", lambda: rows_of(self.explainer, Prepared(self.x, self.beside)))
            best = likeness(self.explainer, inputs, self.settled.rows(image), explained, image)
            return np.asarray(best, np.float64)
        if self.settled is not None:
            return np.asarray(scores(self.explainer, inputs, self.settled.rows(image), True), np.float64)
        return self.probability(self.explainer.predict(inputs), image)

    def masked(self, how: Masking) -> NDArray[Any]:
        """x * map, [n, ...]."""
        share = self.layered(self.heatmaps)
        # Normalisation is affine, so x * m + black * (1 - m) is the normalised input of the image times m.
        x = self.x * share if how == "input" else self.x * share + self.black * (1 - share)
        return self.as_input(x)

    def after(self, how: Masking) -> Numbers:
        """p' = p of x * map, [n]."""
        return self._once("after", how, lambda: self.predict(self.masked(how), np.arange(len(self.x))))

    def again(self, how: Masking) -> Array:
        """The method's heatmaps of x * map, for the same classes, [n,H,W]."""
        return self._once("again", how, lambda: self.explain(self.masked(how), self.wanted))

    def _once(self, what: str, how: Masking, compute: Callable[[], T]) -> T:
        """Compute once what several metrics ask for."""
        if (what, how) not in self._kept:
            self._kept[what, how] = compute()
        computed: T = self._kept[what, how]
        return computed

    def layered(self, maps: NDArray[Any]) -> NDArray[Any]:
        """Maps [b,H,W] with an axis of length 1 at the input's channel axis, so that they broadcast over the colours."""
        return np.expand_dims(maps, self.explainer.bundle.manifest.input.channel_axis)

    def as_input(self, x: NDArray[Any]) -> NDArray[Any]:
        """x in the input's own dtype; 8-bit pixels are rounded and clipped to 0..255, as `preprocess.prepare` does."""
        return as_input(x, self.explainer.bundle.manifest.input)

    @property
    def black(self) -> Array:
        """A black pixel after preprocessing, in a shape that broadcasts to x."""
        spec = self.explainer.bundle.manifest.input
        return spec.per_channel(spec.preprocess.ends()[0].astype(np.float32))

    def explain(self, x: NDArray[Any], target: Index | Settled, explainer: Explainer | None = None) -> Array:
        """The method's heatmaps [n,H,W] of n other inputs, for other classes, or of another network."""
        name, options = self.method
        return (explainer or self.explainer).explain(Prepared(x, self.beside), name, target, **options).heatmap


class Metric(Protocol):
    """A metric with its options fixed."""

    needs: ClassVar[frozenset[str]]
    """What it needs besides images: "boxes", "masks", "randomised", "region" (of dense scores), "detection" (of a detector).
    "images": it is not defined for volumes."""

    def columns(self, randomised: int) -> Sequence[Column]:
        """Its columns, given the number of randomised networks."""

    def measure(self, case: Case) -> Mapping[str, Numbers]:
        """Its figures by column, [n] each; NaN if a figure is not defined. A column with `of_means` has no figures per image.

        Under a name that no column has, a curve per image [n,points]: what the share 0 to 1 of the pixels, in even steps, does to
        p. The report draws it."""


metrics: Registry[type[Metric]] = Registry(__package__ or "")


def create(name: str, options: Mapping[str, object]) -> Metric:
    """The metric `name` with these options; strings are read as the option's type.

    Raises:
        UnknownMetricError: No metric has this name.
        OptionError: The metric has no such option, or does not accept the value.
    """
    cls = metrics.get(name)
    if cls is None:
        raise UnknownMetricError(unknown("metric", name, metrics))
    return build(cls, name, options)
