"""The option `tolerance`: methods that end when the error that they state is small enough."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError

log = logging.getLogger(__name__)


def check_tolerance(name: str, tolerance: float | None) -> None:
    """Refuse a tolerance that nothing reaches.

    Raises:
        OptionError: It is not above 0.
    """
    if tolerance is not None and not tolerance > 0:  # `not >` also refuses NaN
        raise OptionError(f"{name}: tolerance is above 0, not {tolerance}")


def warn_of_tolerance(name: str, tolerance: float | None, errors: NDArray[np.floating], most: str) -> None:
    """Log a warning if a stated error stayed above the tolerance.

    Args:
        name: The method.
        tolerance: None: nothing is warned of.
        errors: Those stated.
        most: The option that ended it.
    """
    if tolerance is not None and errors.max(initial=0.0) > tolerance:
        said = "%s: the stated error is %.3g, above the tolerance %g; give more %s, or a larger tolerance"
        log.warning(said, name, float(errors.max()), tolerance, most)
