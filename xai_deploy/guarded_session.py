"""A session that checks every batch before it runs, and every result afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .backends.backend import Session, Tensor
from .errors import RuntimeFailure
from .format.graphs import Graph

if TYPE_CHECKING:  # importing the package opens no graph
    from .format.guard import Guarded


class GuardedSession:
    """Runs a graph if it may take the memory for the batch, and compares its outputs with the manifest in every dimension.

    Args:
        session: The runtime's session.
        guarded: The graph's checks.
        graph: The manifest's entry for it.
        role: Its role, for messages.

    Attributes:
        session: The runtime's session.
    """

    def __init__(self, session: Session, guarded: Guarded, graph: Graph, role: str) -> None:
        self.session, self._guarded, self._role = session, guarded, role
        self._gives = {port.name: port.shape for port in graph.gives}

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        """See `Session.run`.

        Raises:
            UnsafeGraphError: The graph would need far more memory for this batch than its file and its input explain.
            RuntimeFailure: The runtime failed, or gave a tensor of other sizes than the manifest says.
        """
        batch = max((tensor.shape[0] for tensor in feeds.values() if tensor.shape), default=1)
        self._guarded.check_batch(batch)
        results = self.session.run(feeds, fetch)
        for name, tensor in results.items():
            self._compare(name, tuple(tensor.shape), batch)
        return results

    def _compare(self, name: str, shape: tuple[int, ...], batch: int) -> None:
        declared = self._gives.get(name)
        if declared is None:
            return
        wanted = (batch, *declared)
        if len(shape) != len(wanted) or any(
            want is not None and have != want for have, want in zip(shape, wanted, strict=True)
        ):
            from .format.guard.messages import listed

            raise RuntimeFailure(
                f"the graph {self._role!r} gave {name!r} of shape {list(shape)} for a batch of {batch}; the manifest says "
                f"{listed(wanted)}"
            )
