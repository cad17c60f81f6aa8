"""DETR: [N,Q,4] boxes as cx, cy, w, h in fractions, and [N,Q,C+1] logits, whose last class means "no object".

Carion et al. 2020, arXiv:2005.12872. Each object has one row, so nothing is suppressed.
"""

from __future__ import annotations

from .boxes_scores import are_shares, boxes_scores, pairs
from .detector import Detector, Outputs, decoders


@decoders.register("detr")
def detr(given: Outputs) -> Detector | None:
    """See `Decoder`: scores that are no probabilities, read by a Softmax."""
    if boxes_scores(given) is not None:  # of four classes: its boxes would be logits, and its probabilities boxes
        return None
    for pair in pairs(given):
        scores = given.seen(pair.scores)
        fits = given.names in (0, pair.classes - 1)
        if len(scores) and not are_shares(scores) and pair.classes > 1 and fits:
            return pair.detector(given, "detr", pair.scores, "softmax", pair.classes - 1, suppress=False)
    return None
