"""A real Triton on the loopback: the binary that the wheel nvidia-pytriton carries."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


def binary() -> Path:
    """The server, or a skip that says how to have one."""
    given = os.environ.get("XAI_TRITONSERVER")
    if given:
        return Path(given).absolute()
    package = importlib.util.find_spec("pytriton")
    if package is None or not package.submodule_search_locations:
        pytest.skip("no Triton here: pip install --no-deps nvidia-pytriton, or name a tritonserver in XAI_TRITONSERVER")
    return Path(package.submodule_search_locations[0]) / "tritonserver" / "bin" / "tritonserver"


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def command(server: Path, repository: Path, port: int, backends: Path) -> list[str]:
    """HTTP on the loopback and nothing else; an error ends the server."""
    options = {
        "model-repository": repository,
        "backend-directory": backends,
        "http-address": "127.0.0.1",
        "http-port": port,
        "allow-grpc": "false",
        "allow-metrics": "false",
        "exit-on-error": "true",
    }
    return [str(server), *(f"--{name}={value}" for name, value in options.items())]


def log_of(server: Path, repository: Path, backends: Path) -> str:
    """What a server says that can't load its models, and ends."""
    done = subprocess.run(
        command(server, repository, free_port(), backends),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    return done.stdout


def python_backend(server: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """A folder of backends with the wheel's Python backend, and the environment it needs; a skip where there is none."""
    home = server.parent.parent  # site-packages/pytriton/tritonserver
    packages = home.parent.parent
    version = packages.parent.name.removeprefix("python")
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        pytest.skip(f"{server} has no Python backend beside it for a stand-in: it is not the one of nvidia-pytriton")
    for needed in ("onnxruntime", "numpy"):
        if not (packages / needed).is_dir():
            pytest.skip(f"the stand-in wants {needed} beside nvidia-pytriton: pip install 'numpy<2' 'onnxruntime<1.23'")
    shutil.copytree(home / "backends" / "python", folder / "python")
    shutil.copy(stub, folder / "python")
    path = (
        f"{packages.parents[2] / 'bin'}{os.pathsep}{os.environ['PATH']}"  # the first python3 there is the stub's home
    )
    return folder, {**os.environ, "PATH": path, "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs")}


@contextlib.contextmanager
def running(server: Path, repository: Path, backends: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of a server that has loaded its models."""
    port = free_port()
    log = backends / "log.txt"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command(server, repository, port, backends), stdout=file, stderr=subprocess.STDOUT, env=environment
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(120):
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        try:
            with urllib.request.urlopen(f"{address}/v2/health/ready", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    pytest.fail(f"no answer from Triton in a minute:\n{log.read_text(encoding='utf-8', errors='replace')}")
