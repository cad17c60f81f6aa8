"""Renders a template to a page. Everything that is put into a template is escaped."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from ..errors import BackendNotInstalledError


@dataclass(frozen=True)
class Origin:
    """What a page says of itself in its last lines.

    Attributes:
        program: "xai-evaluate".
        command: The command line; "" if a Python program asked for the report.
        versions: Package -> version, of what computed the figures.
    """

    program: str
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def date(self) -> str:
        """Now, or the time in the environment variable SOURCE_DATE_EPOCH, in UTC."""
        # https://reproducible-builds.org/specs/source-date-epoch/: the same page twice, for those who need it
        given = os.environ.get("SOURCE_DATE_EPOCH", "")
        now = int(given) if given.isascii() and given.isdigit() and len(given) < 12 else time.time()
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))


def require(extra: str = "image", advice: str = "") -> Any:
    """The module jinja2; `extra` is what to install if it is missing, `advice` follows in the message.

    Raises:
        BackendNotInstalledError: It is missing.
    """
    try:
        import jinja2
    except ImportError as error:
        raise BackendNotInstalledError(
            f'the report needs {error.name}, which is not installed; pip install "xai-deploy[{extra}]"{advice}'
        ) from None
    return jinja2


def render(template: str, origin: Origin, **facts: Any) -> bytes:
    """The page, as UTF-8.

    Args:
        template: The name of a file in this folder, without ".html.jinja".
        origin: Program, command line, versions.
        facts: The template's variables.

    Raises:
        BackendNotInstalledError: jinja2 is missing.
    """
    jinja2 = require()
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_source),
    )
    page: str = environment.get_template(f"{template}.html.jinja").render(origin=origin, **facts)
    return page.encode("utf-8", "backslashreplace")


def _source(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text("utf-8")
