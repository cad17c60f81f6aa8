"""What stands in one place for both distributions, beside this folder: the version, and the project's addresses, if there are any.

The version (`xai_deploy/version.py`) is also that of the xai-deploy that is needed. The addresses are those of `project_urls.toml`;
see the `setup.py` beside it. An sdist is built without these files; there PKG-INFO tells both.
"""

import re
import tomllib
from email.parser import HeaderParser
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
VERSION, URLS, SDIST = HERE.parent / "xai_deploy" / "version.py", HERE.parent / "project_urls.toml", HERE / "PKG-INFO"

if SDIST.is_file():
    headers = HeaderParser().parsestr(SDIST.read_text(encoding="utf-8"))
    version = headers["Version"]
    urls = dict(url.rsplit(", ", 1) for url in headers.get_all("Project-URL", []))
else:
    [version] = re.findall(r'^__version__ = "(.+)"$', VERSION.read_text(encoding="utf-8"), re.MULTILINE)
    urls = tomllib.loads(URLS.read_text(encoding="utf-8")) if URLS.is_file() else {}

setup(
    version=version,
    project_urls=urls,
    install_requires=[
        f"xai-deploy=={version}",
        "numpy>=1.26",
        "onnx>=1.18",
        "onnx-ir>=1.1",
        "onnxscript>=0.7",  # constant folding; torch's exporter needs it too
        "onnxruntime>=1.20",  # verifies what was written
        "rich>=13",
    ],
)
