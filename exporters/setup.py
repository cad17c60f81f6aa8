"""The version, and with it the xai-deploy that is needed, stand in one place: `xai_deploy/version.py` beside this folder.

An sdist is built without that folder; there the version stands in PKG-INFO.
"""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
PLACES = {HERE.parent / "xai_deploy" / "version.py": r'^__version__ = "(.+)"$', HERE / "PKG-INFO": r"^Version: (.+)$"}

place, pattern = next((place, pattern) for place, pattern in PLACES.items() if place.is_file())
[version] = re.findall(pattern, place.read_text(encoding="utf-8"), re.MULTILINE)

setup(
    version=version,
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
