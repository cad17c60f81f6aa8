"""Comparing graphs whose TopK choose: each gets the places that the reference chose, and has to find them as good as its own.

Among candidates that are nearly equal, rounding decides, and whatever follows from another choice is other numbers. So a choice is
compared by the values at the places, and all else with the same choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.format.bundle import CHOICE, Manifest, fused_method, role_at

from ..cut.chosen import BEST, TAKEN, choices, give, take
from ..graph.measure import OnnxFile, batch_of
from ..graph.writing import make_model, to_bytes

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_LOWER = 1e-3
"""How much lower, as a share of the largest value, the values are that another TopK takes at most."""


def chosen_names(manifest: Manifest) -> tuple[str, ...]:
    """The names that the tensors chosen by TopK have in the source; none for most networks."""
    return tuple(name.removeprefix(CHOICE) for name in manifest.choices)


def choosing_roles(manifest: Manifest) -> Iterator[str]:
    """The graphs that choose."""
    for level in range(len(manifest.layers)):
        role = role_at(manifest.scoring, level)
        if any(port.name.startswith(CHOICE) for port in manifest.graphs[role].gives):
            yield role


def pinned(model: OnnxFile) -> bytes:
    """A tail that takes its choices; it gives what `worst_choice` compares."""
    loaded = ir.from_proto(onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model))
    take(loaded.graph, compare=True)
    return to_bytes(make_model(loaded.graph))


def all_pinned(contents: Mapping[str, OnnxFile], manifest: Manifest) -> dict[str, OnnxFile]:
    """A bundle's graphs, by the names of their files, with pinned ones in place of those that choose."""
    graphs = {**contents, **{f"{role}.onnx": pinned(contents[f"{role}.onnx"]) for role in choosing_roles(manifest)}}
    for role, graph in manifest.graphs.items() if manifest.choices else ():
        if fused_method(role) is not None and (fused := pinned_fused(contents[graph.file], manifest)) is not None:
            graphs[graph.file] = fused
    return graphs


def pinned_fused(model: OnnxFile, manifest: Manifest) -> bytes | None:
    """A fused graph that takes the choices as a pinned tail does; None if it makes none of them.

    As it is delivered it chooses by itself: its rows may be others of nearly equal scores, or lie in another order.
    """
    loaded = ir.from_proto(onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model))
    ports = {port.name: port for port in manifest.graphs[manifest.scoring].gives}
    shapes = {name: (1, *(size or 1 for size in ports[f"{CHOICE}{name}"].shape)) for name in chosen_names(manifest)}
    if shapes.keys().isdisjoint(choices(loaded.graph)):
        return None
    give(loaded.graph, shapes, batch_of(loaded.graph.inputs[0]), tuple(shapes))
    take(loaded.graph, compare=True)
    return to_bytes(make_model(loaded.graph))


def worst_choice(results: Arrays) -> float:
    """How far the values at the given places are from a pinned tail's own largest values, as a share of the largest magnitude."""
    apart = 0.0
    for name, best in results.items():
        if name.startswith(BEST):
            taken = results[f"{TAKEN}{name.removeprefix(BEST)}"].astype(np.float64)
            known = np.isfinite(best) & (taken != best)  # minus infinity stands for candidates that do not count
            size = float(np.abs(best[np.isfinite(best)]).max(initial=0)) or 1.0
            apart = max(apart, float(np.abs(taken - best)[known].max(initial=0)) / size)
    return apart


def other_choice(results: Arrays) -> str | None:
    """How far the rows that a pinned graph chooses by itself are from those it was given; None if these are as good."""
    lower = worst_choice(results)
    return f"values differ by {lower:.1e} of the largest one" if lower > _LOWER else None


def with_choices(source: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto | None:
    """The source with the places that its TopK choose as outputs; None if it has no such tensors, or there are none to give."""
    made: set[str] = {node.output[1] for node in source.graph.node if node.op_type == "TopK" and len(node.output) == 2}
    if not names or not made.issuperset(names):
        return None
    own = {output.name for output in source.graph.output}
    copy: onnx.ModelProto = onnx.ModelProto.FromString(source.SerializeToString())
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in own)
    return copy
