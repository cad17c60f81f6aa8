"""The pass of one chunk of images through head and tail: what methods see of the network (`methods.method.Forward`)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import by_position
from .backends.backend import Tensor, to_host
from .baselines import as_input, masked_input
from .dense_scores import at_places, own_output
from .detections import Detection, detect, in_cells, require_cells
from .errors import NonFiniteOutputError
from .format.bundle import BY_SEED, CHOICE, DENSE, LOGITS, OWN_MAP, SCORE_GRADIENT, SEED, SHARES, TARGET, at_level
from .foundation.progress import progress
from .matching import matched, row_shares
from .methods.cam import spatial
from .opened_network import OpenedNetwork, lazy
from .probabilities import Score, has_probabilities, probabilities, softmax
from .regions import Regions
from .targets import CheckedTarget
from .targets.seeds import Index, Seed

Array = NDArray[np.float32]
T = TypeVar("T")


class ForwardPass:
    """The `methods.method.Forward` of one chunk of preprocessed inputs x, [n, ...].

    Args:
        network: The opened graphs.
        x: The inputs.
        regions: Their regions, for dense scores; None: of each image all of it.
        beside: What the network takes beside them, by name, [n, ...] each.
    """

    def __init__(
        self,
        network: OpenedNetwork,
        x: NDArray[Any],
        regions: Regions | None = None,
        beside: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self._network = network
        self.x = x
        self._beside_x = beside or {}
        self._follows = False
        self.regions = regions or Regions.whole(network.manifest, len(x))
        self.batch_size = network.batch_size
        self.image_size = network.manifest.input.size
        self.spec = network.manifest.input
        self.sizes: Sequence[tuple[int, int] | None] = ()
        self.reported: dict[str, NDArray[np.floating]] = {}
        self.of_images: dict[str, ForwardPass] = {}  # the same as if another image were explained
        # (role, seed, offset) -> the results, one for each layer
        self._arrived: dict[tuple[str, tuple[bytes, bytes], float], tuple[Array, ...]] = {}

    @lazy
    def _head(self) -> dict[str, Tensor]:
        """The head's outputs, in the memory in which the runtime left them: the host's or a device's."""
        return self._run_head(self.x, self._beside_x, self._network.between)

    @property
    def opened(self) -> OpenedNetwork:
        """The opened graphs."""
        return self._network

    @property
    def beside(self) -> Mapping[str, NDArray[Any]]:
        """What the network takes beside the inputs."""
        return self._beside_x

    @lazy
    def activation(self) -> Array:
        """The activation on the host, [n,K,h,w] float32."""
        return np.asarray(to_host(self._head[self._network.activation]), np.float32)

    @lazy
    def outputs(self) -> dict[str, NDArray[Any]]:
        """Every output of the tail on the host, by tensor name; `logits` among them."""
        network, feeds = self._network, {**self._into_tail(), **self.regions.feeds()}
        if self._follows:  # the tail would choose rows anew
            graphs, count = network.manifest.graphs.items(), len(self.x)
            whole = ((role, g) for role, g in graphs if g.propagated is not None and role != SCORE_GRADIENT)
            role = min((g.start != "image", role) for role, g in whole)[1]
            zeros = self.regions.shaped(np.zeros((count, self.regions.entries), np.float32))
            self._run_back(role, np.full(count, BY_SEED, np.int64), zeros)
            return self.__dict__["outputs"]  # type: ignore[no-any-return]
        if network.manifest.scores.rows is not None:
            return {LOGITS: self.regions.of_rows(self.rows), **self._decoded}
        results = network.run(network.manifest.scoring, feeds, network.tail_outputs)
        return {name: to_host(tensor) for name, tensor in results.items()}

    @lazy
    def rows(self) -> Array:
        """The rows of a detector, [n,entries,rows] float32."""
        return self._network.checked(self._decoded[DENSE])

    @lazy
    def _decoded(self) -> dict[str, NDArray[Any]]:
        return self._network.decode(self._head, self.regions.feeds())

    @lazy
    def _chosen(self) -> dict[str, NDArray[Any]]:
        """The places that a detector's TopK chose: what propagates back goes to these rows."""
        return {name: self._decoded[name] for name in self._network.choices}

    @lazy
    def _detections(self) -> list[list[Detection]]:
        return detect(self.rows, self._network.manifest, self.sizes, self._network.limits)

    def detections(self) -> list[list[Detection]]:
        """What a detector found in each image, the best one first."""
        return self._detections

    @lazy
    def logits(self) -> Array:
        """[n,entries] float32: a score for each class, or for each class of each region."""
        return self._network.checked(self.regions.flat(self.outputs[LOGITS]))

    @lazy
    def shares(self) -> Array | None:
        """[n,entries] float32, the probabilities; None if the network has none."""
        if self._network.manifest.scores.rows is not None:
            return self.regions.flat(row_shares(self.regions.unflat(self.logits), self._network.manifest))
        if self._network.is_dense:
            given = self.outputs.get(SHARES)
            return None if given is None else np.asarray(self.regions.flat(given), np.float32)
        manifest = self._network.manifest
        known = manifest.scores.kind == "classes" and has_probabilities(manifest.activation, manifest.classes)
        return self.probabilities(self.logits) if known else None

    @lazy
    def _host_sides(self) -> dict[str, NDArray[Any]]:
        return {name: to_host(self._head[name]) for name in self._network.sides}

    @property
    def classes(self) -> int:
        """How many classes the network has."""
        return self._network.manifest.classes

    @property
    def compared(self) -> int:
        """See `methods.method.Forward`."""
        scores = self._network.manifest.scores
        return 0 if scores.kind == "vector" else self.classes if scores.rows is None else scores.rows.classes

    @property
    def ends_in(self) -> str:
        """See `methods.method.Forward`."""
        return self._network.manifest.activation

    def has(self, role: str) -> bool:
        """Whether the bundle holds a graph of this role."""
        return role in self._network.manifest.graphs

    def probabilities(self, logits: Array) -> Array:
        """The network's own probabilities of its logits [..., classes]; numbers that are no classes stay as they are."""
        if self._network.manifest.scores.kind == "vector":
            return logits
        return probabilities(logits, self._network.manifest.activation)

    def scored(self, score: Score, logits: Array) -> Array:
        """Logits [..., classes] as scores; see `methods.method.Forward`."""
        if score == "logit":
            return logits
        return softmax(logits) if score == "softmax" else self.probabilities(logits)

    def _scores(self, score: Score, feeds: Mapping[str, Tensor], image: Index | None = None) -> Array:
        """Run the tail, or the network that is not cut, and return the scores of its entries, [b,entries]; row i has the regions of
        image `image[i]`."""
        regions = self.regions if image is None else self.regions.rows(image)
        network, feeds = self._network, {**feeds, **regions.feeds()}
        role = network.manifest.scoring
        if network.manifest.scores.rows is not None and score != "logit":
            return self._matched(network.scores(role, feeds, DENSE), regions, image)
        if regions.where is None:
            return self.scored(score, network.scores(role, feeds, LOGITS))
        given = network.scores(role, feeds, SHARES if score == "probability" else LOGITS)  # [b,R,C]
        return np.asarray(regions.flat(softmax(given) if score == "softmax" else given), np.float32)

    def tail(self, activation: Array, image: Index, score: Score = "logit") -> Array:
        """Scores [b,entries] of other activations; row i takes the side tensors and the regions of image `image[i]`."""
        dtype = self._network.manifest.target.dtype
        feeds: dict[str, Tensor] = {self._network.activation: activation.astype(dtype, copy=False)}
        feeds |= {name: side[image] for name, side in self._host_sides.items()}
        return self._scores(score, feeds, image)

    def network(self, x: NDArray[Any], image: Index, score: Score = "logit") -> Array:
        """Scores [b,entries] of other inputs: head, then tail, without a copy to the host in between."""
        return self._scores(score, self._run_head(x, self._rows_beside(image), self._taken), image)

    def _matched(self, rows: Array, regions: Regions, image: Index | None) -> Array:
        """D-RISE's score of a detector's rows for other inputs, [b,entries]; see `matching`."""
        own = np.arange(len(rows)) if image is None else image
        network, where = self._network, regions.where
        assert where is not None  # a detector's rows are regions
        scores = matched(self.rows, rows, own, where, network.manifest, network.limits)
        return np.asarray(regions.flat(scores), np.float32)

    def masked_input(self, image: int, masks: Array, base: Array | None = None) -> NDArray[Any]:
        """Image `image` times each mask [b,H,W], in the network's layout and dtype; see `methods.method.Forward`."""
        return masked_input(self.x[image], masks, base, self._network.manifest.input)

    def pixel_logits(self, image: int) -> Array:
        """[h*w,classes] of one image from `pixelwise-tail`."""
        activation, own = self._head[self._network.activation], self.logits[image : image + 1]
        if len(self.x) > 1:  # a tensor on a device can't be sliced, the host's copy can
            part = self.activation[image : image + 1]
            activation = part.astype(self._network.manifest.target.dtype, copy=False)
        return by_position.pixel_logits(self._network, activation, own, self._tail_beside(image))

    def _tail_beside(self, image: int) -> Callable[[Array], Array]:
        return lambda activation: self.tail(activation, np.full(len(activation), image))

    def classifier(self) -> Array:
        """[classes,K], computed once per network."""
        weight = self._network.classifier
        if by_position.PIXELWISE not in self._network.proven:
            bias = by_position.bias(self._network, self._tail_beside(0))
            pooled = self.activation.mean(axis=spatial(self.activation))
            self._network.prove(by_position.PIXELWISE, pooled @ weight.T + bias, self.logits)
        return weight

    def window_parts(self) -> Sequence[tuple[Index, Index]]:
        """See `methods.method.Forward`."""
        return by_position.parts(self._network)

    @property
    def window_share(self) -> float | None:
        """See `methods.method.Forward`."""
        return self._network.manifest.graphs[by_position.WINDOWED].share

    def window_logits(self, image: int, rows: Index, columns: Index) -> Array:
        """See `methods.method.Forward`."""
        own, tail = self.activation[image : image + 1], self._tail_beside(image)
        return by_position.window_logits(self._network, own, rows, columns, tail)

    def prime(self, role: str, target: CheckedTarget, classes: Index, offset: float = 0.0) -> None:
        """Run a graph that propagates back before anything else asks for the logits, which are among its outputs.

        Args:
            role: The role of the graph. A method is going to run it for this target's seed.
            target: What is explained.
            classes: The target's `classes`, [n], -1 for the predicted class.
            offset: As for `backward`.
        """
        result = self._run_back(role, classes, self._beside(len(classes), offset))
        # the seed of a predicted class depends on the logits, which that run has given
        self._arrived[role, target.seed(lambda: self.logits).key, offset] = result

    def backward(self, role: str, seed: Seed, offset: float = 0.0) -> Array:
        """See `methods.method.Forward`."""
        return self.finite(role, self.propagated(role, seed, offset)[0])

    def propagated(self, role: str, seed: Seed, offset: float = 0.0) -> tuple[Array, ...]:
        """As `backward`, at each layer at which the network is cut; one result for a graph that starts at the image."""
        key = role, seed.key, offset
        if key not in self._arrived:
            if seed.is_class and not self._network.is_dense:
                start = self._beside(len(seed.classes), offset)
                self._arrived[key] = self._run_back(role, seed.classes[:, 0], start)
            else:
                target = np.full(len(seed.classes), BY_SEED, np.int64)
                start = self.regions.shaped(self.weights(seed, offset))
                self._arrived[key] = self._run_back(self._network.cheapest(role, start), target, start)
        return self._arrived[key]

    def finite(self, role: str, propagated: Array) -> Array:
        """The result of a graph, if it is finite. It is looked at here, because a ReLU would turn minus infinity into 0.

        Raises:
            NonFiniteOutputError: It holds NaN or infinity.
        """
        if not np.isfinite(propagated).all():
            raise NonFiniteOutputError(f"the graph {role!r} gave NaN or infinity")
        return propagated

    def backward_from_logits(self, role: str, seed: Seed) -> Array:
        """As `backward`, but each logit starts with its weight in the seed times the logit itself."""
        return self.backward(role, Seed.of_weights(self.weights(seed) * self.logits))

    def weights(self, seed: Seed, offset: Array | float = 0.0) -> Array:
        """See `methods.method.Forward`."""
        return self.regions.weights(seed, offset)

    def cell_scores(self) -> list[Array]:
        """See `methods.method.Forward`."""
        manifest = self._network.manifest
        if manifest.scores.kind == "dense":
            return [at_places(self.outputs[own_output(manifest).tensor], manifest)[:, :, None]]
        return in_cells(require_cells(manifest), self.rows)

    def own_map(self) -> Array:
        """See `methods.method.Forward`; the same run gives the network's outputs."""
        return self._own_map

    @lazy
    def _own_map(self) -> Array:
        feeds = {self._network.manifest.input.name: self.x, **self._beside_x, **self.regions.feeds()}
        results = self._network.run("own-map", feeds, [OWN_MAP, *self._network.tail_outputs])
        self.__dict__.setdefault("outputs", {name: to_host(results[name]) for name in self._network.tail_outputs})
        return np.asarray(to_host(results[OWN_MAP]), np.float32)

    def _beside(self, count: int, offset: float) -> Array:
        """The graph's input `seed` for one class per image, [n,classes], filled with `offset`. The graph adds 1 at that class."""
        zeros = self._network.no_seed[:count]
        return zeros if offset == 0 else zeros + np.float32(offset)

    def at(self, x: NDArray[Any], image: Index) -> ForwardPass:
        """The forward pass of other inputs [b, ...], with the regions of the images that they are made of."""
        regions = self.regions.rows(image)
        inputs = x.astype(self._network.manifest.input.dtype, copy=False)
        other = ForwardPass(self._network, inputs, regions, self._rows_beside(image))
        if self._network.choices:  # a row stays what it is in the image
            other._follows = True
            other.__dict__["_chosen"] = {name: places[image] for name, places in self._chosen.items()}
        return other

    def of_regions(self, regions: Regions) -> ForwardPass:
        """The same images with other regions; the head does not run again."""
        other = ForwardPass(self._network, self.x, regions, self._beside_x)
        other.sizes = self.sizes
        for known in ("_head", "_decoded", "rows", "_chosen", "_detections"):
            if known in self.__dict__:
                other.__dict__[known] = self.__dict__[known]
        return other

    def channels_first(self, x: NDArray[Any]) -> NDArray[Any]:
        """An array of the input's shape [n, ...] as [n,C,H,W]."""
        return np.moveaxis(x, self._network.manifest.input.channel_axis, 1)

    def arranged(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Values [n,C,H,W] in the input's shape [n, ...] and dtype, 8-bit pixels rounded; the inverse of `channels_first`."""
        spec = self._network.manifest.input
        return np.ascontiguousarray(as_input(np.moveaxis(planes, 1, spec.channel_axis), spec))

    @property
    def black(self) -> Array:
        """A black image as the network gets it, [1, ...] float32."""
        spec = self._network.manifest.input
        color = spec.per_channel(spec.preprocess.ends()[0].astype(np.float32))
        return np.ascontiguousarray(np.broadcast_to(color, (1, *spec.image_shape)))

    def _run_back(self, role: str, target: Index, seed: Array) -> tuple[Array, ...]:
        network = self._network
        graph = network.manifest.graphs[role]
        image: dict[str, Tensor] = {network.manifest.input.name: self.x, **self._beside_x}
        taken = {port.name for port in graph.takes}
        feeds = image if graph.start == "image" else {name: t for name, t in self._head.items() if name in taken}
        if any(name.startswith(CHOICE) for name in taken):
            feeds = {**feeds, **self._chosen}
        feeds |= {TARGET: target, SEED: graph.weighed(seed), **self.regions.feeds()}
        assert graph.propagated is not None  # methods ask for graphs that propagate back
        gives = {port.name for port in graph.gives}
        named = (at_level(graph.propagated, level) for level in range(len(network.levels)))
        names = [name for name in named if name in gives]
        # The graph computes the tail on its way, so it gives the tail's outputs too if they are not known yet.
        missing = () if "outputs" in self.__dict__ or role == SCORE_GRADIENT else network.tail_outputs
        proving = role not in network.proven and not self._follows
        # `missing` holds the logits. Without it, they are fetched only if this graph is still to be compared.
        results = network.run(role, feeds, [*names, *(missing or (LOGITS,) * proving)])
        if missing:
            self.__dict__["outputs"] = {output: to_host(results[output]) for output in missing}
            _ = self.logits  # checked first, because an error about the logits says more than one about the gradient
        # Logits that came from this run are compared with a run of the tail. Others came from the tail, or from a proven graph.
        if proving:
            plain = self._scores("logit", self._into_tail()) if missing else self.logits
            network.prove(role, to_host(results[LOGITS]), graph.weighed(self.regions.shaped(plain)))
        return tuple(np.asarray(to_host(results[name]), np.float32) for name in names)

    def report(self, name: str, values: NDArray[np.floating]) -> None:
        """See `methods.method.Forward`."""
        self.reported[name] = values

    def progress(self, steps: Iterable[T], total: int, label: str) -> Generator[T, None, None]:
        """The steps, with a bar at a terminal if the engine was asked for one."""
        return progress(steps, total, label, self._network.show_progress)

    def _rows_beside(self, image: Index) -> dict[str, NDArray[Any]]:
        """What the network takes beside inputs that are made of these images."""
        return {name: rows[image] for name, rows in self._beside_x.items()}

    def _into_tail(self) -> dict[str, Tensor]:
        """Of what the head gives, what the layer's own tail takes."""
        return self._head if len(self._network.levels) == 1 else {name: self._head[name] for name in self._taken}

    @property
    def _taken(self) -> tuple[str, ...]:
        """What the tail takes."""
        return self._network.activation, *self._network.sides

    def _run_head(self, x: NDArray[Any], beside: Mapping[str, NDArray[Any]], fetch: Sequence[str]) -> dict[str, Tensor]:
        """What the tail takes. A network that is not cut takes the image itself."""
        feeds: dict[str, Tensor] = {self._network.manifest.input.name: x, **beside}
        return self._network.run("head", feeds, fetch) if self._network.manifest.is_cut else feeds
