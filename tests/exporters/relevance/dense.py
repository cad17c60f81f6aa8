"""The rules of relevance on a dense matrix, written from their papers in numpy, without the product and its VJPs.

A layer is y = W x + b with W [outputs, inputs], measured: column i is what the operator makes of the unit vector i. A rule is
a list of shares; a share says how much of output j input i is accounted for, C [outputs, inputs], and by what that is divided,
D [outputs]: R_i = sum over shares of sum_j C_ji r_j / D_j. Sources:

- zero, epsilon, alpha-beta: Bach et al. 2015, equations 56, 58, 60; z-plus, z-box, w-square: Montavon et al. 2017;
- gamma: Montavon et al. 2019; generalized-gamma: zennit 0.5.1, rules.Gamma; flat: Lapuschkin et al. 2019;
- bias "include" as zennit's rules have it, "authors" as the code of Relevance-CAM (a convolution's bias in both halves of Z).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Linear:
    """A linear layer.

    Attributes:
        weight: W [outputs, inputs].
        bias: b [outputs].
        own: The weights are the operator's own, as a pooling's; a rule that changes weights leaves them.
        channels: The channel of each input, for bounds per channel.
        convolution: It is a Conv, whose bias "authors" counts twice.
    """

    weight: Array
    bias: Array
    own: bool = False
    channels: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    convolution: bool = False


@dataclass(frozen=True)
class Share:
    """C [outputs, inputs], D [outputs], and a factor on the relevance of each output."""

    contribution: Array
    denominator: Array
    factor: Array | float = 1.0


def up(a: Array) -> Array:
    """The positive part."""
    return np.maximum(a, 0)


def down(a: Array) -> Array:
    """The negative part."""
    return np.minimum(a, 0)


def stabilised(d: Array, epsilon: float) -> Array:
    """d + epsilon sign(d), sign(0) = 1; without an epsilon infinite where d is 0, that is: nothing is shared out there."""
    if epsilon:
        return d + epsilon * np.where(d < 0, -1.0, 1.0)
    return np.where(d == 0, np.inf, d)


def propagate(layer: Linear, rule: Mapping[str, Any], x: Array, r: Array) -> Array:
    """R [inputs] of x [inputs] from r [outputs]."""
    shares = shares_of(layer, rule, x)
    epsilon = epsilon_of(rule)
    parts = [s.contribution.T @ (s.factor * r / stabilised(s.denominator, epsilon)) for s in shares]
    return np.asarray(sum(parts))


def well_conditioned(layer: Linear, rule: Mapping[str, Any], x: Array, least: float = 0.05) -> Array:
    """Which outputs have no denominator in which float32 would lose much by cancellation."""
    good = np.ones(len(layer.weight), bool)
    for s in shares_of(layer, rule, x):
        size = np.abs(s.contribution).sum(axis=1)
        good &= (np.abs(s.denominator) > least * size) | (size == 0)
    return good


def epsilon_of(rule: Mapping[str, Any]) -> float:
    """The stabiliser, or the default of the rule."""
    return float(rule.get("epsilon", 1e-6 if rule["rule"] == "epsilon" else 0.0))


def shares_of(layer: Linear, rule: Mapping[str, Any], x: Array) -> list[Share]:
    """The shares of a rule at x."""
    options = {k: v for k, v in rule.items() if k not in ("rule", "epsilon", "bias")}
    how = rule.get("bias", "ignore")
    b = layer.bias if how != "ignore" else np.zeros_like(layer.bias)
    return RULES[rule["rule"]](layer, x, b, how == "authors", **options)


def zero(layer: Linear, x: Array, b: Array, _: bool) -> list[Share]:
    c = layer.weight * x
    return [Share(c, c.sum(axis=1) + b)]


def gamma(layer: Linear, x: Array, b: Array, _: bool, gamma: float = 0.25) -> list[Share]:
    w = layer.weight if layer.own else layer.weight + gamma * up(layer.weight)
    c = w * x
    return [Share(c, c.sum(axis=1) + b + gamma * up(b))]


def generalized_gamma(layer: Linear, x: Array, b: Array, _: bool, gamma: float = 0.25) -> list[Share]:
    w, strength = layer.weight, 0.0 if layer.own else gamma
    y = w @ x + b
    above = up(x) * (w + strength * up(w)) + down(x) * (w + strength * down(w))
    below = up(x) * (w + strength * down(w)) + down(x) * (w + strength * up(w))
    return [
        Share(above, above.sum(axis=1) + b + gamma * up(b), np.where(y > 0, 1.0, 0.0)),
        Share(below, below.sum(axis=1) + b + gamma * down(b), np.where(y < 0, 1.0, 0.0)),
    ]


def alpha_beta(layer: Linear, x: Array, b: Array, authors: bool, alpha: float = 2.0, beta: float = 1.0) -> list[Share]:
    c = layer.weight * x
    above, below = up(b), down(b)
    if authors:
        above = below = 2 * b if layer.convolution else 0 * b
    shares = [Share(up(c), up(c).sum(axis=1) + above, alpha)]
    if beta:
        shares.append(Share(down(c), down(c).sum(axis=1) + below, -beta))
    return shares


def z_plus(layer: Linear, x: Array, b: Array, authors: bool) -> list[Share]:
    return alpha_beta(layer, x, b, authors, 1.0, 0.0)


def z_box(layer: Linear, x: Array, b: Array, _: bool, low: Any, high: Any) -> list[Share]:
    def bound(given: Any, sample: float) -> Array:
        if isinstance(given, list):
            return np.asarray(np.array(given)[layer.channels])
        return np.full_like(x, sample if given == "sample" else given)

    w = layer.weight
    c = w * x - up(w) * bound(low, x.min()) - down(w) * bound(high, x.max())
    return [Share(c, c.sum(axis=1))]


def w_square(layer: Linear, x: Array, b: Array, _: bool) -> list[Share]:
    c = np.abs(layer.weight) if layer.own else layer.weight**2
    return [Share(c, c.sum(axis=1) + b**2)]


def flat(layer: Linear, x: Array, b: Array, _: bool) -> list[Share]:
    c = np.abs(layer.weight) if layer.own else (layer.weight != 0).astype(np.float64)
    return [Share(c, c.sum(axis=1))]


RULES: Mapping[str, Callable[..., list[Share]]] = {
    "zero": zero, "epsilon": zero, "gamma": gamma, "generalized-gamma": generalized_gamma, "alpha-beta": alpha_beta,
    "z-plus": z_plus, "proportional": z_plus, "z-box": z_box, "w-square": w_square, "flat": flat,
}  # fmt: skip
