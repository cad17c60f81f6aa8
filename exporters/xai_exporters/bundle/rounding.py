"""What rounding in float32 decides in the graphs that propagate back: the same graph, computed in several ways, gives several maps.

1. ONNX Runtime without optimisations, with them, and OpenVINO add up numbers in different orders.
2. For relevance, the inputs are moved by about one rounding (2^-23 of each value), four times. Runtimes alone may round alike: the
   relevance at gMLP's pixels differed by 0.005 of its largest value between them, by 0.15 from float64, and by 0.04 to 0.14 so.
   Gradients are not measured so, because a maximum of equal values moves with its inputs.
3. In a network of integers the first quantisation takes such a move away. There the scales move, see `draws`. On most images no
   code lies so near a border that runtimes put it on different sides; on one of some fifty one does. The scales therefore move so
   far that a few codes change on every image. Maps of small convolutional networks in 8 bits move by 0.05 at most then, relevance
   of vision transformers by 0.4 to 1: attention's shares are divided by sums that a code makes small or large. Between runtimes
   that was 0.2 and 0.3 on single images.
4. In a network of half precision inputs move by 2^-10 if they are in float16. Vision transformers' relevance moved by 1 on one
   image of thirty, as far as runtimes differed there, and by 0.003 on most.

If the results differ, float32 can't tell which one is right. Relevance is a product of shares x w / sum of x w. If positive and
negative terms nearly cancel, a share is large, and so is its error. `scripts/check_rounding` compares with float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.faithful import HALF, PRODUCTS, percent
from xai_deploy.format.bundle import ACTIVATION, RELEVANCE, SALIENCY, TARGET, Manifest, at_level, fused_method

from .draws import classes_of, moved_by_epsilon

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]

TOLD = 0.01
"""The share of the largest value from which it is told."""

TOLD_COARSE = 0.1
"""That share in a network of integers, whose maps move by a code as a rule, and in one of half precision, which rounds at each
operator. The noise of logits on integers is told from the same share on."""

UNUSABLE = 0.2
"""The share from which a graph of a network of floats is left out, unless the request asks for it."""

_CANCELLED = 1e-5
"""Gradient times activation, summed over the channels, as a share of its terms' magnitudes: 2e-7 before a LayerNormalization,
5e-2 and more in 13 networks at other layers."""


_DRAWS = 4  # how often inputs are moved

_FAR = TOLD / 100
"""If the first draw moves relevance by less, the others are left out, since the draws take most of an export's time. On eight
networks of timm two draws for one image differed by a factor of eight at most."""

SPLITTING = "split-residuals"
"""The composite whose shares do not grow where signals cancel."""


class Rounding:
    """Collects what the runtimes give for the same inputs.

    Args:
        manifest: The bundle's manifest.
        draws: A role, and its graph on ONNX Runtime without optimisations -> what it gives for some images, and what it gives if
            what is rounded moves; for a network of integers or of half precision.
    """

    def __init__(
        self, manifest: Manifest, draws: Callable[[str, Run], Iterable[tuple[Arrays, Arrays]]] | None = None
    ) -> None:
        self._manifest, self._draws = manifest, draws
        self._codes = bool(manifest.logits_step)
        self._coarse = self._codes or HALF in manifest.extensions
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
        if name not in results or (self._codes and fused_method(role) is not None):
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
            same = classes_of(results, feeds) == self._chosen[role]
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
        if self._codes:
            self._chosen[role] = classes_of(results, feeds)
        elif name != RELEVANCE:
            return
        if self._draws is not None and self._coarse:
            self._draw(self._draws(role, run), role, name)
            return
        if self._codes:
            return
        fixed = {**feeds, TARGET: classes_of(results, feeds)}  # the prediction may change with the inputs
        for seed in range(_DRAWS):
            moved = run({key: moved_by_epsilon(value, seed) for key, value in fixed.items()})
            if self._add(role, moved, name) < _FAR:
                break

    def _draw(self, draws: Iterable[tuple[Arrays, Arrays]], role: str, name: str) -> None:
        """Take draws until the share is one that is told."""
        for before, after in draws:
            pairs = zip(_layers(after, name), _layers(before, name), strict=True)
            self._shares[role] = max(self._shares.get(role, 0.0), *(_share(got, want) for got, want in pairs))
            if self._shares[role] >= TOLD_COARSE:
                return

    def all_shares(self) -> dict[str, float]:
        """Role or `PRODUCTS` -> share."""
        return dict(self._shares)

    def shares(self) -> dict[str, float]:
        """As `all_shares`, from `TOLD` on; in a network of integers or of half precision from `TOLD_COARSE` on."""
        told = TOLD_COARSE if self._coarse else TOLD
        return {name: share for name, share in self._shares.items() if share >= told}


def _layers(results: Arrays, name: str) -> list[NDArray[np.float64]]:
    """What a graph gives at each layer, the first one first."""
    names = (at_level(name, level) for level in range(len(results)))
    return [results[one].astype(np.float64) for one in names if one in results]


def left_out_for_rounding(
    shares: Mapping[str, float], manifest: Manifest, asks_for: Callable[[str], bool]
) -> dict[str, str]:
    """Role -> why its graph can't be used, for a network of floats; in codes and half precision it is told alone.

    Args:
        shares: Role -> the share that rounding decides.
        manifest: The manifest; it says which graphs there are.
        asks_for: Whether the request asks for a role, which then stays.
    """
    if manifest.logits_step or HALF in manifest.extensions:
        return {}
    roles = [role for role in shares if role in manifest.graphs and not asks_for(role)]
    return {role: why for role in roles if (why := why_unusable(role, shares[role])) is not None}


def why_unusable(role: str, share: float) -> str | None:
    """Why a graph can't be used because of rounding; None if it can."""
    if share < UNUSABLE:
        return None
    decided = f"rounding in float32 decides {percent(share)} % of its largest value; take a layer nearer the scores"
    others = [f"--composite {SPLITTING}"] if RELEVANCE in role and SPLITTING not in role else []
    others += ["a gradient method"] if RELEVANCE in role else []
    return ", or ".join([decided, *others])


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
