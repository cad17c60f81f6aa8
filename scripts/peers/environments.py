"""An environment for each peer, with only the peer in it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "tests" / "support" / "torchvision_schemas.py"


class NotInstalledError(Exception):
    """An environment could not be made; the message says why, in one line."""


def make(folder: Path, requirements: tuple[str, ...]) -> Path:
    """The Python of the environment in `folder`, made and filled unless it holds these requirements already.

    Raises:
        NotInstalledError: pip or venv refused.
    """
    python, done = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(folder))
    _run(*_pip(python), "install", *requirements)
    if any(requirement.startswith("torchvision==") for requirement in requirements):
        _register_schemas(python)
    done.write_text(wanted, encoding="utf-8")
    return python


def built(folder: Path) -> Path:
    """The wheel of xai-deploy, made from this source tree, in `folder`.

    Raises:
        NotInstalledError: pip refused.
    """
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)  # setuptools would pack what lies there, too
    _run(*_pip(sys.executable), "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    return next(folder.glob("xai_deploy-*.whl"))


def holding(folder: Path, packages: tuple[str, ...], wheel: Path) -> Path:
    """The Python of an environment with these packages, `pinned`, and the wheel, which is installed anew.

    Raises:
        NotInstalledError: pip or venv refused.
    """
    python = make(folder, pinned(packages))
    _run(*_pip(python), "install", "--no-deps", "--force-reinstall", str(wheel))
    return python


def pinned(packages: tuple[str, ...]) -> tuple[str, ...]:
    """The packages in the versions that this process has."""
    return tuple(f"{name}=={version(name)}" for name in packages)


def _register_schemas(python: Path) -> None:
    """Let `import torchvision` succeed beside a torch build that its compiled half was not made for."""
    if subprocess.run([python, "-c", "import torchvision"], capture_output=True, check=False).returncode == 0:
        return
    site = Path(_run(str(python), "-c", "import site; print(site.getsitepackages()[0])").strip())
    shutil.copy(SCHEMAS, site)
    (site / "torchvision_schemas.pth").write_text("import torchvision_schemas\n", encoding="utf-8")


def _pip(python: Path | str) -> tuple[str, ...]:
    return (str(python), "-m", "pip", "--quiet", "--disable-pip-version-check")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        reasons = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise NotInstalledError(re.sub(r"\S*/\S*", "...", reasons[-1])[:200])
    return done.stdout
