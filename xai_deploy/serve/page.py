"""The form at `/`, to try a server with a picture."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from .json_text import dumps
from .versions import Models

_HTML = resources.files(__package__).joinpath("form.html").read_text(encoding="utf-8")


def _hash(tag: str) -> str:
    found = re.search(rf"<{tag}>(.*)</{tag}>", _HTML, re.DOTALL)
    assert found is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"


HEADERS = {
    "content-security-policy": f"default-src 'none'; script-src {_hash('script')}; style-src {_hash('style')}; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
"""The page runs its own script and nothing else."""


def html(models: Models) -> str:
    """The page, with the models and their methods."""
    known = {name: list(version.served) for name in models.names if (version := models.current(name)) is not None}
    return _HTML.replace("MODELS", dumps(known).decode().replace("<", "\\u003c"), 1)
