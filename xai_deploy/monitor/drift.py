"""Whether two samples differ: distances, and how probable such a distance is by chance. NumPy alone.

The probabilities hold for records that are independent of each other. Pictures of one camera a second apart are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

EXACT = 2000  # records of both samples: above it the limit distribution is used
_AT_ONCE = 1 << 20  # random numbers that are drawn together
_EXPECTED = 5  # records in a bin, at least, for the chi-squared distribution to hold


def ks_distance(a: Numbers, b: Numbers) -> float:
    """The Kolmogorov-Smirnov distance of two samples: the largest difference of their distribution functions, 0 to 1."""
    at = np.concatenate([a, b])
    of_a, of_b = (np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (a, b))
    return float(np.abs(of_a - of_b).max())


def ks_probability(distance: float, n: int, m: int) -> float:
    """How probable a distance as large is for two samples of one continuous distribution. With ties it is at most that.

    Exact up to `EXACT` records: both samples sorted together are a random path from (0,0) to (n,m), each as probable as any other,
    and the distance is reached if |i/n - j/m| is somewhere on it (Hodges 1958). Above: the limit distribution,
    2 sum_k (-1)^(k-1) exp(-2 k^2 d^2 n m / (n + m)) (Smirnov 1939).

    Args:
        distance: What `ks_distance` gives.
        n, m: The sizes of the samples.
    """
    if n + m > EXACT:
        x = -2 * distance**2 * n * m / (n + m)
        if x > -0.1:  # the series would need many terms, and its value is 1 to twelve digits
            return 1.0
        signs = (-1.0) ** np.arange(100)
        return float(np.clip(2 * (signs * np.exp(x * np.arange(1, 101) ** 2)).sum(), 0, 1))
    n, m = sorted((n, m))
    reached = round(distance * n * m)
    taken = np.arange(n + 1)
    mass, probability = np.zeros(n + 1), 0.0
    mass[0] = 1.0
    for step in range(n + m + 1):  # after `step` records, of which `taken` are of the first sample
        outside = np.abs(taken * m - (step - taken) * n) >= reached
        probability += mass[outside].sum()
        mass[outside] = 0
        if step < n + m:
            share = np.clip((n - taken) / (n + m - step), 0, 1)  # that the next record is of the first sample
            moved = mass * share
            mass -= moved
            mass[1:] += moved[:-1]
    return float(min(probability, 1.0))


def psi(a: Numbers, b: Numbers) -> float:
    """The population stability index of two histograms over the same bins: sum (q_i - p_i) log(q_i / p_i), at least 0.

    Half a record is added to each bin, so that an empty one gives no infinity.

    Args:
        a, b: How many records are in each bin.
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (a, b))
    return float(((q - p) * np.log(q / p)).sum())


def homogeneity(a: Numbers, b: Numbers) -> float:
    """How probable two histograms that differ as much are for one distribution.

    Over two bins Fisher's exact test, which holds for small numbers, too; over more Pearson's chi-squared test of homogeneity.

    Args:
        a, b: How many records are in each bin; no bin is empty in both.
    """
    if len(a) == 2:
        return _fisher(int(a[0]), int(a.sum()), int(b.sum()), int(a[0] + b[0]))
    whole = a + b
    expected = [whole * counts.sum() / whole.sum() for counts in (a, b)]
    statistic = sum(((counts - e) ** 2 / e).sum() for counts, e in zip((a, b), expected, strict=True))
    return chi_squared_tail(float(statistic), len(a) - 1)


def _fisher(here: int, n: int, m: int, both: int) -> float:
    """Of n + m records `both` are in the first bin: the probability of all divisions among n and m no more probable than `here`."""

    def log_choose(of: int, k: NDArray[Any] | int) -> Any:
        gamma = np.vectorize(math.lgamma, otypes=[float])
        return math.lgamma(of + 1) - gamma(np.asarray(k) + 1) - gamma(of - np.asarray(k) + 1)

    possible = np.arange(max(0, both - m), min(n, both) + 1)
    logs = log_choose(n, possible) + log_choose(m, both - possible) - log_choose(n + m, both)
    chances = np.exp(logs)
    return float(min(chances[chances <= chances[possible == here] * (1 + 1e-7)].sum(), 1.0))


