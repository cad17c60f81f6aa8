"""Colour maps against matplotlib's tables; the scale of signed maps."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from xai_deploy.errors import OptionError
from xai_deploy.pictures import DIVERGING, SEQUENTIAL, color_bar, colorize, find_colormap
from xai_deploy.pictures.colormaps import colormaps

RAMP = np.linspace(0, 1, 1001, dtype=np.float32)
NAMES = list(colormaps)


def luminance(colors: np.ndarray) -> np.ndarray:
    """Relative luminance (WCAG 2) of RGB [...,3] uint8."""
    c = colors / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("name", NAMES)
def test_matplotlibs_colors(name: str) -> None:
    """Linear interpolation of 33 anchors; cividis has a kink that none of them meets."""
    signed = colormaps.get(name).diverging  # type: ignore[union-attr]
    theirs = matplotlib.colormaps[name](RAMP, bytes=True)[:, :3].astype(int)
    ours = colorize(2 * RAMP - 1 if signed else RAMP, name, signed).astype(int)
    assert np.abs(ours - theirs).max() <= 8
    assert np.abs(ours - theirs).mean() <= 1


def test_lightness_rises_in_the_perceptual_ones() -> None:
    for name in NAMES:
        if name != "turbo" and not find_colormap(name, colormaps.get(name).diverging).diverging:  # type: ignore[union-attr]
            assert (np.diff(luminance(colorize(np.linspace(0, 1, 256, dtype=np.float32), name))) > -1e-3).all(), name


@pytest.mark.parametrize("name", [n for n in NAMES if colormaps.get(n).diverging])  # type: ignore[union-attr]
def test_zero_is_the_neutral_middle(name: str) -> None:
    """0 has the lightest colour and the least saturated one; +v and -v are equally light, and far apart."""
    values = np.linspace(-1, 1, 255, dtype=np.float32)
    colors = colorize(values, name, signed=True)
    assert (values == -values[::-1]).all()
    assert np.ptp(colors[127].astype(int)) <= 6
    assert (colors[127] == colorize(np.zeros(1, np.float32), name, signed=True)).all()
    assert (colors[127] == colorize(np.full(1, -1e-9, np.float32), name, signed=True)).all()
    light = luminance(colors)
    assert light.argmax() in range(122, 133)
    np.testing.assert_allclose(light, light[::-1], atol=0.13)
    assert np.abs(colors[0].astype(int) - colors[-1]).max() > 80


def test_values_outside_take_the_ends() -> None:
    assert (colorize(np.array([-9, 9], np.float32)) == colorize(np.array([0, 1], np.float32))).all()
    signed = colorize(np.array([-9, 9], np.float32), signed=True)
    assert (signed == colorize(np.array([-1, 1], np.float32), signed=True)).all()


def test_color_bar() -> None:
    lying, standing = color_bar(5, 256), color_bar(255, 3, signed=True)
    assert (lying.shape, standing.shape) == ((5, 256, 3), (255, 3, 3))
    assert (lying[2] == colormaps.get(SEQUENTIAL).table).all()  # type: ignore[union-attr]
    assert (standing[::-1, 1] == colormaps.get(DIVERGING).table).all()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "signed", "message"),
    [
        ("jet", False, "no colour map 'jet'"),
        ("virids", False, "viridis"),
        ("viridis", True, "viridis is a sequential colour map; signed maps take a diverging one, for example coolwarm"),
        ("RdBu_r", False, "RdBu_r is a diverging colour map; positive maps take a sequential one, for example inferno"),
    ],
)
def test_refusals(name: str, signed: bool, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        colorize(RAMP[None], name, signed)
