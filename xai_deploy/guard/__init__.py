"""Looks at a graph before a runtime does: strangers' bytes must not crash it, hang it, or take all memory.

`wire` reads protobuf, `messages` makes small objects of it, and each rule has a file: `structure` (operators, order),
`tensors` (as many bytes as sizes say), `ports` (as the manifest says), `expansion` (memory and work). All of it without
the package `onnx`; contents are never copied.
"""

from .check import Guarded, check_graph, check_self_contained

__all__ = ["Guarded", "check_graph", "check_self_contained"]
