"""The inference runtimes. They are imported here and nowhere else, with their telemetry switched off.

From 1.32 on, ONNX Runtime writes a file below the home folder and looks up a host for telemetry. OpenVINO's Python package does the
same through the module `openvino_telemetry`. A camera should do neither. Both have to be switched off before the import:
ONNX Runtime reads an environment variable while it loads, and OpenVINO stays silent only if that module can't be imported.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from typing import Any

log = logging.getLogger(__name__)

_warned: set[str] = set()


def onnxruntime() -> Any:
    """The module `onnxruntime`, its telemetry off unless ORT_DISABLE_TELEMETRY says otherwise.

    Raises:
        ImportError: It is not installed.
    """
    if "onnxruntime" not in sys.modules:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    elif os.environ.get("ORT_DISABLE_TELEMETRY") is None and _has_telemetry(sys.modules["onnxruntime"]):
        _warn_once("onnxruntime", "set ORT_DISABLE_TELEMETRY=1 before it is imported")
    return importlib.import_module("onnxruntime")


def openvino() -> Any:
    """The module `openvino`, without its telemetry.

    Raises:
        ImportError: It is not installed.
    """
    if "openvino" in sys.modules:
        if "openvino_telemetry" in sys.modules:
            _warn_once("openvino", "import xai_deploy's Explainer, and open one, first")
        return importlib.import_module("openvino")
    telemetry = "openvino_telemetry"
    before = sys.modules.get(telemetry)
    sys.modules[telemetry] = None  # type: ignore[assignment]  # "import openvino_telemetry" fails, and OpenVINO does without
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[telemetry]
        if before is not None:
            sys.modules[telemetry] = before


def _has_telemetry(module: Any) -> bool:
    """Whether this ONNX Runtime has telemetry: every version has on Windows, and from 1.32 on elsewhere."""
    version = tuple(map(int, re.findall(r"\d+", str(getattr(module, "__version__", "1.32")))[:2]))
    return sys.platform == "win32" or version >= (1, 32)


def _warn_once(runtime: str, advice: str) -> None:
    """Warn once about a runtime that was imported with its telemetry on before we could switch it off."""
    if runtime not in _warned:
        _warned.add(runtime)
        log.warning("%s was imported by another package with its telemetry on; to keep it off, %s", runtime, advice)
