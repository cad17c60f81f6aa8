"""What scripts/check_gpu and scripts/check_edge judge by, with a device that computes something else."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))


def script(name: str) -> Any:
    """A script as a module."""
    loader = importlib.machinery.SourceFileLoader(name, str(SCRIPTS / name))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gpu() -> Any:
    return script("check_gpu")


@pytest.mark.parametrize(
    ("moved", "precision", "wrong"),
    [(0.0, "f32", False), (5e-4, "f32", False), (2e-3, "f32", True), (2e-3, "tf32", False), (3.0, "tf32", True)],
)
def test_a_map_that_differs_is_amiss(gpu: Any, moved: float, precision: str, wrong: bool) -> None:
    """The largest value is 2; one pixel of one image of the batch is moved by a share of it. One image alone has its own map."""
    maps = [np.stack([np.linspace(-1, 2, 49), np.linspace(0, 2, 49), np.zeros(49)]), np.linspace(-1, 2, 49)[None]]
    other = [part.copy() for part in maps]
    other[0][1, 0] += 2 * moved
    cells, amiss = gpu.compared(
        gpu.Ran(other, 0.002), gpu.Ran(maps, 0.004), gpu.Device("onnxruntime", "cuda", precision)
    )
    assert amiss is wrong
    assert cells[0].strip("*") == f"{moved:.1e}"
    assert cells[0].startswith("**") is wrong
    assert cells[2:] == ["4.00", "2.00", "2.00"]


def test_a_method_that_fails_is_amiss(gpu: Any) -> None:
    cells, amiss = gpu.compared(
        gpu.Ran(failed="no memory"), gpu.Ran([np.ones((1, 4))], 1.0), gpu.Device("openvino", "gpu")
    )
    assert amiss
    assert cells[0] == "no memory"


def test_each_machine_has_one_section(gpu: Any) -> None:
    page = gpu.merged(gpu.merged("# Title\n\nWords.\n\n", "## A\n\nold\n"), "## B\n\nb\n")
    assert gpu.merged(page, "## A\n\nnew\n") == "# Title\n\nWords.\n\n## A\n\nnew\n\n## B\n\nb\n"


def test_maps_of_two_processors(tmp_path: Path) -> None:
    edge = script("check_edge")
    names = [f"{image} {method}" for image in edge.EMULATED for method in edge.METHODS]
    maps = {name: np.linspace(0, 4, 49) for name in names}
    np.savez(tmp_path / "here.npz", **maps, **{"zebra.jpg grad-cam": np.ones(49)})  # type: ignore[arg-type]
    maps["dogs.png reciprocam"] = maps["dogs.png reciprocam"] + 0.002
    np.savez(tmp_path / "there.npz", **maps)  # type: ignore[arg-type]
    far = edge.apart(tmp_path / "here.npz", tmp_path / "there.npz")
    assert far == {"grad-cam": 0, "reciprocam": pytest.approx(5e-4), "relevance-cam": 0}
    np.savez(tmp_path / "there.npz", **{name: maps[name] for name in names[1:]})  # type: ignore[arg-type]
    with pytest.raises(edge.EndedError, match="8 maps were made on the emulated processor"):
        edge.apart(tmp_path / "here.npz", tmp_path / "there.npz")


def test_weight_is_that_of_the_packages(tmp_path: Path) -> None:
    edge = script("check_edge")
    sizes = {
        "numpy/a.so": 5, "numpy.libs/b.so": 2, "numpy-2.0.dist-info/RECORD": 1, "cv2/c.so": 7, "pip/x.py": 9,
        "numpy/__pycache__/a.pyc": 11, "xai_deploy/__init__.py": 3,
    }  # fmt: skip
    for name, size in sizes.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    assert edge.weight(tmp_path) == {"numpy": 8, "opencv": 7, "xai_deploy": 3}
