"""What a method says of its sign, against its maps."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from xai_deploy import Explainer, method_names
from xai_deploy.methods import create, methods
from xai_deploy.targets.seeds import Seed

from ...few import few
from .. import dense, tiny
from ..conftest import Bundles

VARIANTS = [
    (name, dict(zip(("channels", "relu", "squared"), values, strict=True)))
    for name in method_names()
    # the networks here make no map, have no graph of their biases, and are no detectors
    if name not in ("own-map", "full-grad", "class-map")
    for values in product(("max-abs", "sum"), (True, False), (True, False))
]
CHOICES = [
    (name, {key: value for key, value in options.items() if key in methods.get(name).__dataclass_fields__})  # type: ignore[union-attr]
    for name, options in VARIANTS
]
CHOICES = [choice for i, choice in enumerate(CHOICES) if choice not in CHOICES[:i]]


@pytest.fixture(scope="module")
def explainers(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Explainer, np.ndarray]]:
    """A network with every graph of gradients, and one with relevance; with images."""
    relevance: Path = dense.write(tmp_path_factory.mktemp("signs") / "plain.xai", "plain")
    return [
        (Explainer(bundles("pooled", gradients=True).path, "onnxruntime"), tiny.inputs("pooled", 4)),
        (Explainer(relevance, "onnxruntime"), dense.inputs("plain", 4)),
    ]


@pytest.mark.parametrize(("name", "options"), CHOICES, ids=str)
def test_the_sign_declared(
    explainers: list[tuple[Explainer, np.ndarray]], name: str, options: dict[str, object]
) -> None:
    """Signed maps of a contrast are those of the reversed contrast with the other sign; other maps have no negative value there."""
    given = {**options, **few(name)}
    roles = create(name, given).roles
    explainer, x = next(pair for pair in explainers if all(role in pair[0].bundle.manifest.graphs for role in roles))
    one, forth, back = explainer.explain_many(x, [(name, given)], [1, "1 vs 2", "2 vs 1"])
    assert forth.signed == back.signed
    assert len(set(forth.signed)) == 1
    if name == "guided-backprop":  # its ReLUs look at the sign of what is propagated
        assert forth.signed[0] == (one.raw < 0).any() == (options["channels"] == "sum")
    elif name in ("reciprocam", "rise"):  # scores, of one class or of two, have no neutral value
        assert not any(one.signed + forth.signed)
        return
    elif name != "guided-grad-cam":
        opposite = np.allclose(forth.raw, -back.raw, atol=1e-5 * np.abs(forth.raw).max())
        assert forth.signed[0] == (opposite and (forth.raw < 0).any())
    if not forth.signed[0]:
        assert forth.raw.min() >= 0
    if not any(one.signed):
        assert one.raw.min() >= 0
    if "perturbation" not in name:  # masks, which are smooth
        assert one.at_pixels == any(role.startswith(("input", "guided", "pixel-")) for role in roles)


def test_contrasts_beside_single_classes(explainers: list[tuple[Explainer, np.ndarray]]) -> None:
    explainer, x = explainers[0]
    assert explainer.explain(x, "cam", [0, "1 vs 2", 3, -1], relu=False).signed == (True,) * 4
    assert explainer.explain(x, "grad-cam", [0, "1 vs 2", 3, -1]).signed == (False,) * 4
    assert Seed.of_weights(np.array([[1, -1, 0], [-1, -2, 0], [2, 1, 0]], np.float32)).contrasts.tolist() == [
        True,
        False,
        False,
    ]
