"""CONTRIBUTING.md: each recipe's diff applies to a copy of the source tree, adds files alone, and passes its own tests.

Those tests hold the gradient against central differences in float64, relevance and maps against formulas, and the metric against
its definition by pairs. The fused twin is compared with the method by the tests that every fused method has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = {
    "An operator's gradient and relevance": (4, 9, ()),
    "A CAM method and its fused twin": (
        3,
        5,
        ("tests/exporters/roles/fuse/test_methods.py", "-k", "elementwise-grad-cam or test_formula"),
    ),
    "A metric": (2, 1, ()),
}
"""Heading -> the number of files, the number of tests that have to pass, and what pytest runs beside the tests of the diff."""


def diffs(root: Path) -> dict[str, str]:
    """Heading of a recipe -> its diffs."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### (.*?)$(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    return {name: "".join(re.findall(r"^```diff\n(.*?)^```$", body, re.M | re.S)) for name, body in sections}


def test_every_recipe_is_tried(root: Path) -> None:
    assert list(diffs(root)) == list(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe(root: Path, tmp_path: Path, recipe: str) -> None:
    files, passing, further = RECIPES[recipe]
    tree = tmp_path / "tree"
    for part in ("xai_deploy", "exporters", "tests"):
        shutil.copytree(root / part, tree / part, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    shutil.copy(root / "pyproject.toml", tree)
    diff = diffs(root)[recipe]
    added = re.findall(r"^\+\+\+ b/(.*)$", diff, re.MULTILINE)
    assert len(added) == diff.count("--- /dev/null\n") == files
    own = {file: (tree / file).read_text(encoding="utf-8") for file in added if (tree / file).exists()}
    for file in own:  # the recipe is how the tree's own file was added
        (tree / file).unlink()
    assert not any((tree / file).exists() for file in added)

    def call(*command: str) -> str:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tree, tree / "exporters")))}
        environment |= {"GIT_CEILING_DIRECTORIES": str(tmp_path), "PYTEST_ADDOPTS": ""}
        done = subprocess.run(
            command, cwd=tree, env=environment, input=diff, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("git", "apply")
    assert all((tree / file).exists() for file in added)
    assert own == {file: (tree / file).read_text(encoding="utf-8") for file in own}
    for check in (("check",), ("format", "--check")):
        call(sys.executable, "-m", "ruff", *check, *added)
    tests = [file for file in added if file.startswith("tests/")]
    found = re.search(r"(\d+) passed", call(sys.executable, "-P", "-m", "pytest", "-q", *tests, *further))
    assert found is not None
    assert int(found[1]) >= passing
