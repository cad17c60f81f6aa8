"""Models of scores under masks, beside means over a hundred times as many masks."""

import numpy as np
import pytest

from xai_deploy.methods.mask_regression import Drawn
from xai_deploy.methods.rise_masks import Enlarged


@pytest.mark.parametrize(("power", "squared"), [(1, False), (2, True)])
def test_the_form_of_the_scores_is_found(power: int, squared: bool) -> None:
    """Scores of 0 and more: linear ones are modelled as they are, squares of linear ones by their roots."""
    enlarged = Enlarged((12, 15), 3, 0.5)
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(enlarged.coarse(*enlarged.draw(rng, 1)).shape[1])
    few, many = enlarged.draw(rng, 300), enlarged.draw(rng, 60_000)
    lines = [enlarged.coarse(*one) @ weights for one in (few, many)]
    least = min(line.min() for line in lines)
    seen, whole = ((line - least) ** power for line in lines)
    drawn = Drawn(enlarged, 0)
    drawn.add(*few)
    [model] = drawn.fit([seen])
    [found] = drawn.maps([model])
    truth = enlarged.total(*many, whole - whole.mean()) / len(whole)
    assert model.squared is squared
    assert np.abs(found - truth).max() < 0.03 * np.abs(truth).max()


def test_scores_below_0_have_no_roots() -> None:
    enlarged = Enlarged((8, 10), 3, 0.5)
    rng = np.random.default_rng(1)
    drawn = Drawn(enlarged, 0)
    drawn.add(*enlarged.draw(rng, 200))
    [model] = drawn.fit([drawn.coarse.sum(axis=1)])
    assert not model.squared
    assert np.isfinite(drawn.maps([model])).all()


@pytest.mark.parametrize("in_pairs", [False, True])
@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e10])
def test_the_scores_scale_means_nothing(scale: float, in_pairs: bool) -> None:
    """A class may have probabilities of 1e-30 always: its map and the errors (of the mean and of the model) are as sure."""
    enlarged = Enlarged((8, 10), 3, 0.5)
    rng = np.random.default_rng(2)
    drawn = Drawn(enlarged, 0, in_pairs)
    drawn.add(*enlarged.draw(rng, 120))
    scores = rng.random(120) + np.maximum(drawn.coarse[:, 3], 0)
    [model], [other] = drawn.fit([scores]), drawn.fit([scale * scores])
    [found], [scaled] = drawn.maps([model]), drawn.maps([other])
    np.testing.assert_allclose(scaled / scale, found, rtol=0, atol=1e-6 * np.abs(found).max())
    assert drawn.relative_error(scale * scores, other) == pytest.approx(drawn.relative_error(scores, model), rel=1e-6)
    assert drawn.relative_error(scale * scores, None) == pytest.approx(drawn.relative_error(scores, None), rel=1e-6)
    assert drawn.relative_error(scores, None) > 0.2


def test_scores_that_are_all_equal_have_no_map() -> None:
    enlarged = Enlarged((8, 10), 3, 0.5)
    drawn = Drawn(enlarged, 0)
    drawn.add(*enlarged.draw(np.random.default_rng(3), 150))
    for value in (0.0, 0.3, -1e-25, 1e20):
        [model] = drawn.fit([np.full(150, value)])
        [found] = drawn.maps([model])
        assert np.abs(found).max() <= 1e-12 * abs(value)
