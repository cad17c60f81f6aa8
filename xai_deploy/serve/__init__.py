"""A server for predictions and explanations (extra `serve`): KServe's protocols V1 and V2 over REST, and V2 over gRPC.

`xai-serve` starts it. A program of your own builds the same from `Models`, `Service`, `Server`, or mounts `app.make_app(service)`.
"""

from __future__ import annotations

import importlib

from ..errors import BackendNotInstalledError
from .limits import Limits
from .server import Listening, Server
from .service import Served, Service
from .versions import Models

PACKAGES = ("grpc", "httptools", "orjson", "prometheus_client", "starlette", "uvicorn")
"""What the extra `serve` installs besides OpenCV and protobuf, as Python imports it."""


def require() -> None:
    """Refuse to start without the packages of the extra `serve`.

    Raises:
        BackendNotInstalledError: One is missing.
    """
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            raise BackendNotInstalledError(f"xai-serve needs {name}; pip install 'xai-deploy[serve]'") from None


__all__ = ["PACKAGES", "Limits", "Listening", "Models", "Served", "Server", "Service", "require"]
