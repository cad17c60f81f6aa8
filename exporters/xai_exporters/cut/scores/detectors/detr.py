"""DETR: [N,Q,4] boxes as cx, cy, w, h in fractions, and [N,Q,C+1] logits, whose last class means "no object".

Carion et al. 2020, arXiv:2005.12872. Each object has one row, so nothing is suppressed. A Softmax in the graph makes scores as an
SSD has them, whose class 0 means "no object": with such boxes both may be meant.
"""

from __future__ import annotations

from .boxes_scores import are_shares, boxes_scores, pairs
from .detector import Detector, Outputs, decoders
from .reading import before


@decoders.register("detr")
def detr(given: Outputs) -> Detector | None:
    """See `Decoder`: scores that a Softmax reads, in the graph or not."""
    if (other := boxes_scores(given)) is not None:
        if (other.activation, other.rows.form, other.rows.unit) != ("softmax", "centre", "fractions"):
            return None  # of four classes: its boxes would be logits, and its probabilities boxes
        for pair in pairs(given):
            logits = before(given.clean, pair.scores, "Softmax")
            if logits is not None and (pair.scores, pair.boxes) == other.outputs:
                return pair.detector(given, "detr", logits, "softmax", pair.classes - 1, suppress=False)
        return None
    for pair in pairs(given):
        scores = given.seen(pair.scores)
        fits = given.names.all or given.names.count in (0, pair.classes - 1)
        if before(given.clean, pair.boxes, "Softmax") is not None:
            continue  # the scores of an SSD of four classes; the other output holds its offsets
        if len(scores) and not are_shares(scores) and pair.classes > 1 and fits:
            return pair.detector(given, "detr", pair.scores, "softmax", pair.classes - 1, suppress=False)
    return None
