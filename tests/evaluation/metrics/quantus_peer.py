"""The metrics of the set `trusted` as Quantus 0.6 computes them, on our draws: `peers.py` and `scripts/check_quantus` ask it.

Quantus replaces single colours; the metrics here replace whole pixels. So it gets a plane of ones [1,1,H,W] in place of the image,
with 0 for what is replaced, and the score of the image under that plane. Four of its metrics choose what they replace otherwise
than the papers do. Each takes a function that replaces pixels, and that function gives our draws:

- Infidelity removes blocks side by side, and those that are removed stay so. Here it gets our squares, each alone.
- Sensitivity-N removes pixels in the map's order and correlates over the images. Here it gets copies of one image. Each copy's map
  is raised in its set, so that the set comes first; that adds the same number to all sums, which the correlation does not see.
- Monotonicity inserts the baseline into the baseline, so that nothing changes. Here it inserts the image.
- ROAD fails on colour images (its indices count the colours). Its imputation is taken, and the mean of p.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import quantus
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""p of one image under planes [b,H,W]: 1 where it is seen, 0 where the baseline is."""
Explain = Callable[[Floats], Floats]
"""The maps [b,H,W] of inputs [b,C,H,W]."""
SHARES = range(10, 100, 10)  # percent of the pixels that ROAD replaces


def squares(shape: tuple[int, int], side: int, count: int) -> NDArray[np.bool_]:
    """The draws of `infidelity` with seed 0, [count,H,W]."""
    corners = np.random.default_rng(0).integers([length - side + 1 for length in shape], size=(count, 2))
    drawn = np.zeros((count, *shape), bool)
    for one, (top, left) in zip(drawn, corners, strict=True):
        one[top : top + side, left : left + side] = True
    return drawn


def sets(shape: tuple[int, int], sizes: int, count: int) -> list[NDArray[np.bool_]]:
    """The draws of `sensitivity-n` with seed 0: [count,H,W] for each size."""
    rng, pixels = np.random.default_rng(0), shape[0] * shape[1]
    every = []
    for number in sorted({max(round(share * pixels), 1) for share in np.geomspace(0.01, 0.8, sizes)}):
        drawn = np.zeros((count, pixels), bool)
        for row in drawn:
            row[rng.choice(pixels, number, replace=False)] = True
        every.append(drawn.reshape(count, *shape))
    return every


class Seen:
    """The network as Quantus calls it, with one class; and what it answered.

    Attributes:
        score: p.
        calls: How often it is asked; Quantus goes on where nothing counts any more.
        answers: p of each call.
    """

    def __init__(self, score: Score, calls: int = 10**9) -> None:
        self.score, self.calls = score, calls
        self.answers: list[Floats] = []

    def shape_input(self, x: Floats, *_: object, **__: object) -> Floats:
        """As it is."""
        return x

    def predict(self, x: Floats) -> Floats:
        """[b,1]."""
        self.answers.append(self.score(x[:, 0]) if len(self.answers) < self.calls else np.zeros(len(x)))
        return self.answers[-1][:, None]


def _asked(metric: Any, seen: Seen, maps: Floats) -> Any:
    """What a metric says of maps [b,H,W] of planes of ones."""
    planes = np.ones((len(maps), 1, *maps.shape[1:]))
    return metric.evaluate_batch(
        model=seen, x_batch=planes, y_batch=np.zeros(len(maps), int), a_batch=maps[:, None].astype(np.float64)
    )


