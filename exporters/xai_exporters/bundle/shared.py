"""Weights once: a graph that holds weights of others becomes a list of parts that says where they lie (`xai_deploy.format.parts`).

Head and tail stay ONNX files, or the network that is not cut, and so do fused graphs, which other programs run. Each of the others
becomes a list if that saves `_WORTHWHILE` bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xai_deploy.format.bundle import FileRecord, Graph, Manifest, fused_method
from xai_deploy.format.guard.messages import Tensor, parse
from xai_deploy.format.parts import PARTS, SUFFIX, Part, listed

from .stage import Draft

_WORTHWHILE = 1 << 20  # bytes that a list must save; below, an ONNX file that anyone can open is worth more
_LARGE = 4096  # bytes of a tensor that is looked for in other files


@dataclass(frozen=True)
class _Weights:
    """A large tensor's bytes within a graph: where they begin and end, and their sha256."""

    start: int
    end: int
    digest: bytes


class _Known:
    """Where the bytes of tensors lie."""

    def __init__(self) -> None:
        self._places: dict[bytes, tuple[str, int]] = {}

    def parts(self, tensors: Sequence[_Weights]) -> list[Part]:
        """The parts of a graph that lie in other files. Each place serves a graph once: a reader allows no graph to take more bytes
        than all files have."""
        parts, end, used = [], 0, set()
        for tensor in tensors:
            place = self._places.get(tensor.digest)
            if place is not None and place not in used:
                used.add(place)
                parts.append(Part(tensor.start - end, *place, tensor.end - tensor.start))
                end = tensor.end
        return parts

    def note(self, file: str, tensors: Sequence[_Weights], parts: Sequence[Part] = ()) -> None:
        """Note where the tensors lie that nothing else holds: in an ONNX file, or after the list of its parts."""
        shift, cut, ahead = len(listed(parts)) if parts else 0, 0, list(parts)
        for tensor in tensors:
            if ahead and tensor.start == cut + ahead[0].own:  # this one lies elsewhere
                part = ahead.pop(0)
                shift, cut = shift - part.length, tensor.end
            else:
                self._places.setdefault(tensor.digest, (file, tensor.start + shift))


def share_weights(manifest: Manifest, draft: Draft) -> Manifest:
    """Write those graphs as lists of parts whose weights lie in others.

    Args:
        manifest: The bundle's, all graphs of which are ONNX files.
        draft: Its files.

    Returns:
        The manifest with the files that there are now.

    Raises:
        OutputError: A file can't be written.
    """
    known, graphs = _Known(), dict(manifest.graphs)
    for role in sorted(
        graphs, key=lambda role: role not in manifest.parts
    ):  # head and tail first; the others stay in order
        graph = graphs[role]
        if fused_method(role) is not None:
            continue
        data = draft.file(graph.file).read_bytes()
        tensors = _large_tensors(data)
        parts = [] if role in manifest.parts else known.parts(tensors)
        if sum(part.length for part in parts) < _WORTHWHILE:
            parts = []
        else:
            graphs[role] = _write(draft, role, graph, data, parts)
        known.note(graphs[role].file, tensors, parts)
    if graphs == manifest.graphs:
        return manifest
    return replace(manifest, graphs=graphs, requires=(*manifest.requires, PARTS))


def _write(draft: Draft, role: str, graph: Graph, data: bytes, parts: Sequence[Part]) -> Graph:
    own, position = [], 0
    for part in parts:
        own.append(data[position : position + part.own])
        position += part.own + part.length
    name = f"{role}{SUFFIX}"
    draft.write(name, b"".join([listed(parts), *own, data[position:]]))
    draft.remove(graph.file)
    return replace(graph, file=name, whole=FileRecord(hashlib.sha256(data).hexdigest(), len(data)))


def _large_tensors(data: bytes) -> list[_Weights]:
    """The large tensors of an ONNX file, in its order."""
    graph = parse(data)
    values = (value for node in graph.nodes for value in node.attributes.values() if isinstance(value, Tensor))
    places = sorted(tensor.raw for tensor in (*graph.tensors, *values) if tensor.raw is not None)
    view = memoryview(data)
    return [
        _Weights(start, end, hashlib.sha256(view[start:end]).digest()) for start, end in places if end - start >= _LARGE
    ]
