"""What rounding in float32 decides in the graphs that propagate back: the same graph, computed in several ways, gives several maps.

1. ONNX Runtime without optimisations, with them, and OpenVINO add up numbers in different orders.
2. For relevance, the inputs are moved by about one rounding (2^-23 of each value), four times. Runtimes alone may round alike: the
   relevance at gMLP's pixels differed by 0.005 of its largest value between them, by 0.15 from float64, and by 0.04 to 0.14 so.
   Gradients are not measured so, because a maximum of equal values moves with its inputs.
3. In a network of integers the first quantisation takes such a move away. There the scales move, and codes on a border fall to
   their other side. Relevance alone is measured: it may differ by all of its largest value where logits and gradients differ by a
   few codes (vit_tiny of random weights in 8 bits: logits by 0.09, the gradient by 0.03, relevance by 1 to 30).

If the results differ, float32 can't tell which one is right. Relevance is a product of shares x w / sum of x w. If positive and
negative terms nearly cancel, a share is large, and so is its error. `scripts/check_rounding` compares with float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.faithful import HALF, PRODUCTS, percent
from xai_deploy.format.bundle import ACTIVATION, LOGITS, RELEVANCE, SALIENCY, TARGET, Manifest, at_level, fused_method

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]

TOLD = 0.01
"""The share of the largest value from which it is told."""

TOLD_OF_CODES = 0.1
"""That share in a network of integers. Its maps move by a code as a rule. Its logits' noise is told from the same share on."""

UNUSABLE = 0.2
"""The share from which a graph of a network of floats is left out, unless the request asks for it."""

_CANCELLED = 1e-5
"""Gradient times activation, summed over the channels, as a share of its terms' magnitudes: 2e-7 before a LayerNormalization,
5e-2 and more in 13 networks at other layers."""


_DRAWS, _STEP = 4, 2.0**-23  # how often inputs are moved, and by how much
_DRAWS_OF_CODES = 2  # how often scales are moved; each opens the graphs again

_FAR = TOLD / 100
"""If the first draw moves relevance by less, the others are left out, since the draws take most of an export's time. On eight
networks of timm two draws for one image differed by a factor of eight at most."""

SPLITTING = "split-residuals"
"""The composite whose shares do not grow where signals cancel."""


