"""The project's addresses, which pyproject.toml can't read from a file: `project_urls.toml` beside it, for both distributions.

That file is absent until the project has addresses. It holds lines like `Source = "https://..."`. An sdist has them in PKG-INFO.
"""

import tomllib
from email.parser import HeaderParser
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
URLS, SDIST = HERE / "project_urls.toml", HERE / "PKG-INFO"

urls = tomllib.loads(URLS.read_text(encoding="utf-8")) if URLS.is_file() else {}
if SDIST.is_file():
    headers = HeaderParser().parsestr(SDIST.read_text(encoding="utf-8"))
    urls = dict(url.rsplit(", ", 1) for url in headers.get_all("Project-URL", []))

setup(project_urls=urls)
