"""What has to hold for the files of a release; scripts/release builds them.

A wheel holds the files of its package that are committed, no others, and its metadata. An sdist holds these, and what a wheel is
built of; the wheel built from it is the one built from the sources. Version, licence and readme are as the sources say.
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
        name: As a package index has it.
        folder: Of its pyproject.toml, below the root.
        package: That it holds.
        kinds: Ends of file names, each of which at least one of its files must have.
    """

    name: str
    folder: str
    package: str
    kinds: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """The name, as files have it."""
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
        distribution: Which.
        source: The committed files, with nothing built among them.
        built: The folder of its sdist, and of the wheel built from that.
        direct: The folder of its wheel, built from the sources.
        version: Of both distributions.
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
            yield f"{sdist_name} makes another wheel than the sources: {name}"
    if f"{info}licenses/LICENSE" not in wheel:
        yield f"{wheel_name} has no LICENSE"
    for name, data in ((wheel_name, wheel[f"{info}METADATA"]), (sdist_name, sdist["PKG-INFO"])):
        yield from (f"{name}: {fault}" for fault in metadata_faults(data, distribution, version))


def content_faults(name: str, there: set[str], due: set[str]) -> Iterator[str]:
    """Files that are missing or stray."""
    yield from (f"{name} lacks {file}" for file in sorted(due - there))
    yield from (f"{name} has the stray {file}" for file in sorted(there - due))


def metadata_faults(data: bytes, distribution: Distribution, version: str) -> Iterator[str]:
    """Metadata that say something else than is due."""
    found: Message = HeaderParser().parsestr(data.decode())
    due = {
        "Name": distribution.name,
        "Version": version,
        "License-Expression": "Apache-2.0",
        "License-File": "LICENSE",
        "Requires-Python": ">=3.11",
        "Description-Content-Type": "text/markdown",
    }
    yield from (f"{key} is {found[key]!r}, not {value!r}" for key, value in due.items() if found[key] != value)
    if not str(found.get_payload()).startswith(f"# {distribution.name}\n"):
        yield "the description is not the readme"
    if distribution.folder != "." and f"xai-deploy=={version}" not in found.get_all("Requires-Dist", []):
        yield f"does not ask for xai-deploy=={version}"


def commands(wheel: Path) -> list[str]:
    """The commands that a wheel brings."""
    parser = configparser.ConfigParser()
    [text] = (data for name, data in in_wheel(wheel).items() if name.endswith(".dist-info/entry_points.txt"))
    parser.read_string(text.decode())
    return list(parser["console_scripts"])


def in_wheel(file: Path) -> Mapping[str, bytes]:
    """Its files."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def in_sdist(file: Path) -> Mapping[str, bytes]:
    """Its files, without the folder that holds all of them."""
    with tarfile.open(file) as archive:
        opened = ((member.name, archive.extractfile(member)) for member in archive.getmembers() if member.isfile())
        return {name.partition("/")[2]: data.read() for name, data in opened if data is not None}