class Rounding:
    """Collects what the runtimes give for the same inputs.

    Args:
        manifest: The bundle's manifest.
        rescaled: What the graph of a role gives for these inputs on ONNX Runtime without optimisations if all scales move, those
            before the layer, too; the number is that of the draw.
    """

    def __init__(self, manifest: Manifest, rescaled: Callable[[str, int, Arrays], Arrays] | None = None) -> None:
        self._manifest, self._rescaled = manifest, rescaled
        self._codes = bool(manifest.logits_step)
        # half precision rounds more, and by design; `faithful` has its tolerance
        self.measures = HALF not in manifest.extensions
        self._exact: dict[str, list[NDArray[np.float64]]] = {}  # role -> what its graph gives at each layer
        self._shares: dict[str, float] = {}
        self._chosen: dict[str, NDArray[np.int64]] = {}  # role -> the class that each image's relevance is of

    def add(self, role: str, results: Arrays, feeds: Arrays, exactly: Callable[[], Run]) -> None:
        """Add one runtime's results.

        Args:
            role: The graph's role.
            results: What the runtime gave.
            feeds: The inputs.
            exactly: Opens the graph on ONNX Runtime without optimisations. It is called once for each role.
        """
        name = self._manifest.graphs[role].propagated or SALIENCY
        if not self.measures or name not in results or (self._codes and name != RELEVANCE):
            return
        if role not in self._exact:  # at the inputs that the first runtime's head gives
            if (
                fused_method(role) is not None
            ):  # some fused graphs run the network many times: that of the first runtime serves
                self._exact[role] = _layers(results, name)
            else:
                self.measure(role, name, feeds, exactly())
        same = slice(None)
        if self._codes:  # of two classes whose codes are equal, another runtime may take the other one
            same = self._classes(results, feeds) == self._chosen[role]
        self._add(role, results, name, same)

    def _add(self, role: str, results: Arrays, name: str, rows: Any = slice(None)) -> float:
        """Add the share by which results of some images differ from those of the exact run; returns it."""
        pairs = zip(_layers(results, name), self._exact[role], strict=True)
        share = max(_share(got[rows], exact[rows]) for got, exact in pairs)
        self._shares[role] = max(self._shares.get(role, 0.0), share)
        return share

    def measure(self, role: str, name: str, feeds: Arrays, run: Run) -> None:
        """Run a graph without optimisations, for relevance also with inputs that are moved by a rounding.

        Args:
            role: The graph's role.
            name: What it gives back.
            feeds: The inputs.
            run: The graph.
        """
        results = run(feeds)
        exact = self._exact[role] = _layers(results, name)
        activations = (feeds[at_level(ACTIVATION, level)] for level in range(len(exact)))
        if role == "gradient" and any(map(_cancels, exact, activations)):
            self._shares[PRODUCTS] = 1.0
        if name != RELEVANCE:
            return
        self._chosen[role] = self._classes(results, feeds)
        fixed = {**feeds, TARGET: self._chosen[role]}  # the prediction may change with the inputs
        if self._codes:
            if self._rescaled is not None:
                for seed in range(_DRAWS_OF_CODES):
                    self._add(role, self._rescaled(role, seed, fixed), name)
            return
        for seed in range(_DRAWS):
            moved = run({key: _moved(value, seed) for key, value in fixed.items()})
            if self._add(role, moved, name) < _FAR:
                break

    @staticmethod
    def _classes(results: Arrays, feeds: Arrays) -> NDArray[np.int64]:
        """The class that each image's relevance is of: the one asked for, or the predicted one."""
        logits = results[LOGITS]
        predicted = logits.reshape(len(logits), -1).argmax(
            axis=1
        )  # of the one region, if the scores are those of regions
        return np.asarray(np.where(feeds[TARGET] < 0, predicted, feeds[TARGET]))

    def all_shares(self) -> dict[str, float]:
        """Role or `PRODUCTS` -> share."""
        return dict(self._shares)

    def shares(self) -> dict[str, float]:
        """As `all_shares`, from `TOLD` on; in a network of integers from `TOLD_OF_CODES` on."""
        told = TOLD_OF_CODES if self._codes else TOLD
        return {name: share for name, share in self._shares.items() if share >= told}


def _layers(results: Arrays, name: str) -> list[NDArray[np.float64]]:
    """What a graph gives at each layer, the first one first."""
    names = (at_level(name, level) for level in range(len(results)))
    return [results[one].astype(np.float64) for one in names if one in results]


def why_unusable(role: str, share: float) -> str | None:
    """Why a graph can't be used because of rounding; None if it can."""
    if share < UNUSABLE:
        return None
    decided = f"rounding in float32 decides {percent(share)} % of its largest value; take a layer nearer the scores"
    others = [f"--composite {SPLITTING}"] if RELEVANCE in role and SPLITTING not in role else []
    others += ["a gradient method"] if RELEVANCE in role else []
    return ", or ".join([decided, *others])


def _moved(value: NDArray[Any], seed: int) -> NDArray[Any]:
    """A tensor of floats, each value times 1 + 2^-23 times a normal number; any other tensor itself."""
    if value.dtype.kind != "f":
        return value
    draw = np.random.default_rng(seed).standard_normal(value.shape)
    return (value * (1 + _STEP * draw)).astype(value.dtype)


def _share(got: NDArray[Any], exact: NDArray[Any]) -> float:
    """The largest difference of an image's values, relative to the largest one; images with zeros alone do not count."""
    axes = tuple(range(1, exact.ndim))
    size = np.abs(exact).max(axis=axes)
    difference = np.abs(got - exact).max(axis=axes)
    shares = np.divide(difference, size, out=np.zeros_like(size), where=size > 0)
    # `check_backward` reports values that are not finite
    return float(shares.max(initial=0.0)) if np.isfinite(shares).all() else 0.0


def _cancels(gradient: NDArray[Any], activation: NDArray[Any]) -> bool:
    """Whether gradient times activation [n,K,h,w] vanishes at all positions if it is summed over the channels."""
    terms = gradient * activation
    size = float(np.abs(terms).sum(axis=1).max())
    return gradient.shape[1] > 1 and 0 < size < np.inf and float(np.abs(terms.sum(axis=1)).max()) <= _CANCELLED * size
