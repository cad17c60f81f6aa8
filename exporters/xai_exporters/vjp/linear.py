"""Matrix products."""

from __future__ import annotations

import string

import numpy as np
import onnx_ir as ir

from ..backward.rules import Step
from ..graph.emit import Ops
from ..graph.shapes import Dims, expand, reshape, unbroadcast
from .table import vjp
from .weights import apart, duplicate, has_scales


@vjp("Gemm", finite=True)
def gemm(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = alpha A' B' + beta C, where A' is A or its transpose: dA' = alpha dy B'^T, dB' = alpha A'^T dy, dC = beta dy."""
    a, b, c = _operand(op, step, 0), _operand(op, step, 1), step.optional(2)
    alpha, beta = float(step.attr("alpha", 1.0)), float(step.attr("beta", 1.0))
    trans_a, trans_b = step.attr("transA", 0), step.attr("transB", 0)
    da = db = dc = None
    if 0 in step.leads and trans_a:
        # A = A'^T: dA = alpha B' dy^T
        da = op.Gemm(b, dy, alpha=alpha, transA=trans_b, transB=1)
    elif 0 in step.leads:
        da = op.Gemm(dy, b, alpha=alpha, transB=1 - trans_b)
    if 1 in step.leads and trans_b:
        # B = B'^T: dB = alpha dy^T A'
        db = op.Gemm(dy, a, alpha=alpha, transA=1, transB=trans_a)
    elif 1 in step.leads:
        db = op.Gemm(a, dy, alpha=alpha, transA=1 - trans_a)
    if 2 in step.leads and c is not None:
        dc = unbroadcast(op, op.Mul(dy, beta), step.dims(step.y), step.dims(c), c)
    return [da, db, dc]


def _operand(op: Ops, step: Step, position: int) -> ir.Value:
    """An operand of the product, for transposed use; perhaps another constant, see `weights.apart`."""
    value = step.input(position)
    return value if position in step.leads else apart(op, value, step.dims(value))


@vjp("MatMul", finite=True)
def matmul(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """y = A B, batches broadcast: dA = dy B^T, dB = A^T dy. A vector is a matrix of one row (A) or one column (B)."""
    a, b = _operand(op, step, 0), _operand(op, step, 1)
    dims_a, dims_b = step.dims(step.x), step.dims(step.input(1))
    rows = (1, *dims_a) if len(dims_a) == 1 else dims_a
    columns = (*dims_b, 1) if len(dims_b) == 1 else dims_b
    matrix_a = op.Unsqueeze(a, [0]) if len(dims_a) == 1 else a
    matrix_b = op.Unsqueeze(b, [-1]) if len(dims_b) == 1 else b
    # y has no axis for a vector's row or column; dy gets it back
    if len(dims_b) == 1:
        dy = op.Unsqueeze(dy, [-1])
    if len(dims_a) == 1:
        dy = op.Unsqueeze(dy, [-2])
    batch = _batch(rows[:-2], columns[:-2])
    da = db = None
    if 0 in step.leads:
        da = op.MatMul(dy, _transposed(op, matrix_b, columns))
        da = unbroadcast(op, da, (*batch, *rows[-2:]), rows, matrix_a)
        da = reshape(op, da, dims_a, a) if rows != dims_a else da
    if 1 in step.leads:
        db = op.MatMul(_transposed(op, matrix_a, rows), dy)
        db = unbroadcast(op, db, (*batch, *columns[-2:]), columns, matrix_b)
        db = reshape(op, db, dims_b, b) if columns != dims_b else db
    return [da, db]


def _batch(a: Dims, b: Dims) -> Dims:
    """The broadcast of two batches of matrices."""
    length = max(len(a), len(b))
    a, b = (1,) * (length - len(a)) + a, (1,) * (length - len(b)) + b
    return tuple(q if p == 1 else p for p, q in zip(a, b, strict=True))


def _transposed(op: Ops, matrix: ir.Value, dims: Dims) -> ir.Value:
    rank = len(dims)
    return op.Transpose(matrix, perm=[*range(rank - 2), rank - 1, rank - 2])


@vjp("Einsum")
def einsum(op: Ops, step: Step, dy: ir.Value) -> list[ir.Value | None]:
    """The gradient of one operand is the einsum of dy with the others; along an axis that only this operand has, it is repeated."""
    terms, result = _equation(step)
    results: list[ir.Value | None] = []
    for i, whole in enumerate(terms):
        if i not in step.leads:
            results.append(None)
            continue
        term = "".join(dict.fromkeys(whole))  # of "bii" a diagonal is taken: the gradient of "bi" goes there
        others = [(t, step.input(j)) for j, t in enumerate(terms) if j != i]
        factors = [_square_apart(op, step, j) for j in range(len(terms)) if j != i]
        known = set(result).union(*(t for t, _ in others))
        # the letters that dy or another operand has; along the others the gradient is constant
        kept = "".join(c for c in term if c in known)
        dx = op.Einsum(dy, *factors, equation=",".join([result, *(t for t, _ in others)]) + "->" + kept)
        # einsum broadcasts, too: a letter can have size 1 in one operand and another size elsewhere
        sizes = {c: d for t, v in [(result, step.y), *others] for c, d in zip(t, step.dims(v), strict=True) if d != 1}
        own = dict(zip(whole, step.dims(step.input(i)), strict=True))
        want = tuple(own[c] for c in kept)
        have = tuple(sizes.get(c, 1) for c in kept)
        dx = unbroadcast(op, dx, have, want, dx)
        if any(h == 1 != w for h, w in zip(have, want, strict=True)):  # dy and all other operands have size 1 along it
            dx = expand(op, dx, want)
        if kept != term:
            dx = op.Unsqueeze(dx, [p for p, c in enumerate(term) if c not in known])
            dx = expand(op, dx, tuple(own[c] for c in term))
        results.append(_to_diagonal(op, step, dx, whole, own))
    return results


def _to_diagonal(op: Ops, step: Step, dx: ir.Value, term: str, sizes: dict[str, int | None]) -> ir.Value:
    """A gradient with one axis per letter on the diagonal of the axes that share a letter, zeros beside it."""
    again = [p for p, c in enumerate(term) if c in term[:p]]
    if not again:
        return dx
    dx = op.Unsqueeze(dx, again)
    for p in again:
        size = sizes[term[p]]
        if size is None:
            raise step.refuse("it takes a diagonal along the batch")
        shape = [size if q in (term.index(term[p]), p) else 1 for q in range(len(term))]
        dx = op.Mul(dx, np.eye(size).reshape(shape))
    return dx


def _square_apart(op: Ops, step: Step, position: int) -> ir.Value:
    """An operand; another constant if it is a weight with two equal sizes or several scales, see `weights.apart`."""
    value = step.input(position)
    dims = [d for d in step.dims(value) if d != 1]
    weight = position not in step.leads and (len(set(dims)) < len(dims) or has_scales(value))
    return duplicate(op, value, step.dims(value)) if weight else value


def _equation(step: Step) -> tuple[list[str], str]:
    """The letters of the operands and of the result; an ellipsis becomes letters, an implicit result becomes explicit."""
    equation = str(step.attr("equation")).replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    if "..." in equation:
        ranks = [len(step.dims(step.input(i))) - len(t.replace("...", "")) for i, t in enumerate(terms) if "..." in t]
        if len(set(ranks)) > 1:
            raise step.refuse("its ellipses stand for different numbers of dimensions")
        free = "".join(c for c in string.ascii_letters if c not in equation)[: ranks[0]]
        terms, result = [t.replace("...", free) for t in terms], result.replace("...", free)
    else:
        free = ""
    if not arrow:  # the implicit result: the letters that occur once, in alphabetical order
        letters = "".join(terms)
        result = free + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in free))
    return terms, result
