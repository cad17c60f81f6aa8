"""docs/architecture.md says what is: its rooms are the folders that exist, its contracts the linter's, its laws hold."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from xai_exporters.vjp.graph import gradient_graph

PACKAGES = ("xai_deploy", "exporters/xai_exporters")
DOCUMENT = "docs/architecture.md"


def section(root: Path, heading: str) -> str:
    """The text below a heading that begins so, up to the next one."""
    text = (root / DOCUMENT).read_text(encoding="utf-8")
    return next(part for part in text.split("\n## ") if part.startswith(heading))


def rows(text: str) -> list[str]:
    """The first cell of each row of a table that holds code."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def rooms(package: Path) -> set[str]:
    """Every folder with files in it, and the modules of the top floor."""
    files = {file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    folders = {f"{file.parent.relative_to(package).as_posix()}/" for file in files} - {"./"}
    return folders | {file.name for file in package.glob("*.py") if file.name != "__init__.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_are_the_folders_that_exist(root: Path, package: str) -> None:
    said = rows(section(root, f"Rooms of `{package}`"))
    assert len(said) == len(set(said))
    assert set(said) == rooms(root / package)


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_stand_in_the_order_of_the_contract(root: Path, package: str) -> None:
    """The document goes with the data, the linter's layers against it."""
    name = package.rpartition("/")[2]
    [layers] = [c["layers"] for c in contracts(root) if c.get("containers") == [name]]
    height = {room.strip(): -i for i, layer in enumerate(layers) for room in layer.split("|")}
    top = [room.removesuffix(".py").split("/")[0] for room in rows(section(root, f"Rooms of `{package}`"))]
    heights = [height[room] for room in top]
    assert heights == sorted(heights)


def test_contracts_in_the_same_words(root: Path) -> None:
    said = re.findall(r"^- (.*)$", section(root, "Laws"), re.MULTILINE)
    assert said == [contract["name"] for contract in contracts(root)]


def test_folders_for_strangers_exist(root: Path) -> None:
    folders = re.findall(r"^\| [a-zA-Z' ]+ \| `([^`]+/)` \|", section(root, "Where a stranger"), re.MULTILINE)
    assert len(folders) >= 10
    assert all((root / folder).is_dir() for folder in folders)


def test_files_that_hold_a_law_exist(root: Path) -> None:
    paths = re.findall(r"`(tests/[\w/.]+)`", section(root, "Laws"))
    assert len(paths) >= 7
    assert all((root / path).exists() for path in paths)


def contracts(root: Path) -> list[dict[str, list[str]]]:
    """The linter's."""
    found: list[dict[str, list[str]]] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    return found


FOUND_BY_NAME = {
    "exporters/xai_exporters/sources": r"^def matches\(",
    "exporters/xai_exporters/roles": r"^(@|)kinds\.register\(",
    "xai_deploy/backends": r"^@backends\.register\(",
}


@pytest.mark.parametrize("folder", FOUND_BY_NAME)
def test_what_a_registry_finds_nobody_imports(root: Path, folder: str) -> None:
    """Otherwise it could not be taken away, or another be put beside it, without touching a second file."""
    names = {
        file.stem
        for file in (root / folder).glob("*.py")
        if re.search(FOUND_BY_NAME[folder], file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(names) >= 2
    package = root / folder.partition("/xai_exporters")[0]
    for file in (package if package.name == "exporters" else root / "xai_deploy").rglob("*.py"):
        inside = file.parent == root / folder
        for module in imported(file):
            last = module.rpartition(".")[2]
            named = module == last if inside else module.endswith(f"{Path(folder).name}.{last}")
            assert not (named and last in names), f"{file.relative_to(root)} imports {last}"


def imported(file: Path) -> set[str]:
    """The modules that a file imports: as they are written, without leading dots; `from . import name` as the name."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module} if node.module else {alias.name for alias in node.names}
    return modules


@pytest.mark.parametrize("folder", [*PACKAGES, "scripts", "examples"])
def test_files_and_functions_are_short(root: Path, folder: str) -> None:
    """No file above 400 lines; a function above 60 gives the reason in its docstring."""
    files = [file for file in (root / folder).rglob("*.py") if "build" not in file.parts]
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60:
                assert "length of this function" in (ast.get_docstring(node) or ""), f"{file}: {node.name}"


@pytest.mark.parametrize("group", [1, 2])
def test_the_gradient_of_a_convolution_of_stride_1_is_a_convolution(group: int) -> None:
    """Law 5, in the graph that is written."""
    weight = np.random.default_rng(0).standard_normal((4, 4 // group, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["activation", "w"], ["y"], name="conv", pads=[1, 1, 1, 1], group=group),
        helper.make_node("GlobalAveragePool", ["y"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["logits"], name="flat"),
    ]
    x = helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["N", 4, 5, 6])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "tail", [x], [logits], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    result = gradient_graph(ir.from_proto(onnx.shape_inference.infer_shapes(model)).graph, classes=4)
    kinds = [node.op_type for node in result]
    assert kinds.count("Conv") == 2
    assert "ConvTranspose" not in kinds
