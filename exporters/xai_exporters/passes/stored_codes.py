"""Store the codes of a weight that the file quantises itself.

A tool may write a weight in floats, then QuantizeLinear and DequantizeLinear (`AddQDQPairToWeight`, NNCF, brevitas). Its codes
never change, so they are computed here.

OpenVINO 2026.4 computed wrong products of such weights, bounded and transposed, in graphs of relevance: by 40 to 80 % of their
largest value.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.coded_weights import codes_of_weight
from ..graph.emit import Emitter
from ..graph.reading import attribute, constant_of

_CODES = (np.dtype(np.int8), np.dtype(np.uint8))


def store_codes(graph: ir.Graph) -> bool:
    """Replace every QuantizeLinear of a constant, with constant scales, by its codes of 8 bits.

    Returns:
        Whether there was one.
    """
    changed = False
    for node in list(graph):
        if node.op_type != "QuantizeLinear" or node.domain not in ("", "ai.onnx") or attribute(node, "block_size", 0):
            continue
        x, s = (constant_of(value) for value in node.inputs[:2])
        z = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.uint8(0)
        if x is None or s is None or z is None or x.dtype != np.float32 or z.dtype not in _CODES:
            continue
        codes = codes_of_weight(x, s, np.asarray(z), attribute(node, "axis", 1))
        weight, out = node.inputs[0], node.outputs[0]
        stored = Emitter(graph, "codes").constant(codes, str(out.name))
        out.replace_all_uses_with(stored, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        if weight is not None and str(weight.name) in graph.initializers and not weight.uses():
            del graph.initializers[str(weight.name)]
            stored.name = str(weight.name)  # layers are named after weights
        changed = True
    return changed
