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
