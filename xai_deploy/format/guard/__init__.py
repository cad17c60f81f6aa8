"""Checks a graph before a runtime sees it: a stranger's bytes must not crash the runtime, hang it, or take all memory.

`wire` reads protobuf, and `messages` makes small objects from it. Each kind of check has a file: `structure` (operators, order),
`tensors` (as many bytes as the sizes say), `ports` (as the manifest says), `expansion` (memory and work, by the rules in `shapes`).
None of them needs the package `onnx`, and none copies the contents of large tensors.
"""

from .check import Guarded, check_graph, check_self_contained

__all__ = ["Guarded", "check_graph", "check_self_contained"]
