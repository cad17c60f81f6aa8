"""An environment for each runtime, with only the runtime in it, and the command that starts its worker."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from peers.environments import NotInstalledError, make

HERE = Path(__file__).resolve().parent
RUNTIMES = (
    "onnxruntime",
    "openvino",
    "reference",
    "opencv",
    "onnxruntime_node",
    "onnxruntime_web",
    "tract",
    "tinygrad",
)


@dataclass(frozen=True)
class Runtime:
    """A runtime that may be installed.

    Attributes:
        name: The name of its file.
        title: Its name in the table.
        command: The start of its worker's command line; empty if it is not installed.
        folder: Where the command runs.
        missing: Why it is not installed; empty if it is.
    """

    name: str
    title: str
    command: tuple[str, ...] = ()
    folder: Path = HERE.parent
    missing: str = ""

    @property
    def tolerance(self) -> float:
        """The largest difference that is allowed."""
        return 1e-5 if self.name == "onnxruntime" else 1e-4


def prepare(name: str, folder: Path) -> Runtime:
    """A runtime with its environment in a folder, made if it does not exist yet; `missing` says why it can't be installed."""
    if (HERE / f"{name}.mjs").exists():
        title = name.replace("_", "-")
        try:
            node = _packages(folder / "node")
        except NotInstalledError as error:
            return Runtime(name, title, missing=str(error))
        return Runtime(name, title, ("node", str(HERE / "worker.mjs"), name), node)
    adapter = importlib.import_module(f".{name}", __package__)
    try:
        python = make(folder / name, (*adapter.REQUIREMENTS, "safetensors==0.8.0"))
    except NotInstalledError as error:
        return Runtime(name, adapter.TITLE, missing=str(error))
    return Runtime(name, adapter.TITLE, (str(python), "-m", "runtimes.worker", name))


def _packages(folder: Path) -> Path:
    """The folder whose node_modules hold the packages of package.json."""
    wanted = (HERE / "package.json").read_text(encoding="utf-8")
    done = folder / "installed.json"
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return folder
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotInstalledError("node or npm is missing")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(wanted, encoding="utf-8")
    # onnxruntime-node's install script fetches CUDA libraries from elsewhere; the CPU's are in the package
    command = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund")
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        reasons = [line for line in ran.stderr.splitlines() if "error" in line] or ["no reason given"]
        raise NotInstalledError(reasons[0][:200])
    missing = [name for name in json.loads(wanted)["dependencies"] if not (folder / "node_modules" / name).is_dir()]
    if missing:
        raise NotInstalledError(f"npm did not install {missing[0]}")
    done.write_text(wanted, encoding="utf-8")
    return folder
