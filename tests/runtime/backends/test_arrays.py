"""Images in any memory: read-only, strided, unaligned, mapped, of the other byte order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer

from .. import tiny
from ..conftest import Bundles


def read_only(x: NDArray[Any], folder: Path) -> NDArray[Any]:
    x = x.copy()
    x.flags.writeable = False
    return x


def mapped(x: NDArray[Any], folder: Path) -> NDArray[Any]:
    np.save(folder / "x.npy", x)
    loaded: NDArray[Any] = np.load(folder / "x.npy", mmap_mode="r")
    return loaded


def unaligned(x: NDArray[Any], folder: Path) -> NDArray[Any]:
    memory = np.zeros(x.nbytes + 1, np.uint8)
    shifted = memory[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    return shifted


FORMS: dict[str, Callable[[NDArray[Any], Path], NDArray[Any]]] = {
    "read-only": read_only,
    "mapped": mapped,
    "unaligned": unaligned,
    "fortran": lambda x, _: np.asfortranarray(x),
    "reversed": lambda x, _: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "strided": lambda x, _: np.repeat(x, 2, axis=-1)[..., ::2],
    "other byte order": lambda x, _: x.astype(x.dtype.newbyteorder(">")),
    "frozen bytes": lambda x, _: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "float64": lambda x, _: x.astype(np.float64),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("method", ["reciprocam", "grad-cam", "rise"])
def test_floats(bundles: Bundles, backend: str, tmp_path: Path, form: str, count: int, method: str) -> None:
    explainer = Explainer(bundles("pooled", gradients=True).path, backend=backend)
    x = tiny.inputs("pooled", count)
    options: dict[str, Any] = {"masks": 20} if method == "rise" else {}
    given = FORMS[form](x[0] if count == 1 else x, tmp_path)
    before = np.array(given)
    got = explainer.explain(given, method, 1, **options)
    want = explainer.explain(x.copy(), method, 1, **options)
    np.testing.assert_array_equal(got.raw, want.raw)
    np.testing.assert_array_equal(np.array(given), before)  # nothing writes into a caller's memory


@pytest.mark.parametrize("form", [f for f in FORMS if f not in ("other byte order", "float64")])
def test_pixels(bundles: Bundles, backend: str, tmp_path: Path, form: str) -> None:
    explainer = Explainer(bundles("pooled").path, backend=backend)
    image = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    got = explainer.explain(FORMS[form](image, tmp_path), target=1)
    np.testing.assert_array_equal(got.raw, explainer.explain(image, target=1).raw)
