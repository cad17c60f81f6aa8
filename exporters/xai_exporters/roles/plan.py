"""The graphs of a bundle by role, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from xai_deploy.format.bundle import FUSED, RELEVANCE

from ..errors import GraphError, RequestError, RuleError
from ..graph.measure import batch_of
from ..relevance.composite import DEFAULT, composite_name, load_composite
from ..request import Request
from ..vjp.guided import guided_gradient_graph
from .fuse.base import Wanted, parse
from .fuse.graph import form_of, fused_graph, notes
from .material import Material
from .pixelwise import find_linear, pixelwise_tail


@dataclass(frozen=True)
class Role:
    """One graph of the bundle.

    Attributes:
        build: Makes it; None where it does not apply to the network.
        start: What it takes: the image, or the activation and its side tensors.
        asked: The option of a request that asks for it.
        composite: The composite of a role of relevance.
        notes: What its file says of itself.
    """

    build: Callable[[Material], ir.Graph | None]
    start: Literal["image", "activation"] = "activation"
    asked: str | None = None
    composite: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


def _pixelwise_tail(material: Material) -> ir.Graph | None:
    cut, logits = material.cut, material.logits
    linear = find_linear(material.parts.tail, cut.shape)
    if linear is None or (linear.weight is None and cut.shape[0] != logits.classes):
        return None
    assert cut.target.dtype is not None
    batch = batch_of(material.parts.tail.inputs[0])
    return pixelwise_tail(linear, cut.shape, logits.classes, cut.target.dtype, batch)


def _relevance_role(request: Request, given: str, from_image: bool) -> Role:
    def build(material: Material) -> ir.Graph:
        try:
            return material.relevance(load_composite(given), from_image)
        except RuleError as error:
            raise RuleError(f"composite {composite_name(given)!r}: {error}") from None

    asked = "pixel_relevance" if from_image else "composite" if given in request.composite else None
    return Role(build, "image" if from_image else "activation", asked, composite_name(given))


def _fused_role(request: Request, wanted: Wanted) -> Role:
    form = form_of(request)

    def build(material: Material) -> ir.Graph:
        try:
            return fused_graph(material, wanted, form)
        except GraphError as error:
            raise GraphError(f"--fuse {wanted.name}: {error}") from None

    return Role(build, "image", "fuse", notes=notes(wanted, form, request.split))


DEFAULTS = ("head", "tail", "pixelwise-tail", "gradient", RELEVANCE)
"""Written unless `--roles` leaves them out; head and tail are in every bundle."""

_AT_THE_LAYER = {"input-gradient": "gradient", "guided-gradient": "gradient", f"pixel-{RELEVANCE}": RELEVANCE}
"""Graphs that go down to the image -> the one that ends at the layer on the way."""

_FIXED: Mapping[str, Role] = {
    "head": Role(lambda m: m.parts.head, "image"),
    "tail": Role(lambda m: m.parts.tail),
    "pixelwise-tail": Role(_pixelwise_tail),
    "gradient": Role(lambda m: m.gradient(from_image=False)),
    "input-gradient": Role(lambda m: m.gradient(from_image=True), "image", "input_gradient"),
    "guided-gradient": Role(lambda m: guided_gradient_graph(m.whole, m.logits.classes), "image", "guided"),
}


def roles_of(request: Request) -> dict[str, Role]:
    """The roles that a request can have: the fixed ones, and two of relevance per composite.

    Raises:
        RequestError: A composite or a method that does not exist, or two of one name.
    """
    roles = dict(_FIXED)
    for given in dict.fromkeys((DEFAULT, *request.composite)):
        name = composite_name(given)
        for role, from_image in ((RELEVANCE, False), (f"pixel-{RELEVANCE}", True)):
            full = role if given == DEFAULT else f"{role}-{name}"
            if full in roles:
                raise RequestError(f"--composite {given}: there are two composites called {name!r}")
            roles[full] = _relevance_role(request, given, from_image)
    for wanted in parse(request.fuse):
        roles[FUSED + wanted.name] = _fused_role(request, wanted)
    return roles


def check_roles(request: Request) -> None:
    """Refuse a role that does not exist, and a composite that is not right.

    Raises:
        RequestError: Names it.
    """
    roles = roles_of(request)
    for given in request.composite:
        load_composite(given)
    if unknown := set(request.roles) - set(roles):
        raise RequestError(f"no role {sorted(unknown)[0]!r}; there are {', '.join(roles)}")


def asked_for(request: Request, name: str) -> bool:
    """Whether a request names a role, or asks for it by its option."""
    roles = roles_of(request)
    option, composite = roles[name].asked, roles[name].composite
    if composite is not None and composite in {roles[role].composite for role in request.roles}:
        return name in request.roles  # which of a composite's two is said there
    return name in request.roles or (option is not None and bool(getattr(request, option)))


def build_graphs(request: Request, material: Material) -> tuple[dict[str, ir.Graph], dict[str, str]]:
    """The graphs that a request wants and the network allows, and why others are left out.

    Where the graph that ends at the layer can't be made, those that go down to the image are tried too: nobody shall be advised
    to ask for them if they can't be made either.

    Returns:
        Role -> graph, and role -> reason.

    Raises:
        RuleError: A graph that was asked for by name can't be made.
    """
    graphs: dict[str, ir.Graph] = {}
    left_out: dict[str, str] = {}
    for name, role in roles_of(request).items():
        by_name = asked_for(request, name)
        by_default = name in DEFAULTS and (not request.roles or name in ("head", "tail"))
        wanted = by_name or by_default
        if not wanted and _AT_THE_LAYER.get(name) not in left_out:
            continue
        try:
            graph = role.build(material)
        except RuleError as error:
            if by_name:
                raise
            left_out[name] = str(error)
        else:
            if wanted and graph is not None:
                graphs[name] = graph
    return graphs, left_out
