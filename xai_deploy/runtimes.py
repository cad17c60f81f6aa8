"""The inference runtimes, imported here and nowhere else: silent.

ONNX Runtime from 1.32 on writes a file below the home folder and looks up a host for telemetry, OpenVINO's Python package does
the same through `openvino_telemetry`. Neither is wanted from a camera. Both must be switched off before the import: ONNX Runtime
reads an environment variable when it is loaded, and OpenVINO has no switch but the absence of that module.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from typing import Any

log = logging.getLogger(__name__)

_told: set[str] = set()


def onnxruntime() -> Any:
    """The module `onnxruntime`, its telemetry off unless ORT_DISABLE_TELEMETRY says otherwise.

    Raises:
        ImportError: It is not installed.
    """
    if "onnxruntime" not in sys.modules:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    elif os.environ.get("ORT_DISABLE_TELEMETRY") is None and _has_telemetry(sys.modules["onnxruntime"]):
        _tell("onnxruntime", "set ORT_DISABLE_TELEMETRY=1 before it is imported")
    return importlib.import_module("onnxruntime")


def openvino() -> Any:
    """The module `openvino`, without its telemetry.

    Raises:
        ImportError: It is not installed.
    """
    if "openvino" in sys.modules:
        if "openvino_telemetry" in sys.modules:
            _tell("openvino", "import xai_deploy's Explainer, and open one, first")
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


def version(runtime: str) -> str | None:
    """The version of a runtime, by its module's name; None where nobody has imported it."""
    found = getattr(sys.modules.get(runtime), "__version__", None)
    return None if found is None else str(found)


def _has_telemetry(module: Any) -> bool:
    """Whether this build of ONNX Runtime has any: on Windows all have, elsewhere those from 1.32 on."""
    version = tuple(map(int, re.findall(r"\d+", str(getattr(module, "__version__", "1.32")))[:2]))
    return sys.platform == "win32" or version >= (1, 32)


def _tell(runtime: str, advice: str) -> None:
    """Say once that a runtime was imported, its telemetry on, before we could switch it off."""
    if runtime not in _told:
        _told.add(runtime)
        log.warning("%s was imported by another package with its telemetry on; to keep it off, %s", runtime, advice)
