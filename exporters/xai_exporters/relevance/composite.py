"""Composites: which rule holds on which node.

A composite is a TOML file; those that come with this package lie in `composites/`, and a user's own is read the same way:

    base = "epsilon-plus"          # holds if nothing below says otherwise; "none": what each operator does by itself

    [ops]                          # operator -> rule
    Conv = {rule = "gamma", gamma = 0.1}

    [first]                        # operator -> rule of the first layers with weights, in graphs that go down to the image
    Conv = {rule = "z-box", low = "input", high = "input"}

    [nodes]                        # module path, node or tensor name -> rule; if several fit, the longest holds
    "layer4.2" = "z-plus"          # a module means its layers with weights ("proportional": its poolings, ...)
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from xai_deploy.foundation.texts import read_text

from ..errors import RequestError, RuleError
from .facts import RESAMPLINGS
from .layer import POOLINGS, SUMS, WEIGHTED
from .layer_rules import ZBox
from .named_rules import NamedRule, make_rule
from .node_names import modules, names_of, own_names
from .table import relevance

DEFAULT = "relevance-cam"
_FOLDER = Path(__file__).with_name("composites")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]*")
_TABLES = ("ops", "first", "nodes")
_OPERATORS = {*WEIGHTED, *POOLINGS, *SUMS, *RESAMPLINGS}

Rules = Mapping[str, NamedRule]


@dataclass(frozen=True)
class Composite:
    """Rules by operator, by operator for first layers, and by name."""

    name: str
    ops: Rules = field(default_factory=dict)
    first: Rules = field(default_factory=dict)
    nodes: Rules = field(default_factory=dict)

    def rule_of(self, node: ir.Node, is_first: bool) -> NamedRule | None:
        """The rule of a node; None if the composite leaves it to the operator."""
        named = [name for name in self.nodes if self._holds(name, node)]
        if named:  # the longest name is the most specific one
            return self.nodes[max(named, key=len)]
        if is_first and node.op_type in self.first:
            return self.first[node.op_type]
        return self.ops.get(node.op_type)

    def check_names(self, nodes: Iterable[ir.Node]) -> None:
        """Refuse a name that fits no node of a network.

        Raises:
            RequestError: A name fits no node. The message gives it, and the nearest names that exist.
        """
        there = list(nodes)
        known = {name: None for node in there for name in names_of(node)}
        for name in self.nodes:
            if not any(self._holds(name, node) for node in there):
                near = difflib.get_close_matches(name, known, 3, cutoff=0.4)
                hint = f"; the nearest are {', '.join(map(repr, near))}" if near else ""
                what = "holds no node that the rule is for" if name in known else "fits nothing in this network"
                raise RequestError(f"composite {self.name!r}: [nodes] {name!r} {what}{'' if name in known else hint}")

    def _holds(self, name: str, node: ir.Node) -> bool:
        """Whether a name in [nodes] means a node: its own name, or its module's if the rule is for its operator."""
        return name in own_names(node) or (node.op_type in self.nodes[name].kinds and name in modules(node))


def composites() -> list[str]:
    """The names of the composites that come with this package."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def composite_name(given: str) -> str:
    """The name of a composite given by name or as a file, which is called by its stem.

    Raises:
        RequestError: It is neither.
    """
    if given in composites():
        return given
    if not given.endswith(".toml"):
        near = difflib.get_close_matches(given, composites(), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise RequestError(f"no composite {given!r}{hint}; there are {', '.join(composites())}, or give a .toml file")
    name = Path(given).stem
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{given}: a composite's file is named in small letters, digits and - (its name becomes a role's)"
        )
    if name in composites():
        raise RequestError(f"{given}: {name!r} is a composite that comes with xai-export; rename the file")
    return name


def load_composite(given: str) -> Composite:
    """A composite by name, or from a .toml file.

    Raises:
        RequestError: It does not exist or is invalid; the message says where.
    """
    name = composite_name(given)
    path = _FOLDER / f"{name}.toml" if given == name else Path(given)
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path with a NUL
        raise RequestError(f"{given}: can't be read ({getattr(error, 'strerror', None) or error})") from None
    return parse_composite(text, name, given)


def parse_composite(text: str, name: str, where: str = "composite") -> Composite:
    """A composite from TOML.

    Args:
        text: The file's content.
        name: The composite's name.
        where: The file, for messages.

    Raises:
        RequestError: It is invalid; the message says where.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: TOMLDecodeError, and integers of thousands of digits
        raise RequestError(f"{where}: not valid TOML ({error})") from None
    for key, value in document.items():
        if key != "base" and key not in _TABLES:
            raise RequestError(f"{where}: unknown key {key!r}; a composite has base, [ops], [first] and [nodes]")
        if isinstance(value, dict) != (key != "base"):
            raise RequestError(f"{where}: {key} is {'a name' if key == 'base' else 'a table'}, not {value!r}")
    # a composite of this package, given by name, has no base by default; a user's file builds on DEFAULT
    base = document.get("base", "none" if where == name else DEFAULT)
    if base != "none" and base not in composites():
        raise RequestError(f"{where}: no base {base!r}; there are none, {', '.join(composites())}")
    rules = {table: _rules(document.get(table, {}), table, where) for table in _TABLES}
    below = Composite(name) if base == "none" else load_composite(base)
    # a file's rule for an operator replaces the base's rule for first layers, too, unless the file has one in [first]
    first = {op: rule for op, rule in below.first.items() if op not in rules["ops"]} | rules["first"]
    return Composite(name, {**below.ops, **rules["ops"]}, first, {**below.nodes, **rules["nodes"]})


def _rules(table: Mapping[str, Any], kind: str, where: str) -> dict[str, NamedRule]:
    rules: dict[str, NamedRule] = {}
    for key, value in table.items():
        here = f"{where}: [{kind}] {key}"
        if kind != "nodes" and key not in relevance:
            near = difflib.get_close_matches(key, relevance, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise RequestError(f"{here}: no operator that relevance passes{hint}")
        rules[key] = make_rule(value, here)
        if kind == "first" and key not in WEIGHTED:
            raise RequestError(f"{here}: first layers are those with weights ({', '.join(WEIGHTED)})")
        if kind != "first" and isinstance(rules[key], ZBox) and "input" in (rules[key].low, rules[key].high):  # type: ignore[attr-defined]
            raise RequestError(f'{here}: the bounds "input" are the image\'s; they are for [first]')
    return rules


def resolve_bounds(
    composite: Composite, bounds: tuple[tuple[float, ...], tuple[float, ...]] | None, changed: Sequence[ir.Node]
) -> Composite:
    """The composite with "input" replaced by the bounds of the network's input.

    Args:
        composite: The composite.
        bounds: The least and the largest values, one per channel.
        changed: First layers that do not get the image as it is.

    Raises:
        RuleError: A rule asks for "input", and the bounds at its layer are not known.
    """
    first = dict(composite.first)
    for kind, rule in composite.first.items():
        if not isinstance(rule, ZBox) or "input" not in (rule.low, rule.high):
            continue
        other = next((node for node in changed if node.op_type == kind), None)
        if other is not None or bounds is None:
            raise RuleError(
                "the values that reach the first layer"
                + (f" {other.name!r}" if other is not None else "")
                + ' are not the image\'s own; give low and high as numbers instead of "input", in a .toml file of your own'
            )
        low, high = (b if given == "input" else given for b, given in zip(bounds, (rule.low, rule.high), strict=True))
        first[kind] = replace(rule, low=low, high=high)
    return replace(composite, first=first)
