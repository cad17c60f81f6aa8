"""Bounds a graph's memory and work: a file of a kilobyte can ask for a terabyte.

- Constants <= 4 * file + 512 MiB. What is computed from constants, or from the sizes of inputs, counts as a constant, because
  runtimes compute it when they load the graph.
- Constants and all tensors alive at once <= 4 * file + 512 MiB + batch * (512 MiB + 512 * image), with the image in float32. What a
  runtime takes beside them while it computes a node counts, too: the windows of a convolution side by side.
- Multiplications <= batch * 2^42.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import UnsafeGraphError
from .messages import Node, ParsedGraph, ParsedPort
from .shapes import Harmful, Known, Run, Unknowable
from .tensors import size_of

BASE = 512 << 20  # bytes
OF_FILE, OF_IMAGE = 4, 512
_WORK = 1 << 42  # multiplications per image; a ViT-H's forward and backward pass on 518 x 518 pixels takes 3e12


def constants_limit(size: int) -> int:
    """How many bytes a file of `size` bytes may unpack or unfold to: 4 size + 512 MiB."""
    return OF_FILE * size + BASE


HARMFUL = "runtimes crash on that"
"""The end of a message about a node that no runtime computes safely, whatever it needs."""


class Expansion:
    """Computes how much memory and work a graph needs for a batch.

    Args:
        graph: A graph that has passed the checks of structure and tensors.
        data: The bytes of the file; not kept.
        image: Bytes of one image.
        shapes: Input -> its sizes without the batch; they replace symbolic sizes of the graph.
        windows: Refuse a pooling whose window is far larger than its input, as OpenVINO walks over all of it.
    """

    def __init__(
        self,
        graph: ParsedGraph,
        data: bytes,
        image: int,
        shapes: Mapping[str, tuple[int | None, ...]],
        windows: bool = True,
    ) -> None:
        self._run = Run(graph, data, windows)
        self._graph, self._image, self._shapes = graph, image, shapes
        self._constant_limit = constants_limit(len(data))
        # Tensor -> index of the last node that reads it. The graph's outputs stay alive to the end.
        self._last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
        self._last |= {port.name: len(graph.nodes) for port in graph.outputs}

    def check(self, batch: int) -> tuple[int, str]:
        """Refuse a graph that would need too much.

        Args:
            batch: Images at once.

        Returns:
            The most bytes that tensors alive at once take, constants aside, and the node that gives the largest of these.

        Raises:
            UnsafeGraphError: The graph would need too much, or its sizes can't be computed before it runs.
        """
        inputs = {port.name: Known(self._shape(port, batch), size_of(port.dtype)) for port in self._graph.inputs}
        limit = self._constant_limit + batch * (BASE + OF_IMAGE * self._image)
        constants, alive, work = 0, 0, 0
        living: dict[str, int] = {}
        most = largest = (0, "")
        try:
            for i, (node, outputs) in enumerate(self._run.results(inputs)):
                work += sum(known.work * known.count for known in outputs)
                scratch = sum(known.scratch for known in outputs)
                for name, known in zip(node.outputs, outputs, strict=False):
                    need = known.count * known.size
                    if known.constant:
                        constants += need
                        self._bound(node, known, constants + scratch, self._constant_limit)
                    else:
                        living[name] = need
                        alive += need
                        self._bound(node, known, alive + constants + scratch, limit)
                        largest = max(largest, (need + scratch, str(node)))
                        if alive + scratch > most[0]:
                            most = alive + scratch, largest[1]
                for name in node.inputs + node.outputs:
                    if name in living and self._last.get(name, -1) <= i:  # -1: nobody reads it
                        alive -= living.pop(name)
                if work > batch * _WORK:
                    raise UnsafeGraphError(f"up to {node} it computes {work:.0e} products for a batch of {batch}")
        except Harmful as error:
            raise UnsafeGraphError(f"{error}; {HARMFUL}") from None
        except Unknowable as error:
            raise UnsafeGraphError(f"{error}; how much memory it needs is not known") from None
        return most

    def _shape(self, port: ParsedPort, batch: int) -> tuple[int, ...]:
        """The sizes of an input: each from the graph, else from the manifest, else the batch."""
        known = (batch, *self._shapes.get(port.name, ()))
        dims = port.dims if port.dims is not None else [None] * len(known)
        filled = [known[i] if size is None and i < len(known) else size for i, size in enumerate(dims)]
        return tuple(batch if size is None else size for size in filled)

    @staticmethod
    def _bound(node: Node, known: Known, need: int, limit: int) -> None:
        if need > limit:
            kind = "constants" if known.constant else "tensors"
            raise UnsafeGraphError(
                f"up to {node}, which gives {list(known.shape)}, its {kind} take {need >> 20} MiB, more than the "
                f"{limit >> 20} MiB that its file and its input explain"
            )
