"""Bundles that are made of model files in one step: `xai-export` runs as a child process, and a private cache keeps what it makes.

The runtime imports nothing of the exporters. It runs their command, if that is installed.
"""

from .one_step import open_bundle

__all__ = ["open_bundle"]
