"""The rules of linear layers, written in the layer's terms (`layer`); s = R / Z with the stabiliser `epsilon`.

Each rule is the formula of its source. `bias` says how a layer's bias enters Z. "ignore" leaves it out, so that it takes no
relevance (relevance is still lost where Z is 0 and the bias alone drives the output). "include" lets it absorb its share, as
in Zennit (Anders et al. 2021, arXiv:2106.13200).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..backward.rules import Result, Step
from ..graph.emit import Ops
from ..graph.reading import attribute
from .facts import RESAMPLINGS
from .fixed_rules import give
from .layer import POOLINGS, SUMS, WEIGHTED, Layer, Term, is_bilinear, normalised
from .named_rules import rules
from .products import bilinear

Bias = Literal["ignore", "include"]
Sign = Literal["+", "-"]
LARGEST = 1e30  # the bound of a parameter; float32 ends at 3e38
Bound = float | tuple[float, ...] | Literal["sample", "input"]
Shares = Callable[[Layer, ir.Value], Sequence[ir.Value] | None]


def through(op: Ops, step: Step, r: ir.Value, shares: Shares) -> Result:
    """The relevance of a linear node's inputs.

    A product of two signals has a rule of its own (`products`). A constant that is added takes nothing.

    Raises:
        RuleError: The node is not linear.
    """
    if step.node.op_type not in (*WEIGHTED, *POOLINGS, *SUMS, *RESAMPLINGS):
        raise step.refuse("a layer's rule was given to it, and it is no linear layer, pooling or sum")
    if is_bilinear(step):
        return bilinear(op, step, r)
    layer = Layer(op, step)
    if (scaled := normalised(step)) is not None:
        return give(op, step, r, scaled) if scaled in step.leads else None
    if step.node.op_type in SUMS and len(layer.xs) == 1:  # the other terms of the sum are constants
        return give(op, step, r, min(step.leads))
    results: list[ir.Value | None] = [None] * len(step.node.inputs)
    # `shares` gives None if all terms are known to be zero: then no input gets anything
    for position, result in zip(layer.positions, shares(layer, r) or [], strict=False):
        results[position] = result
    return results


def share(
    layer: Layer,
    terms: Sequence[Term],
    r: ir.Value,
    epsilon: float,
    added: ir.Value | None = None,
    nonnegative: bool = False,
) -> list[ir.Value] | None:
    """R shared out among terms in proportion to z' : sum of x' * VJP(R / Z), Z = sum of z' + `added`."""
    if not terms:
        return None
    op = layer.op
    zs = [term.z for term in terms] + ([] if added is None else [added])
    s = layer.divide(r, functools.reduce(op.Add, zs), epsilon, nonnegative)
    return _sum(op, [term.back(s) for term in terms])


def _sum(op: Ops, parts: Sequence[list[ir.Value] | None]) -> list[ir.Value] | None:
    known = [part for part in parts if part is not None]
    return [functools.reduce(op.Add, values) for values in zip(*known, strict=True)] if known else None


def _check(epsilon: float) -> None:
    if not 0 <= epsilon < LARGEST:
        raise ValueError(f"epsilon is a number from 0 on, not {epsilon:g}")


@rules.register("zero")
@dataclass(frozen=True)
class Zero:
    """R_i = sum_j x_i w_ij R_j / z_j (Bach et al. 2015, equation 56). For a sum of tensors: R a / (a + b)."""

    epsilon: float = 0.0
    bias: Bias = "ignore"

    kinds: ClassVar[tuple[str, ...]] = WEIGHTED

    def __post_init__(self) -> None:
        _check(self.epsilon)

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        def shares(layer: Layer, r: ir.Value) -> list[ir.Value] | None:
            bias = layer.bias if self.bias == "include" else None
            return share(layer, layer.terms("all", "all"), r, self.epsilon, bias)

        return through(op, step, r, shares)


@rules.register("epsilon")
@dataclass(frozen=True)
class Epsilon(Zero):
    """R_i = sum_j x_i w_ij R_j / (z_j + epsilon sign(z_j)) (Bach et al. 2015, equation 58)."""

    epsilon: float = 1e-6