def chi_squared_tail(x: float, degrees: int) -> float:
    """The probability that a chi-squared number of so many degrees of freedom is at least x.

    Q(k/2, x/2) by Q(a+1, z) = Q(a, z) + z^a e^-z / Gamma(a+1), from Q(1/2, z) = erfc(sqrt z) or Q(1, z) = e^-z.
    """
    if degrees < 1 or x <= 0:
        return 1.0
    z = x / 2
    a, tail = (0.5, math.erfc(math.sqrt(z))) if degrees % 2 else (1.0, math.exp(-z))
    while a < degrees / 2:
        tail += math.exp(a * math.log(z) - z - math.lgamma(a + 1))
        a += 1
    return min(tail, 1.0)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities of many tests, corrected so that all together raise a false alarm no more often than one test (Holm 1979).

    The i-th smallest of m is multiplied by m - i + 1, and is no smaller than those before it. It holds for tests that depend on
    each other, too.
    """
    order = np.argsort(probabilities, kind="stable")
    corrected, largest = np.empty(len(order)), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min((len(order) - place) * probabilities[index], 1.0))
        corrected[index] = largest
    return [float(p) for p in corrected]


def pooled(a: NDArray[Any], b: NDArray[Any]) -> tuple[Numbers, Numbers]:
    """The categories of two samples as histograms over bins that are large enough to be compared.

    The categories, the most frequent first, fill one bin after another until each has enough records for the smaller sample. What
    is left joins the last bin. They are counted in both samples together: bins that are chosen by one of them hold more of it by
    that alone, and the other would seem to differ.

    Args:
        a, b: The category of each record.

    Returns:
        The two histograms. If one bin alone is large enough, there are two: the most frequent category, and the others.
    """
    kinds, which, counts = np.unique(np.concatenate([a, b]), return_inverse=True, return_counts=True)
    needed = _EXPECTED * (len(a) + len(b)) / min(len(a), len(b))
    bins = np.zeros(len(kinds), np.intp)
    number, size = 0, 0
    order = np.argsort(-counts, kind="stable")
    for index in order:
        if size >= needed:
            number, size = number + 1, 0
        bins[index] = number
        size += int(counts[index])
    if size < needed and number:
        bins[bins == number] = number - 1
    if not bins.any():
        bins[order[1:]] = 1
    of = bins[which.ravel()]
    own, other = (np.bincount(part, minlength=bins.max() + 1) for part in (of[: len(a)], of[len(a) :]))
    return own.astype(np.float64), other.astype(np.float64)


def ndcg(reference: Numbers, window: Numbers) -> Numbers:
    """How well a window ranks the regions as the reference does, 0 to 1: normalised discounted cumulative gain.

    DCG = sum_i a(i) / log2(i + 1) over the regions in the order of the window's mean shares, where a(i) is the reference's mean
    share; divided by that of the reference's own order (Järvelin & Kekäläinen 2002; SageMaker Clarify's drift of attributions).

    Args:
        reference: [...,regions] the mean share of each region, or any multiple of it.
        window: The same of the window.
    """
    discount = 1 / np.log2(np.arange(reference.shape[-1]) + 2)
    order, best = (np.argsort(-shares, axis=-1, kind="stable") for shares in (window, reference))
    gains = [np.take_along_axis(reference, places, axis=-1) @ discount for places in (order, best)]
    return np.asarray(gains[0] / gains[1])


def ndcg_by_chance(shares: Numbers, size: int, draws: int) -> Numbers:
    """nDCG of parts of one sample beside the rest of it: how low it falls if nothing has changed.

    A part has the window's size, half of the sample at most: a little more chance than between a window and the whole sample.

    Args:
        shares: [n,regions] of each record.
        size: Records of a window.
        draws: How many parts are drawn.

    Returns:
        [draws], sorted; the draws are the same in every call.
    """
    chance, whole = np.random.default_rng(0), shares.sum(axis=0)
    size = min(size, len(shares) // 2)
    found: list[Numbers] = []
    while draws > 0 and size:
        count = min(draws, max(1, _AT_ONCE // len(shares)))
        rows = np.argpartition(chance.random((count, len(shares))), size - 1, axis=1)[:, :size]
        own = np.stack([shares[chosen].sum(axis=0) for chosen in rows])
        found.append(ndcg(whole - own, own))
        draws -= count
    return np.sort(np.concatenate(found)) if found else np.zeros(0)
