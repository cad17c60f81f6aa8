"""The map that a network itself makes: attention (ABN, LFI-CAM), or where an anomaly model finds the anomaly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .method import Array, Forward, Method, Seed, methods


@methods.register("own-map")
@dataclass(frozen=True)
class OwnMap(Method):
    """L = the tensor that `xai-export --map` names, unchanged. It is the same for every target.

    Attention branch network: Fukui et al. 2019, arXiv:1812.10025; LFI-CAM: Lee et al. 2021, arXiv:2105.00937.
    """

    shows: ClassVar[str] = "a map that the network itself makes, for any target"
    plainly: ClassVar[str] = "A place is bright if the network's own map is high there, whatever was asked."
    passes: ClassVar[str] = "1"
    needs_layer: ClassVar[bool] = False
    roles: ClassVar[Mapping[str, str]] = {
        "own-map": "if the network makes a map itself, export it again with --map TENSOR"
    }

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w]; see `Method.maps`."""
        return np.repeat(forward.own_map()[None], len(seeds), axis=0)
