"""A method of your own, in your own file: FEM (Fuad et al., IPTA 2020), which needs no gradient.

python examples/custom_method.py resnet50.xai photo.jpg fem.png
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.methods.method import Array, Forward, Method, Seed, methods


@methods.register("fem")
@dataclass(frozen=True)
class Fem(Method):
    """L = sum_k w_k A_k, w_k the share of the positions where channel k is rare: above its mean + k standard deviations."""

    k: float = 2.0  # an option
    roles: ClassVar[Mapping[str, str]] = {}  # no graph besides head and tail

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w], the same for each of the T targets."""
        a = forward.activation  # [n,K,h,w]
        mean, deviation = a.mean(axis=(2, 3), keepdims=True), a.std(axis=(2, 3), keepdims=True)
        weights = (a > mean + self.k * deviation).mean(axis=(2, 3), keepdims=True, dtype=np.float32)
        return np.repeat((weights * a).sum(axis=1)[None], len(seeds), axis=0)


if __name__ == "__main__":
    network, photo, out = sys.argv[1:]
    image = read_image(photo)
    write_image(out, Explainer(network).explain(image, "fem").overlay(image)[0])
