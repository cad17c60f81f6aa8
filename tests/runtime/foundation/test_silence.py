"""The runtimes send nothing and write nothing below the home folder."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
import types
from pathlib import Path

import pytest

from xai_deploy.foundation import runtimes

from ..conftest import Bundles

SECONDS = 15  # with telemetry on, ONNX Runtime opens its first socket 10 s after it was imported

# A filter of system calls (seccomp): whoever asks for a socket that is not local is killed by SIGSYS. struct seccomp_data: number
# of the call at 0, its first argument at 16.
FILTERED = """
import ctypes, struct
AF_UNIX, SOCKET = 1, {socket}
program = b"".join(struct.pack("HBBI", *one) for one in [
    (0x20, 0, 0, 0), (0x15, 0, 3, SOCKET), (0x20, 0, 0, 16), (0x15, 1, 0, AF_UNIX), (0x06, 0, 0, 1 << 31),
    (0x06, 0, 0, 0x7FFF0000)])
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(6, program))) == 0, ctypes.get_errno()
"""
EXPLAIN = """
import sys, time, numpy as np
from xai_deploy import Explainer
Explainer(sys.argv[1], backend=sys.argv[2]).explain(np.zeros((16, 20, 3), np.uint8))
time.sleep(float(sys.argv[3]))
"""
SOCKET = {"x86_64": 41, "aarch64": 198}.get(platform.machine())

linux = pytest.mark.skipif(
    sys.platform != "linux" or SOCKET is None, reason="filters system calls as Linux does on x86-64 and arm64"
)


def start(code: str, home: Path, *arguments: str) -> subprocess.Popen[str]:
    """A Python with a home of its own, killed where it opens a socket."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    variables |= {"HOME": str(home), "TMPDIR": str(home.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", FILTERED.format(socket=SOCKET) + code, *arguments],
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    )


@linux
@pytest.mark.timeout(300)
def test_no_file_and_no_socket(bundles: Bundles, tmp_path: Path) -> None:
    running = {}
    for backend in ("onnxruntime", "openvino"):
        (tmp_path / backend / "home").mkdir(parents=True)
        home = tmp_path / backend / "home"
        running[backend] = start(EXPLAIN, home, str(bundles("pooled").path), backend, str(SECONDS))
    for backend, process in running.items():
        _, errors = process.communicate()
        assert process.returncode == 0, (backend, errors)
        assert not list((tmp_path / backend / "home").rglob("*")), backend


@linux
def test_the_filter_kills_who_opens_a_socket(tmp_path: Path) -> None:
    process = start("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", tmp_path)
    process.communicate()
    assert process.returncode == -31  # SIGSYS


def test_what_the_user_says_of_telemetry_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    monkeypatch.setattr("importlib.import_module", lambda name: name)
    assert runtimes.onnxruntime() == "onnxruntime"
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    runtimes.onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_that_came_before_us_is_told_of_once(
    runtime: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (runtime, "openvino_telemetry"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(runtimes, "_warned", set())
    with caplog.at_level(logging.WARNING, "xai_deploy"):
        for _ in range(2):
            getattr(runtimes, runtime)()
    [record] = caplog.records
    assert f"{runtime} was imported by another package with its telemetry on" in record.getMessage()


def test_the_hosts_own_telemetry_module_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    own = types.ModuleType("openvino_telemetry")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", own)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr("importlib.import_module", lambda name: seen.update(sys.modules))
    runtimes.openvino()
    assert seen["openvino_telemetry"] is None
    assert sys.modules["openvino_telemetry"] is own


def test_no_trace_is_left_where_there_was_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody in this process could import the module any more."""
    monkeypatch.setitem(sys.modules, "openvino_telemetry", types.ModuleType("openvino_telemetry"))
    for name in ("openvino_telemetry", "openvino"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("importlib.import_module", lambda name: name)
    runtimes.openvino()
    assert "openvino_telemetry" not in sys.modules


@pytest.mark.skipif(sys.platform == "win32", reason="there every version has telemetry")
def test_a_version_without_telemetry_is_not_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old = types.ModuleType("onnxruntime")
    old.__version__ = "1.31.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", old)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(runtimes, "_warned", set())
    with caplog.at_level(logging.WARNING, "xai_deploy"):
        runtimes.onnxruntime()
    assert caplog.records == []
