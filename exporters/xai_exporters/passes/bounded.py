"""Refuses a network that could take any memory or time, before it runs: its shapes are measured by running it.

The runtime's guard decides, which would refuse the bundle's graphs, too. It computes the size of every tensor for a batch; see
`xai_deploy.format.guard.expansion` for its limits. An export keeps all tensors of several images in several copies (gradients,
relevance, both runtimes, float64): up to 60 times what is alive at once for one image. So the tensors of one image have a limit of
their own, 4 * weights + 512 * image + what the request allows.
"""

from __future__ import annotations

import onnx_ir as ir

from xai_deploy.errors import UnsafeGraphError
from xai_deploy.format.guard.expansion import HARMFUL, OF_FILE, OF_IMAGE, Expansion
from xai_deploy.format.guard.messages import parse
from xai_deploy.format.guard.shapes import rules

from ..errors import GraphError
from ..graph.reading import called

_SUPPRESSED = (
    "how many boxes a suppression leaves is bounded from above, and the tensors after it may well be smaller: export the detector "
    "up to its boxes and scores, which are suppressed when it is explained, or a two-stage one with fewer proposals"
)
_BATCHES = (1, 3)  # the largest at which shapes are measured; a size may be a power of the batch


def require_bounded(model: ir.Model, numbers: int, memory: int) -> None:
    """Refuse it. It holds standard operators only, and its batch is open or 1.

    Args:
        model: The model; not changed.
        numbers: How many numbers it takes for one image.
        memory: MiB that the tensors of an image may take beside what its image and its weights explain.

    Raises:
        GraphError: It would take more memory or work than its weights and its image explain, a tensor's size depends on the image's
            content, or a node makes runtimes crash.
    """
    for node in model.graph:
        if node.op_type not in rules:
            place = called(node.name, (v.name for v in node.outputs))
            raise GraphError(f"{place} is {node.op_type}: how large its result becomes is not known before it runs")
    proto = ir.to_proto(model)
    for entry in [entry for entry in proto.opset_import if entry.domain]:  # their operators are no longer there
        proto.opset_import.remove(entry)
    data = proto.SerializeToString()
    del proto
    image = model.graph.inputs[0]
    one = image.shape is not None and image.shape[0] == 1
    size = numbers * 4  # as float32
    suppresses = any(node.op_type == "NonMaxSuppression" for node in model.graph)
    try:
        # a large window is clipped once its input has been measured (`clipped_pooling`); ONNX Runtime, which measures, clips it too
        expansion = Expansion(parse(data), data, size, {}, windows=False)
        most, place = expansion.check(_BATCHES[0])
        for batch in () if one else _BATCHES[1:]:
            expansion.check(batch)
    except UnsafeGraphError as error:
        why = "" if str(error).endswith(HARMFUL) else ", since it could take any memory or time"
        advice = f"; {_SUPPRESSED}" if suppresses else ""
        raise GraphError(f"the network is not run{why}: {error}{advice}") from None
    limit = OF_FILE * len(data) + OF_IMAGE * size + (memory << 20)
    needed = -(-most >> 20)
    if most > limit and not suppresses:  # what follows a suppression is bounded from above alone, and is smaller
        raise GraphError(
            f"the network is not run: its tensors take {needed} MiB at once for one image, the largest that of {place}, more than "
            f"the {limit >> 20} MiB that its weights and its image explain, and an export takes up to 60 times as much; "
            f"--memory {needed} allows it"
        )