@rules.register("gamma")
@dataclass(frozen=True)
class Gamma:
    """The zero rule with w + gamma w+ for w (Montavon et al. 2019); meant for inputs that are not negative."""

    gamma: float = 0.25
    epsilon: float = 0.0
    bias: Bias = "ignore"

    kinds: ClassVar[tuple[str, ...]] = WEIGHTED

    def __post_init__(self) -> None:
        _check(self.epsilon)
        _check_gamma(self.gamma)

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        def shares(layer: Layer, r: ir.Value) -> list[ir.Value] | None:
            term = layer.term(layer.xs, layer.change(lambda w: _more(op, w, self.gamma, "+")))
            bias = _bias(layer, self.bias)
            added = None if bias is None else _more(op, bias, self.gamma, "+")
            return share(layer, [term], r, self.epsilon, added)

        return through(op, step, r, shares)


@rules.register("generalized-gamma")
@dataclass(frozen=True)
class GeneralizedGamma:
    """The gamma rule for inputs of any sign (Andeol et al. 2021, as in Zennit).

    Where y > 0, positive contributions are strengthened: x+ (w + gamma w+) + x- (w + gamma w-). Where y < 0, negative ones are:
    x+ (w + gamma w-) + x- (w + gamma w+).
    """

    gamma: float = 0.25
    epsilon: float = 0.0
    bias: Bias = "ignore"

    kinds: ClassVar[tuple[str, ...]] = WEIGHTED

    def __post_init__(self) -> None:
        _check(self.epsilon)
        _check_gamma(self.gamma)

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        def shares(layer: Layer, r: ir.Value) -> list[ir.Value] | None:
            bias = _bias(layer, self.bias)
            [plain] = layer.terms("all", "all")
            y = plain.z if bias is None else op.Add(plain.z, bias)  # its sign decides what is strengthened
            parts = []
            signs: tuple[Sign, Sign] = ("+", "-")
            # (strengthened sign for x+, for x-, the outputs that it holds for)
            for sign, opposite, side in ((*signs, op.Greater(y, 0.0)), (*signs[::-1], op.Less(y, 0.0))):
                terms = [self._term(layer, "+", sign)]
                if not layer.nonnegative:
                    terms.append(self._term(layer, "-", opposite))
                added = None if bias is None else _more(op, bias, self.gamma, sign)
                parts.append(share(layer, terms, op.Where(side, r, 0.0), self.epsilon, added))
            return _sum(op, parts)

        return through(op, step, r, shares)

    def _term(self, layer: Layer, part: Sign, strengthened: Sign) -> Term:
        xs = [layer.part(x, part) for x in layer.xs]
        return layer.term(xs, layer.change(lambda w: _more(layer.op, w, self.gamma, strengthened)))


@rules.register("alpha-beta")
@dataclass(frozen=True)
class AlphaBeta:
    """alpha * activating - beta * inhibiting share (Bach et al. 2015, equation 60): Z+ = w+ x+ + w- x-, Z- = w- x+ + w+ x-.

    `bias`: "include" puts b+ into Z+ and b- into Z-. "authors" puts the whole bias of a convolution into Z twice, as the code of
    Relevance-CAM does (once with each half of Z).
    """

    alpha: float = 2.0
    beta: float = 1.0
    epsilon: float = 0.0
    bias: Bias | Literal["authors"] = "ignore"

    kinds: ClassVar[tuple[str, ...]] = WEIGHTED

    def __post_init__(self) -> None:
        _check(self.epsilon)
        if not (self.alpha >= 1 and self.beta >= 0 and math.isclose(self.alpha - self.beta, 1)):
            raise ValueError(f"alpha - beta has to be 1, beta not negative; not {self.alpha:g} and {self.beta:g}")

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        def shares(layer: Layer, r: ir.Value) -> list[ir.Value] | None:
            # x+ w+ and x- w- are the positive contributions, x+ w- and x- w+ the negative ones
            activating = [*layer.terms("+", "+"), *layer.terms("-", "-")]
            above = r if self.alpha == 1 else op.Mul(r, self.alpha)
            known = self.bias != "authors"  # the authors' bias can make Z negative
            parts = [share(layer, activating, above, self.epsilon, self._added(layer, "+"), nonnegative=known)]
            if self.beta:
                inhibiting = [*layer.terms("+", "-"), *layer.terms("-", "+")]
                parts.append(share(layer, inhibiting, op.Mul(r, -self.beta), self.epsilon, self._added(layer, "-")))
            return _sum(op, parts)

        return through(op, step, r, shares)

    def _added(self, layer: Layer, part: Sign) -> ir.Value | None:
        bias = None if self.bias == "ignore" else layer.bias
        if bias is None or self.bias == "include":
            return None if bias is None else _signed(layer.op, bias, part)
        return layer.op.Mul(bias, 2.0) if layer.step.node.op_type == "Conv" else None


