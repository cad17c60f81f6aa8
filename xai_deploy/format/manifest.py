"""The contents of `manifest.json`, in format 2.

A bundle is a folder `NAME.xai/` that carries a network, cut at its target layer, to where it is deployed. `manifest.json`
describes the network. It records size and sha256 of every other file, and a digest of itself that is computed with the digest
field blank. The graphs:

- `head`: network input -> `activation` [N,K,h,w] and the side tensors that pass beside the cut (for volumes [N,K,d,h,w]; the
  positions of a volume have one axis more here and in all that follows);
- `tail`: `activation` and side tensors -> `logits` [N,classes] (before a final Softmax or Sigmoid) and the network's
  outputs;
- `network`, in place of head and tail if the network is not cut: network input -> what the tail gives;
- `gradient` (if every operator of the tail has a rule): `activation`, side tensors, `target` int64 [N] and `seed`
  float32 [N,classes] -> the tail's outputs and `gradient` [N,K,h,w] = d(s . logits)/d(activation), where s is the unit
  vector of the target (of the predicted class for target -1, none for target -2) + the seed;
- `score-gradient` (detectors): as `gradient`, of the scores of the classes alone: `logits` and `seed` are [N,R,C] without the
  coordinates, and no output of the network is given. It leaves out the branch that computes boxes, forwards and backwards;
- `input-gradient`, `guided-gradient` (on request): the network input, `target` and `seed` -> the same outputs and
  `gradient` in the shape and layout of the input;
- `full-gradient` (on request): the same inputs -> the same outputs and `full_gradient` [N,H,W], FullGrad's map of the image;
- `relevance`, `relevance-COMPOSITE`: as `gradient`, but with `relevance` [N,K,h,w] instead of the gradient: s, propagated back to
  the activation by the composite's rules; `pixel-relevance`, `pixel-relevance-COMPOSITE` (on request): the same at the input;
- `fused-METHOD` (on request): the network input and `target` -> the network's outputs under their own names and
  `saliency_map` [N,h,w] in [0,1]; for any runtime, without this package. With dense scores also `where` float32 [N,H,W], the
  region, of any scale; with an embedding `reference` float32 [N,D], of any length, in place of `target`. On request also `versus`
  int64 [N], the class that is subtracted, with a region (`versus_where`) or a row (`versus_row`) of its own;
- `own-map` (on request): the network input -> the tail's outputs and `own_map` [N,h,w], a map that the network itself makes;
- `pixelwise-tail` (only if global average pooling and one linear layer follow the cut):
  `activation` -> `pixel_logits` [N,h*w,classes] without bias; logits = mean over pixels + bias.
- `windowed-tail` (if windows save arithmetic, and no side tensors pass beside the cut): `activation`, `position_rows` int64
  [N,R] and `position_columns` int64 [N,S], of which the first image's count -> `position_logits` [N,R*S,classes], row by row:
  the logits if only that position of the activation is not 0.

A network may be cut at several layers. The first one in the graph's order is the `target`, the others are `levels` 1, 2, ...
The head then gives `activation_1`, ..., too, with the side tensors of each layer's tail. Level i has a `tail-i` and, where they
apply, a `pixelwise-tail-i` and a `windowed-tail-i` of its own, which start at `activation_i`. `gradient` and `relevance` are one
graph for all layers: it also gives `gradient_i` (`relevance_i`). It takes the activations that lie after no other layer, and
computes the others.

If the scores are dense, one for each class at each position, every graph with a tail also takes `where` float32 [N,R,H,W], the
weights of R regions for each image. `logits` and `seed` are then [N,R,classes]: a region's score is the weighted sum of the scores
at all positions, and `region_probabilities` [N,R,classes] is that of the probabilities.

The rows of a detector are such positions, [N,entries,rows]; `where` is [N,R,rows] and mostly picks one row. A graph with a tail
also gives `dense_scores` [N,entries,rows], of which detections are made. If it chooses rows by TopK, it gives the places that it
chose, too, `choice/NAME` int64, and the graphs that propagate back take them: a row stays what it is.

A graph whose weights other graphs hold may be a list of parts in place of an ONNX file; see `parts`.

What each graph takes and gives is recorded as its ports. If `batch` is "one", N is 1 in every graph of the bundle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ..foundation import schema
from .further_inputs import FurtherInputs
from .graphs import ACTIVATION, CHOICE, LOGITS, NETWORK, WHERE, FileRecord, Graph, Port
from .image_input import Input
from .layers import OWN_ROLES, Level, Side, TargetLayer, at_level, role_anywhere, role_at
from .randomised import Randomised
from .rows import Rows

FORMAT = 2  # the format that is written; format 1 can be read, too
MANIFEST = "manifest.json"

Activation = Literal["softmax", "sigmoid", "none", "normalised", "independent", "scores"]
"""How the tensor `logits` becomes probabilities; see `probabilities`.

