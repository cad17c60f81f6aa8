"""The figures of xai-check at the terminal: their limits as options, and the summary."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from ..agreement.compare import PRECISION, ImageAgreement, JudgedFigure, Limits, precisions
from ..agreement.other_outputs import ious
from ..foundation.printable import printable
from .console import Parser, share

_LOWEST = 5  # classes that are listed


def show(
    figures: Sequence[JudgedFigure], images: Sequence[ImageAgreement], passed: bool, by_class: Mapping[str, float]
) -> None:
    """Print the figures and the verdict.

    Args:
        figures: The figures over all images.
        images: The agreement on each image.
        passed: Whether the networks agree.
        by_class: Label -> of dense scores the IoU of the two predictions, of detectors the average precision.
    """
    width = max(len(figure.name) for figure in figures)
    print(f"{'':{width}}   value  worst tenth  limit")
    for figure in figures:
        worst = "" if figure.worst is None else f"{figure.worst:.3f}"
        verdict = "" if figure.passed else "  FAILED"
        print(f"{printable(figure.name):{width}}  {figure.value:6.3f}  {worst:>11}  {figure.limit:.3f}{verdict}")
    if by_class:
        lowest = sorted(by_class.items(), key=lambda item: item[1])[:_LOWEST]
        which = "" if len(lowest) == len(by_class) else "lowest "
        what = "IoU" if images[0].boxes is None else PRECISION
        print(printable(f"{which}{what} by class: " + ", ".join(f"{label} {iou:.3f}" for label, iou in lowest)))
    worst_image = min((one for one in images if one.top_overlap), key=lambda image: min(image.top_overlap.values()))
    differ = (
        f"differ most on {worst_image.image}"
        if min(worst_image.top_overlap.values()) < 1
        else "have the same peaks on all"
    )
    print(printable(f"{len(images)} image{'s' * (len(images) > 1)}; the maps {differ}"))
    print("the networks agree" if passed else "the networks DISAGREE")


def by_class_of(images: Sequence[ImageAgreement]) -> dict[int, float]:
    """Class -> of dense scores the IoU of the two predictions, of detectors the average precision; none for other networks."""
    return precisions(images) or ious([image.positions for image in images])


def add_limits(parser: Parser) -> None:
    """Add the options of the limits."""
    limits = Limits()
    add = parser.add_argument
    add(
        "--min-top1",
        type=share,
        default=limits.top1,
        metavar="F",
        help="least share of equal predictions (default: %(default)s)",
    )
    add(
        "--max-difference",
        type=share,
        default=limits.probability_difference,
        metavar="F",
        help="largest mean difference of the probability, the score or the numbers (default: %(default)s)",
    )
    add(
        "--min-correlation",
        type=share,
        default=limits.rank_correlation,
        metavar="F",
        help="least mean rank correlation of the maps (default: %(default)s)",
    )
    add(
        "--min-overlap",
        type=share,
        default=limits.top_overlap,
        metavar="F",
        help="least mean overlap of the highest tenth of the maps (default: %(default)s)",
    )
    add(
        "--min-iou",
        type=share,
        default=limits.prediction_iou,
        metavar="F",
        help="least mean IoU of the predictions of dense scores, and of boxes (default: %(default)s)",
    )
    add(
        "--min-cosine",
        type=share,
        default=limits.cosine,
        metavar="F",
        help="least mean cosine of the embeddings (default: %(default)s)",
    )
    add(
        "--min-ap",
        type=share,
        default=limits.average_precision,
        metavar="F",
        help="least mean average precision of a detector, the reference's boxes being the truth (default: %(default)s)",
    )


def limits_of(arguments: argparse.Namespace) -> Limits:
    """The limits that were given."""
    return Limits(
        arguments.min_top1,
        arguments.max_difference,
        arguments.min_correlation,
        arguments.min_overlap,
        arguments.min_iou,
        arguments.min_cosine,
        arguments.min_ap,
    )
