"""Compares the inputs and outputs that a graph declares with the manifest."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UnsafeGraphError
from .. import graphs as m
from .messages import ParsedGraph, ParsedPort, listed, short
from .tensors import DTYPES


def check_ports(graph: ParsedGraph, declared: m.Graph, batch: str) -> None:
    """Refuse a graph that takes or gives something else than the manifest says.

    Fused graphs of format 1 are not compared, because their manifest has no ports.

    Args:
        graph: The graph of the file.
        declared: The manifest's entry for it.
        batch: The manifest's `batch`.

    Raises:
        UnsafeGraphError: The graph takes or gives something else.
    """
    if not (declared.takes and declared.gives):
        return
    _compare("takes", graph.inputs, declared.takes, batch)
    _compare("gives", graph.outputs, declared.gives, batch)


def _compare(what: str, ports_of_graph: Sequence[ParsedPort], declared: Sequence[m.Port], batch: str) -> None:
    ports = {port.name: port for port in declared}
    for one in ports_of_graph:
        if one.name not in ports:
            raise UnsafeGraphError(f"it {what} {short(one.name)}, which the manifest does not list")
    names = {one.name for one in ports_of_graph}
    if missing := [name for name in ports if name not in names]:
        raise UnsafeGraphError(f"the manifest says that it {what} {short(missing[0])}; it does not")
    for one in ports_of_graph:
        port = ports[one.name]
        if port.dtype is not None and DTYPES.get(one.dtype) != port.dtype:
            said = DTYPES.get(one.dtype, f"type {one.dtype}")
            raise UnsafeGraphError(f"it {what} {short(one.name)} as {said}, but the manifest says {port.dtype}")
        if one.dims is not None and not _fits(one.dims, port, batch):
            said = listed(("N", *port.shape))
            raise UnsafeGraphError(
                f"it {what} {short(one.name)} of shape {listed(one.dims)}, but the manifest says {said}"
            )


def _fits(dims: list[int | None], port: m.Port, batch: str) -> bool:
    # The batch must be symbolic; if the bundle takes one image at a time, it may also be 1.
    first: tuple[int | None, ...] = (1 if batch == "one" else None,)
    wanted = (*first, *port.shape)
    if len(dims) != len(wanted) or (batch != "one" and dims[0] is not None):
        return False
    return all(size is None or want is None or size == want for size, want in zip(dims, wanted, strict=True))
