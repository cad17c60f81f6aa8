"""The class that a segmenter predicts at each place: along the classes' axis, and never from codes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xai_deploy.errors import TargetError
from xai_deploy.format.bundle import Explained, Output
from xai_deploy.in_regions import predicted


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_as_many_classes_as_rows(layout: str) -> None:
    """An output [4,4,4]: the classes lie where the input's channels lie."""
    values = np.random.default_rng(0).random((1, 4, 4, 4), dtype=np.float32)
    network: Any = SimpleNamespace(
        scores=Explained("logits", "dense", (4, 4, 4)),
        outputs=[Output("y", "y", (4, 4, 4), "logits")],
        input=SimpleNamespace(channel_axis=1 if layout == "NCHW" else 3),
    )
    forward: Any = SimpleNamespace(outputs={"y": values})
    assert np.array_equal(predicted(forward, network), values.argmax(1 if layout == "NCHW" else 3))


def test_codes_of_one_class() -> None:
    """A quantised sigmoid holds 0 to 255: above one half would be nearly everywhere."""
    network: Any = SimpleNamespace(
        scores=Explained("logits", "dense", (1, 4, 4)), outputs=[Output("y", "y", (1, 4, 4), "probabilities")],
        input=SimpleNamespace(channel_axis=1),
    )  # fmt: skip
    forward: Any = SimpleNamespace(outputs={"y": np.full((1, 1, 4, 4), 3, np.uint8)})
    with pytest.raises(TargetError, match=r"the network's output 'y' holds uint8 codes, .* name a region"):
        predicted(forward, network)
