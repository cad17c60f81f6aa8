"""Cumulative products: `cumulative_product.py`, against loops."""

import numpy as np
import pytest

from .running import Relevance
from .test_poolings import IMAGE, agree, draw, net, node


@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_products_share_equally(exclusive: int, reverse: int) -> None:
    """Each factor of a product takes R / n, factor by factor; a product of none has nobody to give it to."""
    x, r = draw(3, *IMAGE[1:]), draw(3, *IMAGE[1:], seed=1)  # type: ignore[arg-type]
    want, size = np.zeros_like(x), x.shape[2]
    for j in range(size):
        before = range(j + 1 - exclusive) if not reverse else range(j + exclusive, size)
        for i in before:
            want[:, :, i] += r[:, :, j] / len(before)
    model = net(node("CumProd", "x axis", exclusive=exclusive, reverse=reverse), axis=np.array(2))
    model.opset_import[0].version = 26
    model.ir_version = 13
    agree(Relevance(model, skip=["openvino"]), {"x": x, "r": r}, x=want)  # it has no such operator