- softmax, sigmoid: that function;
- none: the network ends in logits (or in logarithms of probabilities): softmax by convention; a single class has no probability;
- normalised: unchanged, because `logits` holds probabilities that sum to 1;
- independent: unchanged, because `logits` holds numbers in [0,1], each by itself;
- scores: not at all; `logits` is computed from probabilities without being one, and no probability is reported.
"""


@dataclass(frozen=True)
class Output:
    """An output of the source network.

    Attributes:
        name: Its own name.
        tensor: The tail's tensor that holds it.
        shape: Without the batch.
        kind: What it holds. Logarithms of probabilities count as logits, because their softmax is the probabilities, too. The
            first output that is not "other" is the one explained. "derived" is computed from probabilities without being
            probabilities: percent, sums, or logarithms of probabilities that do not sum to 1.
    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    kind: Literal["logits", "probabilities", "derived", "other"]


@dataclass(frozen=True)
class Explained:
    """A tensor of the tail that targets weigh: every explanation explains one number, a weighted sum of it.

    Attributes:
        tensor: Its name.
        kind: "classes": a score for each class, [C]. "dense": a score for each class at each position, [C,H,W]. "vector": numbers
            that are no classes, [D]: measured values, or an embedding. "rows": the rows of a detector, [entries,rows].
        shape: Without the batch.
        normalised: A vector of length 1, so that its product with a unit vector is their cosine.
        rows: What the rows of a detector hold; None for other kinds.
    """

    tensor: str
    kind: Literal["classes", "dense", "vector", "rows"]
    shape: tuple[int, ...]
    normalised: bool = False
    rows: Rows | None = field(default=None, metadata=schema.LATER)

    @property
    def by_region(self) -> bool:
        """Whether there are scores at many places, which regions weigh. A row of a detector is a place."""
        return self.kind in ("dense", "rows")


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`.

    Attributes:
        format, digest, producer, name: The bundle's own. A manifest of format 1 keeps that number; the rest is as in format 2.
        input, target, side: The tensors that head and tail take and give. If the network is not cut, `target` is its image.
        classes: How many scores `logits` holds, for dense outputs at each position.
        activation: How the logits become probabilities.
        batch: "one": every graph takes exactly one image.
        outputs: The outputs of the source network.
        graphs: Role -> graph.
        left_out: Role -> why this network has no such graph.
        composites: Role of a relevance graph -> its composite.
        labels: The text file with one label a line.
        files: Every other file of the bundle.
        randomised: Which weights are random; None if none are.
        logits_step: The quantisation step of the logits in a network of integers; 0 for floats.
        requires: Features that a reader has to know; with an unknown one the bundle is refused.
        extensions: Entries that a reader may ignore.
        explained: What targets weigh. The first is the tensor `logits`; none: a score for each class.
        further: What the network takes beside `input`, the image that is explained.
        levels: The further layers at which the network was cut, in the graph's order.
    """

    format: int
    digest: str
    producer: str
    name: str
    input: Input
    target: TargetLayer
    classes: int
    activation: Activation
    batch: Literal["any", "one"]
    outputs: tuple[Output, ...]
    graphs: dict[str, Graph]
    left_out: dict[str, str] = field(default_factory=dict)
    side: tuple[Side, ...] = ()
    composites: dict[str, str] = field(default_factory=dict)
    labels: str | None = None
    files: dict[str, FileRecord] = field(default_factory=dict)
    randomised: Randomised | None = None
    logits_step: float = 0.0
    requires: tuple[str, ...] = ()
    extensions: dict[str, str] = field(default_factory=dict)
    explained: tuple[Explained, ...] = ()
    further: FurtherInputs = field(default_factory=FurtherInputs, metadata=schema.LATER)
    levels: tuple[Level, ...] = field(default=(), metadata=schema.LATER)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Everything that the network takes: the image that is explained, and what is beside it."""
        return Port(self.input.name, self.input.image_shape, self.input.dtype), *self.further.ports

    @property
    def layers(self) -> tuple[TargetLayer, ...]:
        """All layers at which the network was cut."""
        return self.target, *(level.layer for level in self.levels)

    @property
    def layers_title(self) -> str:
        """The layers' names and the sizes of their maps, for people."""
        return "; ".join(layer.title for layer in self.layers)

    def at(self, level: int) -> Manifest:
        """The manifest as one layer of several sees it: its own tail is the `tail`, and there is no other layer.

        The names of tensors stay; see `at_level`. A layer of a further image sees that image as the one that is explained, and no
        graph that goes back to the other.
        """
        own = {role_at(role, level): role for role in OWN_ROLES}
        others = {role_at(role, i) for role in OWN_ROLES for i in range(len(self.levels) + 1)} - own.keys()
        graphs = {own.get(role, role): graph for role, graph in self.graphs.items() if role not in others}
        left_out = {own.get(role, role): why for role, why in self.left_out.items() if role not in others}
        if level:
            chosen = self.levels[level - 1]
            seen = replace(self, target=chosen.layer, side=chosen.side, graphs=graphs, left_out=left_out, levels=())
            return seen if chosen.layer.input is None else seen.explaining(chosen.layer.input)
        return replace(self, graphs=graphs, left_out=left_out, levels=())

    def explaining(self, name: str) -> Manifest:
        """The manifest as if the further image of this name were explained: with the graphs that go back to it."""
        own, further = self.further.without(name, self.input)
        there = self.roles_of(name)
        away = {role for role, graph in self.graphs.items() if graph.start == "image" and graph.propagated}
        own_map = {"own-map"} & self.graphs.keys()
        why = (
            f"it goes back to the image {self.input.name!r}, not to {name!r}; export the network again with "
            f"--explain-input {self.input.name},{name}"
        )
        left_out = self.left_out | dict.fromkeys(sorted(away - there.keys()), why)
        left_out |= dict.fromkeys(own_map, f"the network's own map is drawn on {self.input.name!r}")
        graphs = {role: graph for role, graph in self.graphs.items() if role not in away | own_map}
        return replace(
            self,
            input=own,
            further=further,
            graphs=graphs | {role: replace(self.graphs[named], input=None) for role, named in there.items()},
            left_out=left_out,
        )

    def roles_of(self, name: str) -> dict[str, str]:
        """The graphs that go back to the further image of this name: what they do -> their role here."""
        return {role_anywhere(role): role for role, graph in self.graphs.items() if graph.input == name}

    def image(self, name: str | None) -> Input:
        """The image input of this name; None: the image that is explained."""
        return self.input if name is None else self.further.without(name, self.input)[0]

    @property
    def scores(self) -> Explained:
        """The tensor `logits`."""
        return self.explained[0] if self.explained else Explained(LOGITS, "classes", (self.classes,))

    @property
    def class_activation(self) -> Activation:
        """`activation`, if `logits` is a score for each class; else "scores"."""
        return self.activation if self.scores.kind == "classes" else "scores"

    @property
    def named(self) -> int | None:
        """How many classes labels name; None if any number of them: rows that state their class do not say how many there are."""
        rows = self.scores.rows
        if rows is None:
            return self.classes
        return None if rows.labelled else rows.classes

    @property
    def seed_shape(self) -> tuple[int | None, ...]:
        """The shape of the output `logits` and of the input `seed`: a weight for each class; for dense scores, in each region."""
        return (None, self.classes) if self.scores.by_region else self.scores.shape

    @property
    def is_cut(self) -> bool:
        """Whether the network is in two parts, head and tail."""
        return NETWORK not in self.graphs

    @property
    def parts(self) -> tuple[str, ...]:
        """The roles that make up the network: head and tail, or the network as a whole."""
        return ("head", "tail") if self.is_cut else (NETWORK,)

    @property
    def scoring(self) -> str:
        """The role whose graph gives the logits and the network's outputs: the last of `parts`."""
        return self.parts[-1]

    @property
    def choices(self) -> tuple[str, ...]:
        """The names of the places that a detector's TopK chose; see the module's docstring."""
        return tuple(port.name for port in self.graphs[self.scoring].gives if port.name.startswith(CHOICE))

    @property
    def network(self) -> str:
        """A digest of head and tail, hence of the network's weights. The bundle's other files do not change it."""
        graphs = [self.graphs[role] for role in self.parts]
        files = [graph.whole or self.files[graph.file] for graph in graphs]
        return hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The manifest as written to disk, in format 2, with its digest."""
        blank = _encode(replace(self, format=FORMAT, digest=""))
        return _encode(replace(self, format=FORMAT, digest=hashlib.sha256(blank).hexdigest()))


def _encode(manifest: Manifest) -> bytes:
    return (json.dumps(schema.dump(manifest), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def activations(manifest: Manifest, level: int = 0) -> tuple[Port, ...]:
    """The tensors that the head gives and a layer's tail takes: the activation and the side tensors."""
    layer, sides = manifest.layers[level], (manifest.side, *(other.side for other in manifest.levels))[level]
    own = Port(at_level(ACTIVATION, level), layer.shape, layer.dtype)
    return own, *(Port(side.name, side.shape, side.dtype) for side in sides)


def between(manifest: Manifest) -> tuple[Port, ...]:
    """All tensors that the head gives: those that the tails of all layers take."""
    every = (port for level in range(len(manifest.layers)) for port in activations(manifest, level))
    return tuple(dict.fromkeys(every))


def regions(manifest: Manifest) -> tuple[Port, ...]:
    """The input `where` of graphs with dense scores; none for other scores."""
    scores = manifest.scores
    return (Port(WHERE, (None, *scores.shape[1:]), "float32"),) if scores.by_region else ()


def file_records(contents: Mapping[str, bytes]) -> dict[str, FileRecord]:
    """Size and sha256 of each file, as the manifest records them."""
    return {name: FileRecord(hashlib.sha256(data).hexdigest(), len(data)) for name, data in contents.items()}
