"""Which class of a network a box's label means."""

from __future__ import annotations

from pathlib import Path

import pytest

from xai_deploy.evaluation.truth import Boxes, classes_of, read_boxes, unknown
from xai_deploy.evaluation.truth.annotations import Label

from . import folders

NUMBERS = [str(number) for number in range(1, 11)]
PETS = ["cat", "Dog", "dog", "OWL", "", "cat"]


@pytest.mark.parametrize(
    ("label", "labels", "found"),
    [
        ("2", NUMBERS, (1,)),  # the label "2", whether a csv or a COCO category says so
        (2, NUMBERS, (2,)),  # YOLO's numbers are indices
        (-1, NUMBERS, ()),
        (0, NUMBERS, (0,)),  # no label reads so: the index
        ("0", NUMBERS, (0,)),
        (2, PETS, (2,)),
        ("2", PETS, (2,)),
        ("2", [], (2,)),
        (5, [], (5,)),
        (12, NUMBERS, ()),
        ("02", NUMBERS, ()),  # no number: a text that no label has
        ("-1", [], ()),
        ("dog", PETS, (2,)),  # letter for letter before other capitals
        ("DOG", PETS, (1, 2)),
        ("owl", PETS, (3,)),
        ("cat", PETS, (0, 5)),
        ("elk", PETS, ()),
        ("", PETS, ()),
        (None, ["None"], ()),
        ("cat", [], ()),
    ],
)
def test_classes_of(label: Label, labels: list[str], found: tuple[int, ...]) -> None:
    assert classes_of(label, labels, len(labels) or 6) == found


def boxes(tmp_path: Path, *labels: str) -> Boxes:
    return read_boxes(
        folders.table(tmp_path / "a.csv", {"a.png": [((0, 0, 5, 5), label) for label in labels]}), tmp_path
    )


@pytest.mark.parametrize(
    ("of", "labels", "message"),
    [
        (
            ("elk", "cow"),
            PETS,
            "a class of net, for example not 'elk'; the network's labels are 'cat', 'Dog', 'dog', ...; use",
        ),
        (("6",), ["cat"], "a class of net, for example not '6'; the network's labels are 'cat'; use"),
        (
            ("elk",),
            [],
            "for example not 'elk'; the network has no labels, only the numbers 0 to 5; use these as the "
            "boxes' labels, or take all boxes",
        ),
        (("",), PETS, "no box has a label, so none is of the class explained; add labels, or take all boxes"),
        (("elk", "", "owl"), PETS, None),
        (("elk", "5"), [], None),
    ],
)
def test_unknown(tmp_path: Path, of: tuple[str, ...], labels: list[str], message: str | None) -> None:
    told = unknown(boxes(tmp_path, *of), "net", labels, 6)
    if message is None:
        assert told is None
    else:
        assert told is not None
        assert told.startswith(f"{tmp_path / 'a.csv'}: ")
        assert message in told
