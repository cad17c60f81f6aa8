"""A method as one file: image -> the network's own outputs and a saliency map."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from xai_deploy.format.bundle import fused_role

from ..errors import GraphError
from ..request import Request
from .fuse.fused_method import Wanted, parse
from .fuse.graph import form_of, fused_graph, notes
from .material import Material
from .role import Kind, Role, kinds


def _roles(request: Request) -> Iterator[Role]:
    for wanted in parse(request.fuse):
        yield _role(request, wanted)


def _role(request: Request, wanted: Wanted) -> Role:
    form = form_of(request)

    def build(material: Material) -> ir.Graph:
        try:
            return fused_graph(material, wanted, form)
        except GraphError as error:
            raise GraphError(f"--fuse {wanted.name}: {error}") from None

    return Role(
        fused_role(wanted.name),
        build,
        "image",
        asked=True,
        method=wanted.name,
        notes=notes(wanted, form, request.split),
    )


kinds.register("fused")(Kind(place=50, roles=_roles))
