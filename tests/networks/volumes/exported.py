"""A network of volumes and its bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.preprocess import Prepared

from .nets import SIZE

Maps = NDArray[Any]


@dataclass(frozen=True)
class Exported:
    """A network and its bundle."""

    network: Any
    path: Path
    source: Path
    opened: dict[str, Explainer] = field(default_factory=dict)

    def explain(self, backend: str, x: Maps, method: str, target: Any, **options: Any) -> Maps:
        """The raw maps; the heatmaps have the input's size."""
        explainer = self.opened.get(backend) or self.opened.setdefault(backend, Explainer(self.path, backend))
        got = explainer.explain(Prepared(x), method, target, **options)
        assert got.heatmap.shape == (len(x), *SIZE)
        assert 0 <= got.heatmap.min() <= got.heatmap.max() == 1
        return got.raw
