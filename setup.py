"""What pyproject.toml can't read from a file: the project's addresses, and the README with links that work on a package index.

The addresses are those of `project_urls.toml`, for both distributions. The file is absent until the project has addresses. It
holds lines like `Source = "https://..."`. With `Source`, the README's relative links and pictures lead there. Without it the
links become plain text, since an index has no such files. An sdist has addresses and README in PKG-INFO.
"""

import runpy
import tomllib
from email.parser import HeaderParser
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
URLS, SDIST = HERE / "project_urls.toml", HERE / "PKG-INFO"

if SDIST.is_file():
    headers = HeaderParser().parsestr(SDIST.read_text(encoding="utf-8"))
    urls = dict(url.rsplit(", ", 1) for url in headers.get_all("Project-URL", []))
    readme = headers.get_payload()
else:
    urls = tomllib.loads(URLS.read_text(encoding="utf-8")) if URLS.is_file() else {}
    links = runpy.run_path(str(HERE / "scripts" / "links.py"))
    readme = links["relinked"]((HERE / "README.md").read_text(encoding="utf-8"), "", links["into"](urls.get("Source")))

setup(project_urls=urls, long_description=readme, long_description_content_type="text/markdown")
