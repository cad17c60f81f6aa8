"""Which graphs an export makes: the roles that its request can have, and those that it wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from xai_deploy.format.bundle import NETWORK

from ..errors import RequestError, RuleError
from ..relevance.composite import load_composite
from ..request import Request
from .material import Material
from .role import Role, kinds


@dataclass(frozen=True)
class RolePlan:
    """The roles of one export, made once.

    Attributes:
        roles: Name -> role, for every role that the request can have.
        named: The names in `Request.roles`; if empty, all roles that are written by default.
        every: Every role is written that the network allows.
        uncut: The network stays whole: only roles that need no layer are written.
    """

    roles: Mapping[str, Role]
    named: tuple[str, ...]
    every: bool = False
    uncut: bool = False

    def asks_for(self, name: str) -> bool:
        """Whether the request names a role, or asks for it by its option."""
        role = self.roles[name]
        if role.as_wanted is not None:
            return self.asks_for(role.as_wanted)
        return name in self.named or role.asked

    def wants(self, name: str) -> bool:
        """Whether the graph of a role is to be written."""
        role = self.roles[name]
        if name == NETWORK or (self.uncut and role.needs_layer):
            return self.uncut and not role.needs_layer
        when = role.when
        return self.asks_for(name) or self.every or when == "always" or (when == "default" and not self.named)

    def whole(self) -> RolePlan:
        """The same for a network that stays whole.

        Raises:
            RequestError: A graph is asked for that needs a layer.
        """
        lost = [name for name, role in self.roles.items() if role.needs_layer and self.asks_for(name)]
        if lost:
            raise RequestError(
                f"the graph {lost[0]!r} needs a layer, and the network is not cut; leave it or {NETWORK!r} out"
            )
        return replace(self, uncut=True)

    def build(self, material: Material) -> tuple[dict[str, ir.Graph], dict[str, str]]:
        """The graphs that are wanted and that the network allows, and why others are left out.

        Returns:
            Role -> graph, and role -> reason.

        Raises:
            RuleError: A graph that was asked for can't be made.
        """
        graphs: dict[str, ir.Graph] = {}
        left_out: dict[str, str] = {}
        for name, role in self.roles.items():
            # a role that is not wanted is tried if its role at the layer failed; its reason is then noted, too
            if not self.wants(name) and role.at_layer not in left_out:
                continue
            try:
                graph = role.build(material)
            except RuleError as error:
                if self.asks_for(name):
                    raise
                left_out[name] = str(error)
            else:
                if self.wants(name) and graph is not None:
                    graphs[name] = graph
        return graphs, left_out


def plan_roles(request: Request) -> RolePlan:
    """The roles of an export.

    Raises:
        RequestError: A role, a composite or a method does not exist, or two have the same name.
    """
    by_place = sorted((kind for name in kinds if (kind := kinds.get(name)) is not None), key=lambda kind: kind.place)
    roles = {role.name: role for kind in by_place for role in kind.roles(request)}
    for given in request.composite:  # refused before the network is read
        load_composite(given)
    if unknown := set(request.roles) - set(roles):
        known = (name for name, role in roles.items() if role.as_wanted is None)  # `tail-1` comes with `tail`
        raise RequestError(f"no role {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    plan = RolePlan(roles, request.roles, request.all_graphs)
    if NETWORK not in request.roles:
        return plan
    if request.split != "auto":
        raise RequestError(f"--roles {NETWORK} leaves the network whole; leave --split {request.split} out")
    return plan.whole()
