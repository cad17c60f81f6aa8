"""All checks of one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from ...errors import IntegrityError, UnsafeGraphError, UnsafePathError
from .. import graphs as m
from .expansion import Expansion
from .external import find_external_data
from .messages import ParsedGraph, Tensor, parse
from .ports import check_ports
from .structure import check_structure
from .tensors import check_tensor
from .wire import Malformed

T = TypeVar("T")
Shapes = Mapping[str, tuple[int | None, ...]]


class Guarded:
    """A graph that has passed the checks. For each batch it decides whether the graph may take the memory that it needs.

    Attributes:
        graph: Its structure.
    """

    def __init__(self, graph: ParsedGraph, expansion: Expansion | None, where: str) -> None:
        self.graph = graph
        self._expansion, self._where = expansion, where
        self._seen: set[int] = set()  # batches that have passed

    def check_batch(self, batch: int) -> None:
        """Refuse a batch for which the graph would need far more memory than its file and its input explain.

        Raises:
            UnsafeGraphError: The graph would need more.
        """
        expansion = self._expansion
        if batch in self._seen or expansion is None:
            return
        _naming(self._where, lambda: expansion.check(batch))
        self._seen.add(batch)

    def check_ports(self, declared: m.Graph, batch: str) -> None:
        """Refuse a graph that takes or gives something else than the manifest says.

        Raises:
            UnsafeGraphError: The graph takes or gives something else.
        """
        _naming(self._where, lambda: check_ports(self.graph, declared, batch))


def check_graph(data: bytes, where: str, image: int | None = 0, shapes: Shapes | None = None) -> Guarded:
    """Refuse a graph that could harm: see the package's docstring.

    Args:
        data: The bytes of an ONNX file.
        where: Its path, for messages.
        image: Bytes of one image, on which the limit of memory depends; None: it is not bounded, because the graph is never run.
        shapes: Input -> its sizes without the batch, as far as the manifest says them.

    Raises:
        UnsafePathError: A tensor's data lie in another file.
        UnsafeGraphError: The graph has operators, an order, tensors or sizes that a bundle's graphs may not have.
        IntegrityError: The file is not an ONNX graph.
    """

    def check() -> Guarded:
        graph = parse(data)
        check_structure(graph)
        for tensor in graph.tensors:
            check_tensor(tensor)
        for node in graph.nodes:  # attributes hold tensors, too: the value of a Constant
            for value in node.attributes.values():
                if isinstance(value, Tensor):
                    check_tensor(value)
        guarded = Guarded(graph, Expansion(graph, data, image, shapes or {}) if image is not None else None, where)
        guarded.check_batch(1)  # refuse now a graph that can't run even for one image
        return guarded

    return _naming(where, check)


def check_self_contained(data: bytes, where: str) -> None:
    """Refuse a graph that would make a runtime read other files. Everything else is left to the runtime.

    Args:
        data: The bytes of an ONNX file that the caller owns.
        where: Its path, for messages.

    Raises:
        UnsafePathError: A tensor's data lie in another file.
        IntegrityError: The file is not an ONNX graph.
    """
    _naming(where, lambda: find_external_data(data))


def _naming(where: str, check: Callable[[], T]) -> T:
    """Put the file's path before the message of a check."""
    try:
        return check()
    except (Malformed, IndexError):  # IndexError: a number runs past the end of the file
        raise IntegrityError(f"{where}: is not an ONNX graph; export the network again") from None
    except (UnsafeGraphError, UnsafePathError) as error:
        if str(error).startswith(f"{where}: "):  # an inner call of `_naming` has done it
            raise
        raise type(error)(f"{where}: {error}") from None
