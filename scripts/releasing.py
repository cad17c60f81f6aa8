"""The checks of a release's files; scripts/release builds them.

A wheel holds the files of its package that are committed, no others, and its metadata. An sdist holds these, and the files that a
wheel is built from; the wheel built from it equals the one built from the sources. Version, licence and readme are those of the
sources.
"""

from __future__ import annotations

import configparser
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

# What an sdist holds beside the package.
BUILT_OF = {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg", "setup.py"}


@dataclass(frozen=True)
class Distribution:
    """One of the two distributions.

    Attributes:
        name: Its name in a package index.
        folder: The folder of its pyproject.toml, relative to the root.
        package: The package in it.
        kinds: Endings of file names; for each, at least one of its files must have it.
    """

    name: str
    folder: str
    package: str
    kinds: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """The name in file names."""
        return self.name.replace("-", "_")


DISTRIBUTIONS = (
    Distribution("xai-deploy", ".", "xai_deploy", ("/py.typed", ".jinja")),
    Distribution("xai-deploy-exporters", "exporters", "xai_exporters", ("/py.typed", ".toml", ".html", ".css", ".js")),
)


def version_of(source: Path) -> str:
    """The version of both distributions."""
    text = (source / "xai_deploy" / "version.py").read_text(encoding="utf-8")
    [version] = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(version)


def faults(distribution: Distribution, source: Path, built: Path, direct: Path, version: str) -> Iterator[str]:
    """What is wrong with a distribution.

    Args:
        distribution: The distribution.
        source: The committed files, with nothing built among them.
        built: The folder of its sdist, and of the wheel built from that.
        direct: The folder of its wheel, built from the sources.
        version: The version of both distributions.
    """
    wheel_name = f"{distribution.file_name}-{version}-py3-none-any.whl"
    sdist_name = f"{distribution.file_name}-{version}.tar.gz"
    missing = [file for file in (built / wheel_name, built / sdist_name, direct / wheel_name) if not file.is_file()]
    if missing:
        yield from (f"not built: {file.name}" for file in missing)
        return
    wheel, sdist = in_wheel(built / wheel_name), in_sdist(built / sdist_name)
    top = source / distribution.folder
    package = {str(file.relative_to(top)) for file in (top / distribution.package).rglob("*") if file.is_file()}
    info, egg = f"{distribution.file_name}-{version}.dist-info/", f"{distribution.file_name}.egg-info/"

    yield from content_faults(wheel_name, {name for name in wheel if not name.startswith(info)}, package)
    beside = {name for name in sdist if name not in BUILT_OF and not name.startswith(egg)}
    yield from content_faults(sdist_name, beside, package)
    yield from (
        f"{wheel_name} has no file *{end}" for end in distribution.kinds if not any(n.endswith(end) for n in package)
    )
    other = in_wheel(direct / wheel_name)
    for name in sorted(wheel.keys() | other.keys()):
        if wheel.get(name) != other.get(name):
            yield f"{sdist_name} makes a wheel that differs from the sources: {name}"
    if f"{info}licenses/LICENSE" not in wheel:
        yield f"{wheel_name} has no LICENSE"
    for name, data in ((wheel_name, wheel[f"{info}METADATA"]), (sdist_name, sdist["PKG-INFO"])):
        yield from (f"{name}: {fault}" for fault in metadata_faults(data, distribution, version))


def content_faults(name: str, held: set[str], due: set[str]) -> Iterator[str]:
    """Files that are missing or extra."""
    yield from (f"{name} lacks the file {file}" for file in sorted(due - held))
    yield from (f"{name} has the extra file {file}" for file in sorted(held - due))


def metadata_faults(data: bytes, distribution: Distribution, version: str) -> Iterator[str]:
    """Metadata that differ from the expected ones."""
    metadata: Message = HeaderParser().parsestr(data.decode())
    due = {
        "Name": distribution.name,
        "Version": version,
        "License-Expression": "Apache-2.0",
        "License-File": "LICENSE",
        "Requires-Python": ">=3.11",
        "Description-Content-Type": "text/markdown",
    }
    yield from (f"{key} is {metadata[key]!r}, not {value!r}" for key, value in due.items() if metadata[key] != value)
    if not str(metadata.get_payload()).startswith(f"# {distribution.name}\n"):
        yield "the description is not the readme"
    if distribution.folder != "." and f"xai-deploy=={version}" not in metadata.get_all("Requires-Dist", []):
        yield f"does not require xai-deploy=={version}"


def commands(wheel: Path) -> list[str]:
    """The commands that a wheel installs."""
    parser = configparser.ConfigParser()
    [text] = (data for name, data in in_wheel(wheel).items() if name.endswith(".dist-info/entry_points.txt"))
    parser.read_string(text.decode())
    return list(parser["console_scripts"])


def in_wheel(file: Path) -> Mapping[str, bytes]:
    """The files in a wheel."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def in_sdist(file: Path) -> Mapping[str, bytes]:
    """The files in an sdist, without the folder that holds all of them."""
    with tarfile.open(file) as archive:
        opened = ((member.name, archive.extractfile(member)) for member in archive.getmembers() if member.isfile())
        return {name.partition("/")[2]: data.read() for name, data in opened if data is not None}
