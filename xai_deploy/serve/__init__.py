"""A server for predictions and explanations (extra `serve`): KServe's protocols V1 and V2 over REST, and V2 over gRPC.

`xai-serve` starts it. A program of your own builds the same from `Models`, `Service`, `Server`, or mounts `make_app(service)`.
"""

from __future__ import annotations

from .app import make_app
from .limits import Limits
from .server import Listening, Server
from .service import Served, Service
from .versions import Models

__all__ = ["Limits", "Listening", "Models", "Served", "Server", "Service", "make_app"]
