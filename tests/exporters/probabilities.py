"""Networks that end in probabilities, and in what is none, by the many ways of writing them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from . import nets
from . import onnx_nets as o

Ending = Callable[[o.Build, str], str]


def number(b: o.Build, value: float) -> str:
    """A scalar weight."""
    return b.weight(np.array(value, np.float32))


def scores(b: o.Build, x: str, factor: float = 2.0, classes: int = nets.CLASSES) -> str:
    """Scores [N,classes] of the pooled features, spread so that probabilities are neither flat nor saturated."""
    weight = b.rng.standard_normal((o.CHANNELS, classes)).astype(np.float32) * np.float32(factor)
    return b("Gemm", x, b.weight(weight), b.draw(classes))


def _mean_of_two(b: o.Build, x: str) -> str:
    parts = [b("Softmax", scores(b, x, factor)) for factor in (1.0, 3.0)]
    return b("Mul", b("Add", *parts), number(b, 0.5))


def _written_out(b: o.Build, x: str) -> str:
    e = b("Exp", scores(b, x))
    return b("Div", e, b("ReduceSum", e, b.weight([1]), keepdims=1))


def _written_out_safely(b: o.Build, x: str) -> str:
    x = scores(b, x)
    e = b("Exp", b("Sub", x, b("ReduceMax", x, b.weight([1]), keepdims=1)))
    return b("Div", e, b("ReduceSum", e, b.weight([1]), keepdims=1))


def _yes_and_no(b: o.Build, x: str) -> str:
    p = b("Sigmoid", scores(b, x, classes=1))
    return b("Concat", b("Sub", number(b, 1), p), p, axis=1)


def _sigmoid_written_out(b: o.Build, x: str) -> str:
    return b("Div", number(b, 1), b("Add", number(b, 1), b("Exp", b("Neg", scores(b, x)))))


def _normalised_sigmoid(b: o.Build, x: str) -> str:
    p = b("Sigmoid", scores(b, x))
    return b("Div", p, b("ReduceSum", p, b.weight([1]), keepdims=1))


def _tanh(b: o.Build, x: str) -> str:
    return b("Div", b("Add", b("Tanh", scores(b, x, 0.5)), number(b, 1)), number(b, 2))


def _softsign(b: o.Build, x: str) -> str:
    """(x / (1 + |x|) + 1) / 2, whose bounds the operators alone do not tell."""
    x = scores(b, x, 30)
    y = b("Div", x, b("Add", b("Abs", x), number(b, 1)))
    return b("Mul", b("Add", y, number(b, 1)), number(b, 0.5))


def _grouped(b: o.Build, x: str) -> str:
    """Two groups of three classes, a softmax over each."""
    groups = b("Softmax", b("Reshape", scores(b, x, classes=6), b.weight([0, 2, 3])), axis=2)
    return b("Reshape", groups, b.weight([0, 6]))


def _hierarchical(b: o.Build, x: str) -> str:
    """The probability of a leaf: of its group times of it within the group."""
    group = b("Reshape", b("Softmax", scores(b, x, classes=2)), b.weight([0, 2, 1]))
    within = b("Softmax", b("Reshape", scores(b, x, classes=6), b.weight([0, 2, 3])), axis=2)
    return b("Reshape", b("Mul", group, within), b.weight([0, 6]))


def _coded(b: o.Build, x: str) -> str:
    scale, zero = number(b, 1 / 256), b.weight(np.array(0, np.uint8))
    return b("DequantizeLinear", b("QuantizeLinear", b("Softmax", scores(b, x)), scale, zero), scale, zero)


def _sum_share(b: o.Build, x: str) -> str:
    """Softplus in place of exp: evidential networks."""
    e = b("Add", b("Softplus", scores(b, x)), number(b, 1))
    return b("Div", e, b("ReduceSum", e, b.weight([1]), keepdims=1))


def _mean_of_two_alike(b: o.Build, x: str) -> str:
    """As of an image and its mirror image: the mean is within a thousandth of either."""
    z = scores(b, x)
    return b("Mul", b("Add", b("Softmax", z), b("Softmax", b("Mul", z, number(b, 1.0005)))), number(b, 0.5))


PROBABILITIES: dict[str, tuple[Ending, str]] = {
    "softmax": (lambda b, x: b("Softmax", scores(b, x)), "softmax"),
    "temperature": (lambda b, x: b("Softmax", b("Div", scores(b, x), number(b, 2.5))), "softmax"),
    "exp and sum": (_written_out, "softmax"),
    "exp and sum, safely": (_written_out_safely, "softmax"),
    "exp of log-softmax": (lambda b, x: b("Exp", b("LogSoftmax", scores(b, x))), "softmax"),
    "clipped softmax": (lambda b, x: b("Clip", b("Softmax", scores(b, x)), number(b, 1e-7), number(b, 1)), "softmax"),
    "softmax twice": (lambda b, x: b("Softmax", b("Softmax", scores(b, x))), "softmax"),
    "codes of softmax": (_coded, "softmax"),
    "mean of two": (_mean_of_two, "normalised"),
    "mean of two alike": (_mean_of_two_alike, "normalised"),
    "yes and no": (_yes_and_no, "normalised"),
    "normalised sigmoid": (_normalised_sigmoid, "normalised"),
    "hierarchical": (_hierarchical, "normalised"),
    "evidential": (_sum_share, "normalised"),
    "sigmoid": (lambda b, x: b("Sigmoid", scores(b, x)), "sigmoid"),
    "one sigmoid": (lambda b, x: b("Sigmoid", scores(b, x, classes=1)), "sigmoid"),
    "sigmoid written out": (_sigmoid_written_out, "sigmoid"),
    "hard sigmoid": (lambda b, x: b("HardSigmoid", scores(b, x)), "independent"),
    "clip": (lambda b, x: b("Clip", scores(b, x, 0.5), number(b, 0), number(b, 1)), "independent"),
    "one clip": (lambda b, x: b("Clip", b("Abs", scores(b, x, 0.2, 1)), number(b, 0), number(b, 1)), "independent"),
    "tanh": (_tanh, "independent"),
    "groups": (_grouped, "independent"),
    "noisy or": (
        lambda b, x: b("Sub", number(b, 1), b("Mul", *(b("Sigmoid", scores(b, x)) for _ in range(2)))),
        "independent",
    ),
    "softmax through tanh": (
        lambda b, x: b(
            "Add", b("Mul", b("Tanh", b("Mul", scores(b, x), number(b, 0.5))), number(b, 0.5)), number(b, 0.5)
        ),
        "sigmoid",
    ),
    "logsumexp": (
        lambda b, x: b("Exp", b("Sub", y := scores(b, x), b("ReduceLogSumExp", y, b.weight([1]), keepdims=1))),
        "softmax",
    ),
    "classes in another order": (
        lambda b, x: b("Gather", b("Softmax", scores(b, x)), b.weight([3, 1, 4, 0, 2]), axis=1),
        "normalised",
    ),
    "without the background": (
        lambda b, x: b("Slice", b("Softmax", scores(b, x)), b.weight([1]), b.weight([5]), b.weight([1])),
        "independent",
    ),
    "sharpened": (lambda b, x: b("Pow", b("Sigmoid", scores(b, x)), number(b, 1.5)), "independent"),
    "probit": (
        lambda b, x: b("Mul", b("Add", b("Erf", scores(b, x, 0.5)), number(b, 1)), number(b, 0.5)),
        "independent",
    ),
    "relu6 by 6": (
        lambda b, x: b("Div", b("Clip", scores(b, x, 2), number(b, 0), number(b, 6)), number(b, 6)),
        "independent",
    ),
    "any of three": (
        lambda b, x: b(
            "Sub",
            number(b, 1),
            b(
                "ReduceProd",
                b("Reshape", b("Sigmoid", scores(b, x, classes=6)), b.weight([0, 2, 3])),
                b.weight([2]),
                keepdims=0,
            ),
        ),
        "independent",
    ),
    "softsign": (_softsign, "independent"),
    "dimmed": (lambda b, x: b("Mul", b("Softmax", scores(b, x)), number(b, 0.5)), "independent"),
    "largest of two": (lambda b, x: b("Max", *(b("Sigmoid", scores(b, x)) for _ in range(2))), "independent"),
}
"""Name -> how it is written, and what the bundle calls it."""

SCORES: dict[str, Ending] = {
    "small": lambda b, x: b("Add", b("Mul", scores(b, x), number(b, 1e-3)), number(b, 0.5)),
    "relu": lambda b, x: b("Relu", scores(b, x)),
    "cosine": lambda b, x: b("Tanh", scores(b, x)),
    "log-softmax": lambda b, x: b("LogSoftmax", scores(b, x)),
    "log of softmax": lambda b, x: b("Log", b("Softmax", scores(b, x, 0.02))),
    "sum of three": lambda b, x: b("Clip", scores(b, x), number(b, 0), number(b, 6)),
}
"""Scores that are no probabilities: what is told is their softmax."""


def network(ending: Ending) -> onnx.ModelProto:
    """Convolutions, pooling, and such an end."""
    b = o.Build()
    x = b("Identity", ending(b, b.pooled(b.features())), out="result")
    return b.model(x)
