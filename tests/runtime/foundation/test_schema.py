"""JSON to dataclasses and back, and targets, on inputs that hypothesis makes up."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_deploy.errors import BundleError, TargetError
from xai_deploy.format import bundle
from xai_deploy.foundation import schema
from xai_deploy.targets import ScoreSpace, Target, read


@dataclass(frozen=True)
class Inner:
    flag: bool
    pair: tuple[int, float]


@dataclass(frozen=True)
class Outer:
    text: str
    inner: Inner
    many: tuple[Inner, ...] = ()
    names: dict[str, float] = field(default_factory=dict)
    choice: Literal["a", "b", 3] | None = None
    either: int | str = 0


FINITE = st.floats(allow_nan=False, allow_infinity=False)
INNER = st.builds(Inner, st.booleans(), st.tuples(st.integers(), FINITE))
OUTER = st.builds(
    Outer,
    st.text(),
    INNER,
    st.lists(INNER, max_size=3).map(tuple),
    st.dictionaries(st.text(), FINITE, max_size=3),
    st.sampled_from(["a", "b", 3, None]),
    st.integers() | st.text(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(OUTER)
@settings(max_examples=100, deadline=None)
def test_round_trip(value: Outer) -> None:
    document = json.loads(json.dumps(schema.dump(value)))
    assert schema.load(Outer, document, "outer") == value


@given(OUTER, JSON, st.data())
@settings(max_examples=150, deadline=None)
def test_one_wrong_place(value: Outer, junk: object, data: st.DataObject) -> None:
    """Whatever stands in a place: loaded and dumped again it is the same, or it is refused with the place's name."""
    document = schema.dump(value)
    key = data.draw(st.sampled_from(sorted(document)))
    document[key] = junk
    try:
        loaded = schema.load(Outer, document, "outer")
    except schema.SchemaError as error:
        message = str(error)
    else:
        assert schema.dump(loaded) == document
        return
    assert message.startswith(f"outer.{key}")


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_any_json_as_manifest(document: object) -> None:
    with pytest.raises(BundleError):
        bundle.parse_manifest(json.dumps(document).encode())


@given(st.binary(max_size=200))
def test_any_bytes_as_manifest(data: bytes) -> None:
    with pytest.raises(BundleError):
        bundle.parse_manifest(data)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "outer: the key 'text' is missing"),
        ({"text": "", "inner": {"flag": True, "pair": [1, 2], "x": 0}}, r"outer\.inner: unknown key 'x'"),
        ({"text": "", "inner": {"flag": 1, "pair": [1, 2]}}, r"outer\.inner\.flag: expected bool, got int"),
        ({"text": "", "inner": {"flag": True, "pair": [1]}}, r"outer\.inner\.pair: expected 2 items, got 1"),
        ({"text": None, "inner": {}}, r"outer\.text: expected str, got nothing"),
        ([], "outer: expected an object, got list"),
    ],
)
def test_messages(document: object, message: str) -> None:
    with pytest.raises(schema.SchemaError, match=message):
        schema.load(Outer, document, "outer")


LABELS = ("tabby cat", "tiger cat", "beagle", "top1", "crane")
ANYTHING = (
    st.none()
    | st.integers()
    | st.text()
    | st.floats()
    | st.sampled_from(
        ["top1", "top2", "top9", "top0", "Beagle", "beagle vs 1", "-1 vs crane", "1 vs 1", " vs ", *LABELS]
    )
    | st.lists(st.none() | st.integers(-3, 7) | st.sampled_from(LABELS) | st.lists(st.integers()), max_size=4)
)


@given(st.lists(ANYTHING, max_size=3), st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_any_target(wanted: list[Target], images: int) -> None:
    """Refused as a TargetError, or every image gets an existing class."""
    logits = np.random.default_rng(images).standard_normal((images, 5)).astype(np.float32)
    with contextlib.suppress(TargetError):
        for target in read(wanted, images, ScoreSpace(5, LABELS)):
            seed = target.seed(lambda: logits)
            assert seed.classes.shape == seed.weights.shape
            assert seed.classes.dtype == np.int64
            assert ((seed.classes >= 0) & (seed.classes < 5)).all()
            assert seed.target.shape == (images,)
            known = target.classes
            if known is not None:
                assert np.array_equal(seed.target, np.where(known < 0, logits.argmax(axis=1), known))


def test_top_k_is_in_order_and_a_label_comes_first() -> None:
    logits = np.array([[1, 5, 3, 4, 2], [9, 1, 8, 1, 1]], np.float32)
    top = [target.seed(lambda: logits).target.tolist() for target in read(["top3"], 2, ScoreSpace(5))]
    assert top == [[1, 0], [3, 2], [2, 1]]  # of equal logits the lower index first
    [label] = read(["top1"], 2, ScoreSpace(5, LABELS))
    assert not label.needs_logits
    assert label.seed(lambda: logits).target.tolist() == [3, 3]
