"""A new kind of target is one new file: written to a temporary folder here, found by name, run through the engine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xai_deploy.targets
from xai_deploy import Explainer
from xai_deploy.errors import TargetError
from xai_deploy.targets import ScoreSpace, kinds, read

from .. import tiny
from ..conftest import Bundles

NEW_KIND = '''
"""The mean of some classes: s = sum_c logit_c / |C|, written as `Mean((0, 2))` or "mean of 0 and 2"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xai_deploy.errors import TargetError
from xai_deploy.targets.kinds import Plain, ScoreSpace, TargetValue, kinds
from xai_deploy.targets.seeds import Array, Seed


@dataclass(frozen=True)
class Mean(TargetValue):
    classes: tuple[int, ...]


@kinds.register("mean")
@dataclass(frozen=True, eq=False)
class MeanTarget(Plain):
    per_image: ClassVar[bool] = True
    weights: Array
    classes: None = None
    needs_logits: bool = False

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[MeanTarget] | None:
        if isinstance(written, str) and written.startswith("mean of ") and not space.is_label(written):
            written = Mean(tuple(map(int, written.removeprefix("mean of ").split(" and "))))
        if not isinstance(written, Mean):
            return None
        if max(written.classes) >= space.classes:
            raise TargetError(f"the network has {space.classes} classes")
        row = np.zeros(space.classes, np.float32)
        row[list(written.classes)] = 1 / len(written.classes)
        return [cls(np.tile(row, (images, 1)))]

    def part(self, start: int, stop: int) -> MeanTarget:
        return MeanTarget(self.weights[start:stop])

    def seed(self, logits: Callable[[], Array]) -> Seed:
        return Seed.of_weights(self.weights)
'''


@pytest.fixture
def new_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The file `mean.py` in a folder that the package is also looked for in."""
    known = list(kinds)
    (tmp_path / "mean.py").write_text(NEW_KIND)
    monkeypatch.setattr(xai_deploy.targets, "__path__", [*xai_deploy.targets.__path__, str(tmp_path)])
    monkeypatch.setattr(kinds, "_items", dict(kinds._items))
    monkeypatch.setattr(kinds, "_complete", False)
    importlib.invalidate_caches()
    yield
    assert list(kinds) == sorted([*known, "mean"])
    sys.modules.pop("xai_deploy.targets.mean")


def test_kinds_are_found_by_name() -> None:
    assert list(kinds) == [
        "box",
        "class",
        "contrast",
        "finer",
        "not",
        "region",
        "settled",
        "similarity",
        "top",
        "weights",
    ]


@pytest.mark.usefixtures("new_kind")
@pytest.mark.parametrize("method", ["grad-cam", "reciprocam", "score-cam"])
def test_a_new_kind_runs_through_the_engine(bundles: Bundles, backend: str, method: str) -> None:
    explainer = Explainer(bundles("pooled", gradients=True).path, backend, batch_size=2)
    x, classes = tiny.inputs("pooled", 3), explainer.bundle.manifest.classes
    weights = np.zeros(classes, np.float32)
    weights[[0, 2]] = 0.5
    [found, wanted] = explainer.explain_many(x, [method], ["mean of 0 and 2", weights])
    np.testing.assert_array_equal(found.raw, wanted.raw)
    assert found.target.tolist() == wanted.target.tolist() == [0, 0, 0]

    mean = sys.modules["xai_deploy.targets.mean"].Mean
    per_image = explainer.explain(x, method, [1, mean((0, 2)), "0 vs 1"])
    alone = explainer.explain_many(x, [method], [1, weights, "0 vs 1"])
    for image, one in enumerate(alone):
        np.testing.assert_allclose(per_image.raw[image], one.raw[image], rtol=1e-5, atol=1e-7)
    assert per_image.target.tolist() == [1, 0, 0]
    with pytest.raises(TargetError, match=f"the network has {classes} classes"):
        explainer.explain(x, method, mean((classes,)))


@pytest.mark.usefixtures("new_kind")
def test_a_label_is_no_other_kind() -> None:
    labels = "cat", "mean of 0 and 2"
    [target] = read(["Mean of 0 and 2"], 2, ScoreSpace(2, labels))
    assert target.classes is not None
    assert target.classes.tolist() == [1, 1]


def test_targets_of_different_kinds_are_one_seed() -> None:
    logits = np.array([[1, 5, 3], [9, 1, 8], [0, 2, 1]], np.float32)
    [target] = read([[None, "0 vs 2", 1]], 3, ScoreSpace(3))
    assert target.classes is None
    assert target.needs_logits
    seed = target.seed(lambda: logits)
    np.testing.assert_array_equal(seed.dense(3), [[0, 1, 0], [1, 0, -1], [0, 1, 0]])
    assert seed.versus is not None
    assert seed.versus.tolist() == [-1, 2, -1]
    np.testing.assert_array_equal(target.part(1, 3).seed(lambda: logits[1:]).dense(3), seed.dense(3)[1:])