def srg(score: Score, heat: Floats, steps: int) -> float:
    """PixelFlipping in both orders; `steps` divides the pixels, and no two of the map are equal."""
    areas = []
    for one in (heat, -heat.astype(np.float64)):
        metric = quantus.PixelFlipping(features_in_step=heat.size // steps, perturb_baseline=0.0, disable_warnings=True)
        [curve] = _asked(metric, Seen(score), one[None])
        whole = score(np.ones((1, *heat.shape)))[0]  # which Quantus leaves out
        areas.append(np.trapezoid([whole, *curve], dx=1 / steps))
    return float(areas[1] - areas[0])


def monotonicity(score: Score, heat: Floats, steps: int) -> tuple[float, float]:
    """Monotonicity: its verdict, and the share of the steps that do not fall. p of the baseline, which it leaves out, counts."""

    def shown(arr: Floats, indices: NDArray[np.int64], **_: object) -> Floats:
        arr = arr.copy()
        np.put_along_axis(arr, indices, 1.0, axis=1)
        return arr

    seen = Seen(score)
    metric = quantus.Monotonicity(
        features_in_step=heat.size // steps, perturb_func=shown, perturb_baseline=0.0, disable_warnings=True
    )
    [verdict] = _asked(metric, seen, heat[None])
    p = np.concatenate([score(np.zeros((1, *heat.shape))), *seen.answers])
    return float(verdict and p[1] >= p[0]), float((np.diff(p) >= 0).mean())


def infidelity(score: Score, heat: Floats, squares: NDArray[np.bool_]) -> tuple[float, float]:
    """Infidelity of squares [m,H,W]; and its least value over all multiples of the map, from the parabola through three."""

    def of(factor: float) -> float:
        side = math.gcd(*heat.shape)  # of Quantus' blocks; whatever they are, a square of ours is removed
        blocks = heat.size // side**2
        assert len(squares) % blocks == 0
        left: Iterator[NDArray[np.bool_]] = iter(squares)

        def removed(**_: object) -> Floats:
            return (~next(left)).astype(np.float64).reshape(1, -1)

        metric = quantus.Infidelity(
            perturb_patch_sizes=[side],
            n_perturb_samples=len(squares) // blocks,
            perturb_func=removed,
            disable_warnings=True,
        )
        return float(_asked(metric, Seen(score), factor * heat[None].astype(np.float64))[0])

    unit = 1 / (squares * heat).sum(axis=(1, 2)).max()  # so that no term of the parabola is lost beside another
    at_0, at_1, back = of(0), of(unit), of(-unit)
    return of(1), at_0 - ((back - at_1) / 4) ** 2 / ((at_1 + back) / 2 - at_0)


def sensitivity_n(score: Score, heat: Floats, sets: NDArray[np.bool_]) -> float:
    """Sensitivity-N of sets [m,H,W] of as many pixels each."""
    number = int(sets[0].sum())
    metric = quantus.SensitivityN(
        features_in_step=number, n_max_percentage=1, perturb_baseline=0.0, normalise=False, disable_warnings=True
    )
    with np.errstate(all="ignore"):  # of the steps after the first, which the network is not asked for
        metric.evaluation_scores = _asked(metric, Seen(score, calls=2), heat + 2.0 * sets)
        metric.custom_postprocess(x_batch=np.ones((len(sets), 1, *heat.shape)))
    return float(metric.evaluation_scores[0])


def max_sensitivity(explain: Explain, x: Floats, heat: Floats, noises: Floats) -> float:
    """MaxSensitivity of one input [C,H,W] with noises [m,C,H,W]."""
    left = iter(noises)
    metric = quantus.MaxSensitivity(
        nr_samples=len(noises),
        perturb_func=lambda arr, **_: arr + next(left).reshape(1, -1),
        disable_warnings=True,
    )
    metric.explain_func, metric.explain_func_kwargs = lambda inputs, **_: explain(inputs)[:, None], {}
    [value] = metric.evaluate_batch(
        model=Seen(lambda planes: np.zeros(len(planes))), x_batch=x[None], y_batch=np.zeros(1, int), a_batch=heat[None]
    )
    return float(value)


def emprt(trained: Floats, random: Floats, bins: int) -> list[float]:
    """EfficientMPRT of maps [n,H,W] of a trained and of a random network: of a layer that stands for them, each time its own."""
    x = np.zeros((len(trained), 1, *trained.shape[1:]), np.float32)
    layer = torch.nn.Linear(x[0].size, 2)
    model, before = torch.nn.Sequential(torch.nn.Flatten(), layer).eval(), layer.weight.detach().clone()

    def explain(model: Any, **_: object) -> Floats:
        return np.asarray((trained if torch.equal(model[1].weight, before) else random)[:, None])

    metric = quantus.EfficientMPRT(
        complexity_func_kwargs={"n_bins": bins, "debug": False}, disable_warnings=True, skip_layers=True
    )
    scores = metric(model, x, np.zeros(len(x), int), channel_first=True, explain_func=explain, batch_size=len(x))
    return [float(score) for score in scores]


def road(score: Score, planes: Floats, heat: Floats, noises: Sequence[Floats]) -> tuple[float, float]:
    """The means of p for an image [C,H,W] whose highest, and whose lowest, pixels are imputed.

    Args:
        score: p of images [b,C,H,W].
        planes: The image.
        heat: The map.
        noises: For each share of the pixels, [C,H,W].
    """
    order = np.argsort(-heat.ravel(), kind="stable")
    means = []
    for indices in (order, order[::-1]):
        images = []
        for percent, noise in zip(SHARES, noises, strict=True):
            gone = indices[: round(heat.size * percent / 100)]
            image = quantus.functions.perturb_func.noisy_linear_imputation(
                arr=planes.astype(np.float64), indices=gone, noise=0.0
            ).reshape(len(planes), -1)
            image[:, gone] += noise.reshape(len(planes), -1)[:, gone]
            images.append(image.reshape(planes.shape))
        means.append(float(np.mean(score(np.stack(images)))))
    return means[0], means[1]
