"""What a manifest says of random weights: there or not, read back as written, refused where it can't be."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from xai_deploy import Bundle
from xai_deploy.errors import ManifestError
from xai_deploy.format import bundle
from xai_deploy.format.randomised import Randomised, name_of_step, step_of_name

from ..conftest import Bundles


@pytest.fixture
def manifest(bundles: Bundles) -> bundle.Manifest:
    return Bundle.open(bundles("pooled").path).manifest


def test_a_trained_network_says_nothing(manifest: bundle.Manifest) -> None:
    assert manifest.randomised is None
    assert json.loads(manifest.to_bytes())["randomised"] is None
    assert bundle.parse_manifest(manifest.to_bytes()) == manifest


def test_round_trip(manifest: bundle.Manifest) -> None:
    random = Randomised(2, 3, 7, ("fc", "layer4"), manifest.network)
    written = replace(manifest, randomised=random).to_bytes()
    assert json.loads(written)["randomised"] == {
        "step": 2, "of": 3, "seed": 7, "layers": ["fc", "layer4"], "trained": manifest.network
    }  # fmt: skip
    assert bundle.parse_manifest(written).randomised == random


@pytest.mark.parametrize(
    ("random", "message"),
    [
        (Randomised(0, 3, 0, ("fc",)), "randomised: step 0 of 3 does not exist"),
        (Randomised(4, 3, 0, ("fc",)), "randomised: step 4 of 3 does not exist"),
        (Randomised(1, 1, -1, ("fc",)), "randomised: the seed -1 is negative"),
        (
            Randomised(2, 2, 0, ("fc",)),
            "randomised: 1 randomised layers in step 2; each step must have at least one more",
        ),
        (Randomised(1, 1, 0, ()), "randomised: 0 randomised layers in step 1"),
        (Randomised(True, 1, 0, ("fc",)), "randomised.step: expected int, got bool"),
        (Randomised(1, 1, 0, (1,)), "randomised.layers[0]: expected str, got int"),  # type: ignore[arg-type]
    ],
)
def test_refused(manifest: bundle.Manifest, random: Randomised, message: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(message)):
        bundle.parse_manifest(replace(manifest, randomised=random).to_bytes())


@pytest.mark.parametrize(
    ("value", "message"),
    [({}, "the key 'step' is missing"), ({"step": 1, "of": 1, "seed": 0, "layers": ["fc"], "more": 1}, "unknown key")],
)
def test_wrong_keys(manifest: bundle.Manifest, value: object, message: str) -> None:
    document = json.loads(manifest.to_bytes()) | {"randomised": value}
    with pytest.raises(ManifestError, match=message):
        bundle.parse_manifest(json.dumps(document).encode())


@pytest.mark.parametrize("name", ["net.xai", "net", "a.b (1)+.xai", "net.randomised-1-of-2.xai"])
def test_names_are_read_back(name: str) -> None:
    written = name_of_step(name, 2, 10)
    assert written == name.removesuffix(".xai") + ".randomised-2-of-10.xai"
    assert step_of_name(name, written) == (2, 10)


@pytest.mark.parametrize(
    "name",
    [
        "net.xai",
        "other.randomised-1-of-2.xai",
        "net.randomised-0-of-2.xai",
        "net.randomised-01-of-2.xai",
        "net.randomised-1-of-2",
        ".net.randomised-1-of-2.xai.partial",
    ],
)
def test_other_names(name: str) -> None:
    assert step_of_name("net.xai", name) is None
