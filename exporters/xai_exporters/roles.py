"""The graphs of a bundle by role, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import onnx_ir as ir

from .clean import CleanGraph
from .errors import RequestError, RuleError
from .gradient import gradient_graph
from .guided import guided_gradient_graph
from .logits import Logits
from .pixelwise import find_linear, pixelwise_tail
from .request import Request
from .split import Cut, Parts, whole


@dataclass(frozen=True)
class Material:
    """What graphs are made of: the clean graph, where it is cut, what it is explained for, and its two parts."""

    clean: CleanGraph
    cut: Cut
    logits: Logits
    parts: Parts

    @cached_property
    def whole(self) -> ir.Graph:
        """Image -> `logits` and the network's outputs, uncut."""
        return whole(self.clean, self.cut, self.logits)


@dataclass(frozen=True)
class Role:
    """One graph of the bundle.

    Attributes:
        build: Makes it; None where it does not apply to the network.
        start: What it takes: the image, or the activation and its side tensors.
        asked: The option of a request that asks for it; None: it is written unless `--roles` leaves it out.
    """

    build: Callable[[Material], ir.Graph | None]
    start: Literal["image", "activation"] = "activation"
    asked: str | None = None


def _pixelwise_tail(material: Material) -> ir.Graph | None:
    cut, logits = material.cut, material.logits
    linear = find_linear(material.parts.tail, cut.shape)
    if linear is None or (linear.weight is None and cut.shape[0] != logits.classes):
        return None
    assert cut.target.dtype is not None
    return pixelwise_tail(linear, cut.shape, logits.classes, cut.target.dtype)


ROLES: Mapping[str, Role] = {
    "head": Role(lambda m: m.parts.head, "image"),
    "tail": Role(lambda m: m.parts.tail),
    "pixelwise-tail": Role(_pixelwise_tail),
    "gradient": Role(lambda m: gradient_graph(m.parts.tail, m.logits.classes)),
    "input-gradient": Role(lambda m: gradient_graph(m.whole, m.logits.classes), "image", "input_gradient"),
    "guided-gradient": Role(lambda m: guided_gradient_graph(m.whole, m.logits.classes), "image", "guided"),
}
"""Head and tail are in every bundle."""


def check_roles(request: Request) -> None:
    """Refuse a role that does not exist.

    Raises:
        RequestError: Names it.
    """
    if unknown := set(request.roles) - set(ROLES):
        raise RequestError(f"no role {sorted(unknown)[0]!r}; there are {', '.join(ROLES)}")


def asked_for(request: Request, name: str) -> bool:
    """Whether a request names a role, or asks for it by its option."""
    option = ROLES[name].asked
    return name in request.roles or (option is not None and bool(getattr(request, option)))


def build_graphs(request: Request, material: Material) -> tuple[dict[str, ir.Graph], dict[str, str]]:
    """The graphs that a request wants and the network allows, and why others are left out.

    Returns:
        Role -> graph, and role -> reason.

    Raises:
        RuleError: A graph that was asked for by name can't be made.
    """
    graphs: dict[str, ir.Graph] = {}
    left_out: dict[str, str] = {}
    for name, role in ROLES.items():
        by_name = asked_for(request, name)
        by_default = role.asked is None and (not request.roles or name in ("head", "tail"))
        if not by_name and not by_default:
            continue
        try:
            graph = role.build(material)
        except RuleError as error:
            if by_name:
                raise
            left_out[name] = str(error)
        else:
            if graph is not None:
                graphs[name] = graph
    return graphs, left_out
