"""A fused graph of all classes: `saliency_map` [N,K,h,w], and what it costs."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...cut.costs import multiply_adds
from ...errors import GraphError
from ...graph.measure import batch_of
from ..material import Material
from .batch import MOST_BYTES
from .fused_method import AllAtOnce, Wanted
from .net import Net

log = logging.getLogger(__name__)

_BACK = 2
"""A walk back costs about twice the multiply-adds of the way forward."""


@dataclass(frozen=True)
class Classes:
    """How the maps of all classes are computed.

    Attributes:
        count: K.
        at_once: The method gives all of them as it gives one; else the images are repeated, all images for class 0, then all for
            class 1, and so on.
        from_image: What is repeated is the image, not the activation.
    """

    count: int
    at_once: bool
    from_image: bool

    @classmethod
    def of(cls, material: Material, wanted: Wanted) -> Classes:
        """For one network and method; what repetition costs is told.

        Raises:
            GraphError: There is no list of classes, or it would take too much.
        """
        scores, method = material.logits.scores, wanted.method
        if scores.kind not in ("classes", "rows") or (scores.rows is not None and scores.rows.labelled):
            what = "rows that state their class" if scores.rows is not None else f"scores of the kind {scores.kind!r}"
            raise GraphError(f"--all-classes gives a map of each class, and the network has {what}; leave it out")
        count = material.logits.classes if scores.rows is None else scores.rows.classes
        if isinstance(method, AllAtOnce) and method.gives_all(material):
            return cls(count, True, False)
        if method.input_sized and not method.at_pixels:
            raise GraphError("--all-classes: this method runs the network once for each channel as it is; fuse another")
        own = cls(count, False, method.at_pixels)
        own._check(material)
        return own

    def _check(self, material: Material) -> None:
        """Refuse too many copies, and tell what others cost."""
        part = material.whole if self.from_image else material.parts.joint or material.parts.tail
        cheap = "fuse a method that gives all at once (reciprocam or cam of classifiers, class-map of detectors)"
        if batch_of(part.inputs[0]) == 1 or material.beside.ports:
            why = "takes one image at a time" if batch_of(part.inputs[0]) == 1 else "has further inputs"
            raise GraphError(
                f"--all-classes repeats what follows the layer for {self.count} classes, and the network {why}; {cheap}"
            )
        shapes = material.clean.shapes
        values = (v for node in part for v in node.outputs)
        size = 4 * self.count * max((math.prod(shapes.per_image(v.name) or ()) for v in values), default=0)
        if size > MOST_BYTES:
            raise GraphError(
                f"--all-classes repeats what follows the layer for {self.count} classes, and the largest tensor takes "
                f"{size >> 20} MiB for one image, above {MOST_BYTES >> 20}; {cheap}"
            )
        names = {str(node.name) for node in part}
        all_nodes = {str(node.name): multiply_adds(node, material.clean) for node in material.clean.graph}
        share = sum(all_nodes.get(name, 0) for name in names) / (sum(all_nodes.values()) or 1)
        times = 1 - share + self.count * share * (1 + _BACK)
        log.warning(
            "--all-classes: what follows the layer runs %d times for each image, forward and back: about %.1f times the network's "
            "multiply-adds",
            self.count,
            max(times, 1.0),
        )

    def begin(self, net: Net) -> None:
        """Repeat the images, or ask the method for all classes."""
        if self.at_once:
            net.all_at_once = True
            return
        op = net.op
        images = op.Slice(op.Shape(net.image), [0], [1])
        each = op.Expand(np.arange(self.count)[:, None], op.Concat([self.count], images, axis=0))
        net.target = op.Reshape(each, [-1])
        if self.from_image:
            net.x = self._repeated(net, net.x)
        else:
            net.between = {name: self._repeated(net, value) for name, value in net.between.items()}

    def _repeated(self, net: Net, value: ir.Value) -> ir.Value:
        rank = 4 if value.shape is None else len(value.shape)
        many: ir.Value = net.op.Tile(value, [self.count] + [1] * (rank - 1))
        many.type = value.type
        return many

    def end(self, net: Net) -> None:
        """The network's own outputs, of each image once."""
        if self.at_once:
            return
        images = net.op.Slice(net.op.Shape(net.image), [0], [1])
        for name in set(net.material.parts.tensors.values()):
            value = net.tensors[name]
            once: ir.Value = net.op.Slice(value, [0], images, [0])
            once.shape, once.type = value.shape, value.type
            net.tensors = {**net.tensors, name: once}

    def apart(self, net: Net, maps: ir.Value, size: tuple[int, ...]) -> ir.Value:
        """The maps [N*K,h,w] or [K*N,h,w] as [N,K,h,w]."""
        op = net.op
        if self.at_once:
            split: ir.Value = op.Reshape(maps, [-1, self.count, *size])
            return split
        turned: ir.Value = op.Transpose(
            op.Reshape(maps, [self.count, -1, *size]), perm=[1, 0, *range(2, 2 + len(size))]
        )
        return turned
