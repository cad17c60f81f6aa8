"""All checks of one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from ...errors import IntegrityError, UnsafeGraphError, UnsafePathError
from .. import manifest as m
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
        self._seen: set[int] = set()

    def check_batch(self, batch: int) -> None:
        """Refuse a batch for which the graph would need far more memory than its file and its input explain.

        Raises:
            UnsafeGraphError: It would.
        """
        expansion = self._expansion
        if batch in self._seen or expansion is None:
            return
        _naming(self._where, lambda: expansion.check(batch))
        self._seen.add(batch)

    def check_ports(self, declared: m.Graph, batch: str) -> None:
        """Refuse a graph that takes or gives something else than the manifest says.

        Raises:
            UnsafeGraphError: It does.
        """
        _naming(self._where, lambda: check_ports(self.graph, declared, batch))


def check_graph(data: bytes, where: str, image: int | None = 0, shapes: Shapes | None = None) -> Guarded:
    """Refuse a graph that could harm: see the package's docstring.

    Args:
        data: The bytes of an ONNX file.
        where: Its path, for messages.
        image: Bytes of one image, on which the limit of memory depends; None: memory is not bounded, as the engine never runs it.
        shapes: Input -> its sizes without the batch, as far as the manifest says them.

    Raises:
        UnsafePathError: A tensor's data lie in another file.
        UnsafeGraphError: Operators, order, tensors or sizes that a bundle's graphs may not have.
        IntegrityError: Not an ONNX graph.
    """

    def check() -> Guarded:
        graph = parse(data)
        check_structure(graph)
        for tensor in graph.tensors:
            check_tensor(tensor)
        for node in graph.nodes:
            for value in node.attributes.values():
                if isinstance(value, Tensor):
                    check_tensor(value)
        guarded = Guarded(graph, Expansion(graph, data, image, shapes or {}) if image is not None else None, where)
        guarded.check_batch(1)
        return guarded

    return _naming(where, check)


def check_self_contained(data: bytes, where: str) -> None:
    """Refuse a graph that would make a runtime read other files. Everything else is left to the runtime.

    Args:
        data: The bytes of an ONNX file of the caller's own.
        where: Its path, for messages.

    Raises:
        UnsafePathError: A tensor's data lie in another file.
        IntegrityError: Not an ONNX graph.
    """
    _naming(where, lambda: find_external_data(data))


def _naming(where: str, check: Callable[[], T]) -> T:
    """Put the file's path before what a check says."""
    try:
        return check()
    except (Malformed, IndexError):
        raise IntegrityError(f"{where}: is not an ONNX graph; export the network again") from None
    except (UnsafeGraphError, UnsafePathError) as error:
        if str(error).startswith(f"{where}: "):
            raise
        raise type(error)(f"{where}: {error}") from None
