"""Which class and which place a target's text means, where a label or a file's name holds " vs "."""

from __future__ import annotations

import pytest

from xai_deploy.errors import TargetError
from xai_deploy.targets import read
from xai_deploy.targets.kinds import ScoreSpace

SPACE = ScoreSpace(4, ("cat", "dog", "cat vs dog", "sky"), kind="dense")


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("cat vs dog@all", "cat vs dog @ all"),
        ("cat vs dog@1,2,3,4 vs sky@all", "cat vs dog @ 1,2,3,4 vs sky @ all"),
        ("sky@all vs cat vs dog@all", "sky @ all vs cat vs dog @ all"),
        ("cat@all vs dog@all", "cat @ all vs dog @ all"),
    ],
)
def test_labels_with_a_versus(text: str, caption: str) -> None:
    [target] = read([text], 1, SPACE)
    sides = [f"{SPACE.labels[side.index]} @ {side.place.said}" for side in (target.side, target.versus) if side]  # type: ignore[attr-defined]
    assert " vs ".join(sides) == caption


@pytest.mark.parametrize("odd", ["zebra", "zebra@all", "z" * 5000, "z" * 5000 + "@1,2,3,4"])
def test_an_unknown_side(odd: str) -> None:
    with pytest.raises(TargetError, match="is no class of this network, and no class in a region") as refused:
        read([f"sky@all vs {odd}"], 1, SPACE)
    assert len(str(refused.value)) < 400
