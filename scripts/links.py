"""Relative links of a Markdown text: the repository resolves them, a package index and a web site do not.

`setup.py` makes those of the package's description absolute, `scripts/site` those that lead out of the site. The base of both is
the address `Source` in `project_urls.toml`, which is absent until the project has addresses.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import TypeAlias

Resolve: TypeAlias = Callable[[str, bool], str | None]
"""(path from the root, whether it is a picture) -> the new target, or None if there is none."""

_SPAN = re.compile(
    r"(?P<code>^[ ]*```.*?^[ ]*```|(?<!\[)`[^`\n]+`)|(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)


def relinked(text: str, folder: str, resolve: Resolve) -> str:
    """The text with its relative links resolved; code stays as it is.

    A link without a new target becomes its text, and a picture its description: a link that leads nowhere is worse than none.

    Args:
        text: Markdown.
        folder: The folder of the text, from the root; "" is the root.
        resolve: Gives the new target of a path.
    """

    def replace(span: re.Match[str]) -> str:
        if span["code"] is not None or re.match(r"[a-z]+:|#", span["target"]):
            return span[0]
        path, hash_, section = span["target"].partition("#")
        target = resolve(posixpath.normpath(posixpath.join(folder, path)), span["picture"] == "!")
        if target is None:
            return span["text"]
        return f"{span['picture']}[{span['text']}]({target}{hash_}{section})"

    return _SPAN.sub(replace, text)


def into(source: str | None) -> Resolve:
    """Links into a repository at GitHub or GitLab, or another host with their paths `blob` and `raw`.

    Args:
        source: The repository's address, or None if it has none yet.
    """

    def resolve(path: str, picture: bool) -> str | None:
        return source and f"{source.rstrip('/')}/{'raw' if picture else 'blob'}/HEAD/{path}"

    return resolve