@rules.register("z-plus")
@dataclass(frozen=True)
class ZPlus:
    """R_i = sum_j (x_i+ w_ij+ + x_i- w_ij-) R_j / Z_j, Z = w+ x+ + w- x- with one shared denominator.

    This is the alpha-beta rule with alpha = 1, beta = 0. For x >= 0 it is the z+ rule of Montavon et al. 2017.
    """

    epsilon: float = 0.0
    bias: Bias | Literal["authors"] = "ignore"

    kinds: ClassVar[tuple[str, ...]] = WEIGHTED

    def __post_init__(self) -> None:
        _check(self.epsilon)

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        return AlphaBeta(1.0, 0.0, self.epsilon, self.bias)(op, step, r)


@rules.register("proportional")
@dataclass(frozen=True)
class Proportional(ZPlus):
    """A pooling's relevance in proportion to x+, R_i = x_i+ w_i R / sum x+ w (its z+ rule); also for a maximum."""

    kinds: ClassVar[tuple[str, ...]] = tuple(POOLINGS)

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        if step.node.op_type not in (*POOLINGS, *RESAMPLINGS):
            raise step.refuse("the rule 'proportional' is for poolings")
        return super().__call__(op, step, r)


@rules.register("z-box")
@dataclass(frozen=True)
class ZBox:
    """For inputs in [l,h], the pixels: R_i = sum_j (x_i w_ij - l_i w_ij+ - h_i w_ij-) R_j / sum_i of the same.

    The rule is that of Montavon et al. 2017; as there, the share of the bounds l and h is subtracted.

    Attributes:
        low, high: A number, one per channel; "sample": the least and the largest value of the image at hand; "input": what the
            preprocessing makes of black and white.
    """

    low: Bound
    high: Bound
    epsilon: float = 0.0

    kinds: ClassVar[tuple[str, ...]] = WEIGHTED

    def __post_init__(self) -> None:
        _check(self.epsilon)
        numbers = [b if isinstance(b, tuple) else (b,) for b in (self.low, self.high) if not isinstance(b, str)]
        if not all(math.isfinite(v) for bound in numbers for v in bound):
            raise ValueError("low and high are finite numbers")
        if len(numbers) == 2 and not all(low <= high for low, high in itertools.product(*numbers)):
            raise ValueError(f"low lies below high, not {self.low} and {self.high}")

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        def shares(layer: Layer, r: ir.Value) -> list[ir.Value] | None:
            if layer.weight is None:
                raise step.refuse("the rule 'z-box' is for layers with weights")
            [x] = layer.xs
            [whole] = layer.terms("all", "all")
            # three terms: x w, l w+ and h w-
            below = layer.term([self._bound(layer, x, self.low, op.ReduceMin)], layer.change(lambda w: op.Max(w, 0.0)))
            above = layer.term([self._bound(layer, x, self.high, op.ReduceMax)], layer.change(lambda w: op.Min(w, 0.0)))
            s = layer.divide(r, op.Sub(op.Sub(whole.z, below.z), above.z), self.epsilon)
            relevances = [term.back(s)[0] for term in (whole, below, above)]
            return [op.Sub(op.Sub(relevances[0], relevances[1]), relevances[2])]

        return through(op, step, r, shares)

    def _bound(self, layer: Layer, x: ir.Value, bound: Bound, reduce: Callable[..., ir.Value]) -> ir.Value:
        """The bound l or h in the shape of x; if x was padded, the bound is 0 in the padding, too."""
        pad = x.producer()
        if pad is not None and pad.op_type == "Pad" and attribute(pad, "mode", "constant") == "constant":
            inner = pad.inputs[0]
            assert inner is not None
            return layer.padded(self._bound(layer, inner, bound, reduce), pad, x)
        dims = layer.step.dims(x)
        # without an open dimension the batch is fixed, and the first axis
        batch = dims.index(None) if None in dims else 0
        rest = [axis for axis in range(len(dims)) if axis != batch]  # the first of them are the channels
        if bound == "sample":
            return layer.spread(reduce(x, rest, keepdims=1), x)
        of_codes = layer.scaling.scale if layer.scaling is not None else None

        def spread(numbers: NDArray[Any] | float) -> ir.Value:
            return layer.spread(numbers if of_codes is None else layer.op.Div(numbers, of_codes), x)

        if isinstance(bound, tuple):
            if len(bound) != dims[rest[0]]:
                raise layer.step.refuse(
                    f"the rule 'z-box' has bounds for {len(bound)} channels, its input has {dims[rest[0]]}"
                )
            return spread(np.array(bound).reshape([-1 if axis == rest[0] else 1 for axis in range(len(dims))]))
        assert isinstance(bound, float)  # `resolve_bounds` has replaced "input"
        return spread(bound)


