"""Inference runtimes with one common protocol; one file each, found by name."""

from .backend import Backend, Config, Session, backends, create

__all__ = ["Backend", "Config", "Session", "backends", "create"]
