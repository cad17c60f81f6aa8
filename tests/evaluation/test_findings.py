"""The sentences: what is clear is said, and nothing else."""

from __future__ import annotations

from xai_deploy.evaluation import findings
from xai_deploy.evaluation.metrics import Column
from xai_deploy.evaluation.summary import Figure, Group, Ranking

NAMES = ["cam", "lrp", "rise"]
FIGURE = Figure(1.0, 0.5, 1.5, 20)


def ranking(leader: int, best: bool) -> Ranking:
    others = [number for number in range(3) if number != leader]
    return Ranking(leader, dict.fromkeys(others, FIGURE), best, frozenset({leader} if best else range(3)))


def said(rankings: dict[str, Ranking], images: int = 20) -> str:
    return findings.sentences(NAMES, [], rankings, [], images)[0]


def test_best() -> None:
    assert said({"iou": ranking(1, True)}) == "On 20 images, lrp is best by iou."
    several = {"a": ranking(1, True), "b": ranking(0, True), "c": ranking(1, True), "d": ranking(1, False)}
    assert said(several) == "On 20 images, lrp is best by a and c and cam is best by b. By d none is clearly best."
    many = {"a": ranking(1, True)} | {str(i): ranking(0, False) for i in range(5)}
    assert said(many) == "On 20 images, lrp is best by a. By the other 5 figures none is clearly best."


def test_none() -> None:
    end = "the differences between the first ones could be chance."
    assert said({"a": ranking(1, False)}) == f"On 20 images none is clearly best by a: {end}"
    assert (
        said({"a": ranking(1, False), "b": ranking(0, False)}) == f"On 20 images none is clearly best by a or b: {end}"
    )
    many = {str(i): ranking(0, False) for i in range(5)}
    assert said(many) == f"On 20 images none is clearly best by any of the 5 figures: {end}"
    assert said({"a": ranking(1, False)}, 9) == "On 9 images: too few to call a method best, which takes 10."
    assert said({}, 1) == "cam, lrp and rise: measured on 1 image."


def test_sanity() -> None:
    """The last step alone, and only of the groups that have it."""
    columns = [Column(f"sanity-{step}", "") for step in (1, 2)] + [Column("sanity-x", "")]
    groups = [
        Group(0, 0, {"sanity-1": Figure(0.9, None, None, 3), "sanity-2": Figure(0.125, None, None, 3)}),
        Group(0, 1, {"sanity-1": FIGURE, "sanity-2": Figure(None, None, None, 0)}),
        Group(0, 2, {"sanity-2": Figure(-0.001, None, None, 3)}),
    ]
    assert findings.sanity_columns(columns) == ["sanity-1", "sanity-2"]
    start = "With all weights random, a map's rank correlation with the trained network's is"
    assert findings.sentences(NAMES, groups, {}, columns, 20)[1:] == [f"{start} 0.00 (rise) to 0.12 (cam); 0 is right."]
    assert findings.sentences(NAMES[:1], groups[:1], {}, columns, 20)[1:] == [f"{start} 0.12 (cam); 0 is right."]
    assert findings.sentences(NAMES[1:2], groups[1:2], {}, columns, 20)[1:] == []