@rules.register("w-square")
@dataclass(frozen=True)
class WSquare:
    """R_i = sum_j w_ij^2 R_j / sum_i w_ij^2 (Montavon et al. 2017), regardless of the input."""

    epsilon: float = 0.0
    bias: Bias = "ignore"

    kinds: ClassVar[tuple[str, ...]] = WEIGHTED

    def __post_init__(self) -> None:
        _check(self.epsilon)

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        def shares(layer: Layer, r: ir.Value) -> list[ir.Value] | None:
            _refuse_resampling(step, "w-square")
            bias = _bias(layer, self.bias)
            # with inputs of 1, z' is the sum of w^2
            term = layer.term(layer.ones(), layer.change(lambda w: op.Mul(w, w)))
            return share(layer, [term], r, self.epsilon, None if bias is None else op.Mul(bias, bias), nonnegative=True)

        return through(op, step, r, shares)


@rules.register("flat")
@dataclass(frozen=True)
class Flat:
    """R_i = sum_j R_j / (number of inputs of j) (Lapuschkin et al. 2019): evenly, regardless of input and weights."""

    epsilon: float = 0.0

    kinds: ClassVar[tuple[str, ...]] = WEIGHTED

    def __post_init__(self) -> None:
        _check(self.epsilon)

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        def shares(layer: Layer, r: ir.Value) -> list[ir.Value] | None:
            _refuse_resampling(step, "flat")
            weight = None  # with inputs and weights of 1, z' is the number of inputs
            if layer.weight is not None:
                sizes = [d or 1 for d in step.dims(layer.weight)]
                weight = layer.change(lambda _: op.Expand(1.0, sizes))
            return share(layer, [layer.term(layer.ones(), weight)], r, self.epsilon, nonnegative=True)

        return through(op, step, r, shares)


def _refuse_resampling(step: Step, rule: str) -> None:
    if step.node.op_type in RESAMPLINGS:
        raise step.refuse(f"the rule {rule!r} is for layers with weights, poolings and sums")


def _check_gamma(gamma: float) -> None:
    if not 0 < gamma < LARGEST:
        raise ValueError(f"gamma is a positive number, not {gamma:g}")


def _bias(layer: Layer, bias: str) -> ir.Value | None:
    return layer.bias if bias == "include" else None


def _signed(op: Ops, value: ir.Value, part: Sign) -> ir.Value:
    return op.Max(value, 0.0) if part == "+" else op.Min(value, 0.0)


def _more(op: Ops, value: ir.Value, gamma: float, part: Sign) -> ir.Value:
    """value + gamma * its positive (negative) part."""
    return op.Add(value, op.Mul(_signed(op, value, part), gamma))
