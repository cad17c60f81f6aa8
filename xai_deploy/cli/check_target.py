"""What the two networks of xai-check explain."""

from __future__ import annotations

import argparse

from ..agreement.boxes import check_target as check_detection
from ..caveats import GIVES, Gives
from ..errors import InputError
from ..explainer import Explainer
from ..targets import Like, Target
from ..targets.one_class import written_class


def target_of(arguments: argparse.Namespace, own: Gives, explainer: Explainer | None) -> Target:
    """What both networks explain; None: the predicted class, of dense scores in its region, or what is recorded.

    Raises:
        InputError: The network needs a target, or takes none.
        TargetError: The target does not fit the network.
    """
    if explainer is None:
        return None
    given: list[Target] = [written_class(text, explainer.space) for text in arguments.target or []]
    given += [Like(reference) for reference in arguments.like or []]
    if own == "classes" and given:
        raise InputError("-t and --like: both networks explain the class that the reference predicts; leave them out")
    if len(given) > 1:
        raise InputError("give one -t or one --like: a check explains one target")
    if not given and own in ("numbers", "embedding") and explainer.bundle.manifest.classes > 1:
        what = "--like FILE" if own == "embedding" else "-t '#3'"
        raise InputError(f"the network gives {GIVES[own]}: say what both explain, {what}")
    target = given[0] if given else None
    if own == "rows":
        check_detection(explainer, target)
    elif own != "classes":
        explainer.check_target(target)
    return target
