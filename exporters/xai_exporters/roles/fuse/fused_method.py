"""What a fused method is, and the registry that finds them: one file per method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import onnx_ir as ir

from xai_deploy.errors import OptionError
from xai_deploy.foundation.options import build, read_spec, unknown
from xai_deploy.foundation.registry import Registry

from ...errors import RequestError
from ..material import Material
from .net import Net


class Fused(Protocol):
    """A method as a graph. It is a frozen dataclass: its fields are its options, named as those of the runtime's method.

    Attributes:
        input_sized: The map has the input's size, not the activation's.
        at_pixels: It goes back to the pixels of the input, as the runtime's `Method.at_pixels` says.
        signed: 0 is neutral in the map before min-max, and values below 0 speak against the class: the runtime's `signed`.
    """

    input_sized: ClassVar[bool]
    at_pixels: ClassVar[bool]

    @property
    def signed(self) -> bool: ...

    def raw(self, net: Net) -> ir.Value:
        """Write the method's nodes.

        Args:
            net: The graph under construction.

        Returns:
            The map [N,h,w] before min-max, float32. A map of another size than the activation's and the input's states its shape.

        Raises:
            GraphError: The network is not one that the method is defined on, or too large for one graph.
        """
        ...


@runtime_checkable
class AllAtOnce(Protocol):
    """A method that computes the maps of all classes as it computes one. Any other takes a run of its tail for each class."""

    def gives_all(self, material: Material) -> bool:
        """Whether it does so for this network."""

    def every(self, net: Net) -> ir.Value:
        """Write the method's nodes.

        Returns:
            The maps of all classes before min-max, [N*K,h,w] float32, those of one image one after the other.
        """
        ...


class AtNoLayer:
    """A method that reads the network's scores alone: it has no options about layers."""


fused: Registry[type[Any]] = Registry(__package__)
"""Method name -> class."""


ACROSS = ("combine", "layer")
"""The options of every method that runs at layers, as the engine's `methods.across` has them."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A method asked for with `--fuse`.

    Attributes:
        name: Its name, as the runtime engine calls it.
        method: The method with its options.
        combine: How the maps of several layers are put together: "max", "mean" or "sum"; None: not said, which is the maximum.
        layer: The name of the only layer, or its number from 1; None: all.
    """

    name: str
    method: Fused
    combine: str | None = None
    layer: str | None = None

    @property
    def across(self) -> dict[str, str]:
        """The options about layers that were given."""
        return {key: value for key in ACROSS if (value := getattr(self, key)) is not None}


def parse(texts: Sequence[str]) -> list[Wanted]:
    """["grad-cam", "reciprocam:score=softmax"] -> the methods.

    Raises:
        RequestError: No such method or option, or a method is given twice: each has one file.
    """
    wanted: dict[str, Wanted] = {}
    for text in texts:
        name = text.partition(":")[0]
        cls = fused.get(name)
        if cls is None:
            raise RequestError(f"--fuse {text}: {unknown('method that can be fused', name, fused)}")
        if name in wanted:
            raise RequestError(f"--fuse: {name} is given twice; each method has one file in the bundle")
        try:
            _, options = read_spec(text)
            across = (
                {}
                if cls.at_pixels or issubclass(cls, AtNoLayer)
                else {key: options.pop(key) for key in ACROSS if key in options}
            )
            if across.get("combine") not in (None, "max", "mean", "sum"):
                raise OptionError(f"{name}: combine is max, mean, sum, not {across['combine']!r}")
            if len(across) == 2:
                raise OptionError(f"{name}: layer={across['layer']} gives one map; leave combine out")
            wanted[name] = Wanted(name, build(cls, name, options), **across)
        except (OptionError, RequestError) as error:
            raise RequestError(f"--fuse {text}: {error}") from None
    return list(wanted.values())
