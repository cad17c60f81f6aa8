"""What a runtime's file defines, and the common names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = dict[str, Array]
Run: TypeAlias = Callable[[Tensors], Tensors]


class Adapter(Protocol):
    """What a Python runtime's file defines; one of JavaScript exports `version` and `load` alike.

    Attributes:
        TITLE: The runtime's name in the table.
        REQUIREMENTS: The packages of its environment, besides those that `worker` needs.
    """

    TITLE: str
    REQUIREMENTS: tuple[str, ...]

    def version(self) -> str:
        """The version that runs."""
        ...

    def load(self, path: str, outputs: Sequence[str]) -> Run:
        """Open an ONNX file.

        Args:
            path: The file.
            outputs: The file's outputs in order, for a runtime that has other names for them.

        Returns:
            A function from inputs by name, of any batch, to outputs by name.
        """
        ...
