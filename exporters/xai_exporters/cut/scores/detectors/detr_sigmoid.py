"""Deformable DETR, RT-DETR, RF-DETR and D-FINE as they are trained: as `detr`, but each class has a sigmoid of its own.

Zhu et al. 2021, arXiv:2010.04159 (focal loss); no class means "no object".
"""

from __future__ import annotations

from .boxes_scores import are_shares, boxes_scores, pairs
from .detector import Detector, Outputs, decoders
from .reading import before


@decoders.register("detr-sigmoid")
def detr_sigmoid(given: Outputs) -> Detector | None:
    """See `Decoder`: scores that are no probabilities, read by sigmoids."""
    if boxes_scores(given) is not None:  # of four classes: its boxes would be logits, and its probabilities boxes
        return None
    for pair in pairs(given):
        scores = given.seen(pair.scores)
        fits = given.names.all or given.names.count in (0, pair.classes)
        if before(given.clean, pair.boxes, "Softmax") is not None:
            continue  # as in `detr`
        if len(scores) and not are_shares(scores) and fits:
            return pair.detector(given, "detr-sigmoid", pair.scores, "sigmoid", None, suppress=False)
    return None
