"""A network's probabilities: its own output if that holds probabilities. This is the only place that computes them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import NotApplicableError
from .format.manifest import Activation

Floats = TypeVar("Floats", bound=NDArray[Any])
Score: TypeAlias = Literal["probability", "logit", "softmax"]
"""Which score a method reads: the logit; the network's own probability; or the softmax of the logits, for any network."""


def has_probabilities(activation: Activation, classes: int) -> bool:
    """Whether the network has probabilities. The softmax of a single class is always 1 and says nothing; "scores" has none."""
    return activation != "scores" and (classes > 1 or activation not in ("softmax", "none"))


def why_none(activation: Activation) -> str:
    """Why a network has no probabilities, for messages."""
    if activation == "scores":
        return "the network's output is computed from probabilities, but is not a probability itself"
    return "the network has a single output that is not a probability"


def probabilities(logits: Floats, activation: Activation) -> Floats:
    """The probabilities of a network's logits.

    Args:
        logits: [..., classes], the bundle's tensor `logits`, in any floats.
        activation: The manifest's `activation`.

    Returns:
        The same shape and type: the network's own output if it holds probabilities; for a network that ends in logits, their
        softmax.

    Raises:
        NotApplicableError: The network has none.
    """
    if not has_probabilities(activation, logits.shape[-1]):
        raise NotApplicableError(why_none(activation))
    if activation in ("normalised", "independent"):
        return logits
    return sigmoid(logits) if activation == "sigmoid" else softmax(logits)


def decided(logits: NDArray[Any], own: NDArray[Any] | None) -> NDArray[np.int64]:
    """The classes that a network predicts, [n]: those of the highest logits.

    A single output is yes (1) or no (0): 1 if its probability is at least one half; without probabilities, if its logit is at
    least 0.

    Args:
        logits: [n,classes].
        own: The network's own probabilities, [n,classes]; None if it has none.
    """
    if logits.shape[1] > 1:
        return np.asarray(logits.argmax(axis=1), np.int64)
    return np.asarray(logits[:, 0] >= 0 if own is None else own[:, 0] >= 0.5, np.int64)


def softmax(logits: Floats) -> Floats:
    """e^(x_i - max x) / sum_j e^(x_j - max x) over the last axis (classes); no overflow. Shape and type stay."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = exponents / exponents.sum(axis=-1, keepdims=True)
    return shares


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e^-x) = e^(-log(e^0 + e^-x)); no overflow. Shape and type stay."""
    result: Floats = np.exp(-np.logaddexp(0, -logits))
    return result
