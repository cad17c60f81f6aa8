"""Products of matrices."""

from __future__ import annotations

import itertools
import math

from .rules import Call, Known, Unknowable, broadcast, exact, rule, single

_FEW_TERMS = 6  # of an Einsum, whose orders are all tried


def product(call: Call, a: Known, b: Known, size: int) -> Known:
    """The product a b by the rules of NumPy's matmul: a vector gets an axis of size 1, which the result loses again."""
    if not a.shape or not b.shape:
        raise Unknowable(f"{call.node} multiplies a matrix by a scalar")
    left = a.shape if len(a.shape) > 1 else (1, *a.shape)
    right = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    batch = broadcast(Known(left[:-2]), Known(right[:-2]))
    rows, columns = left[-2:-1] if len(a.shape) > 1 else (), right[-1:] if len(b.shape) > 1 else ()
    return Known((*batch, *rows, *columns), size, exact=exact(a, b), work=a.shape[-1])


@rule("MatMul")
def matmul(call: Call) -> list[Known]:
    return [product(call, call[0], call[1], call[0].size)]


@rule("MatMulInteger")
def matmul_integer(call: Call) -> list[Known]:
    return [product(call, call[0], call[1], 4)]


@rule("QLinearMatMul")
def qlinear_matmul(call: Call) -> list[Known]:
    return [product(call, call[0], call[3], 1)]


@rule("Gemm")
def gemm(call: Call) -> list[Known]:
    a, b = call[0], call[1]
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise Unknowable(f"{call.node} multiplies {list(a.shape)} by {list(b.shape)}")
    rows, columns = a.shape[1 if call.number("transA", 0) else 0], b.shape[0 if call.number("transB", 0) else 1]
    return [Known((rows, columns), a.size, exact=exact(a, b), work=a.count // max(1, rows))]  # the inner size


@rule("Einsum")
def einsum(call: Call) -> list[Known]:
    equation = call.text("equation", b"").decode("ascii", "replace").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms, sizes, dots = left.split(","), dict[str, int](), list[Known]()
    if len(terms) != len(call.inputs):
        raise Unknowable(f"{call.node} has an equation for {len(terms)} inputs")
    for index, term in enumerate(terms):
        _letters(call, term, call[index], sizes, dots)
    if not arrow:  # the output then has the letters that occur once, in alphabetical order
        letters = left.replace(",", "").replace(".", "")
        right = ("..." if "..." in left else "") + "".join(sorted(c for c in sizes if letters.count(c) == 1))
    shape: list[int] = []
    before, ellipsis, after = right.partition("...")
    shape += [sizes.get(letter, 1) for letter in before]
    shape += broadcast(*dots) if ellipsis and dots else ()
    shape += [sizes.get(letter, 1) for letter in after]
    summed = math.prod(size for letter, size in sizes.items() if letter not in right)
    y = Known(tuple(shape), call[0].size, exact=exact(*call.inputs), work=summed)
    # Runtimes take two terms at a time, and lay out what they get twice more.
    y.scratch = 2 * single(y) * max(y.count, _between(terms, right, sizes) * math.prod(broadcast(*dots)))
    return [y]


def _between(terms: list[str], right: str, sizes: dict[str, int]) -> int:
    """The elements of the largest product of some of the terms, whichever are taken first: it keeps the letters needed later."""
    letters, wanted = [set(term) - {"."} for term in terms], set(right)
    if len(letters) > _FEW_TERMS:
        return math.prod(sizes.values())
    largest = 0
    for count in range(2, len(letters)):
        for taken in itertools.combinations(range(len(letters)), count):
            later = wanted.union(*(own for i, own in enumerate(letters) if i not in taken))
            kept = set[str]().union(*(letters[i] for i in taken)) & later
            largest = max(largest, math.prod(sizes[letter] for letter in kept))
    return largest


def _letters(call: Call, term: str, known: Known, sizes: dict[str, int], dots: list[Known]) -> None:
    """Add to `sizes` the size of each letter of a term, and to `dots` the axes that its ellipsis stands for."""
    before, ellipsis, after = term.partition("...")
    rest = len(known.shape) - len(before) - len(after)
    if rest < 0 or (rest and not ellipsis):
        raise Unknowable(f"{call.node} has the term {term!r} for an input {list(known.shape)}")
    dots.append(Known(known.shape[len(before) : len(before) + rest]))
    named = [
        *zip(before, known.shape, strict=False),
        *zip(after, known.shape[len(known.shape) - len(after) :], strict=True),
    ]
    for letter, size in named:
        sizes[letter] = max(sizes.get(letter, 1), size)
