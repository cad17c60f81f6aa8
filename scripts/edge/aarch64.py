"""Debian's aarch64 Python below QEMU's user-mode emulation, and Python packages for it.

Needs `qemu-user-static` and `debootstrap`, and a package index. Nothing of the machine is changed: the emulator looks into the
folder for what a program opens at an absolute path.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

EMULATOR = "qemu-aarch64-static"
RELEASE = "bookworm"
PROCESSOR = "cortex-a72"
_CPU = "sys/devices/system/cpu"
_FILES = {
    # QEMU hands out those of the machine, in which ONNX Runtime and OpenVINO find no aarch64 processor.
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n",
    f"{_CPU}/possible": "0\n",
    f"{_CPU}/present": "0\n",
    f"{_CPU}/online": "0\n",
    f"{_CPU}/cpu0/regs/identification/midr_el1": "0x00000000410fd083\n",
}
_PLATFORMS = (
    "manylinux_2_35",
    "manylinux_2_34",
    "manylinux_2_31",
    "manylinux_2_28",
    "manylinux_2_27",
    "manylinux_2_17",
)


def missing() -> str:
    """Why nothing can be emulated here; "" if it can."""
    absent = [program for program in (EMULATOR, "debootstrap", "dpkg-deb") if shutil.which(program) is None]
    return f"not run: {', '.join(absent)} not installed" if absent else ""


def system(root: Path) -> list[str]:
    """The command that starts an aarch64 Python of Debian's, made in the folder `root` unless it is there."""
    python = root / "usr" / "bin" / "python3"
    if not python.exists():
        shutil.rmtree(root, ignore_errors=True)
        include = "--include=python3,libstdc++6"
        debootstrap = ["debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", include, RELEASE, str(root)]
        subprocess.run(debootstrap, check=True, stdout=subprocess.DEVNULL)
        for package in sorted((root / "var" / "cache" / "apt" / "archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, root], check=True)
        for name, text in _FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return [EMULATOR, "-cpu", PROCESSOR, "-L", str(root), str(python)]


def packages(folder: Path, python: list[str], requirements: list[str], wheel: Path) -> None:
    """Unpack aarch64 wheels of the requirements, unless the folder holds them, and the wheel, into a folder."""
    done, wanted = folder.with_suffix(".txt"), "\n".join(requirements)
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        for file in _downloaded(folder.with_suffix(".wheels"), python, requirements):
            _unpack(file, folder)
        done.write_text(wanted, encoding="utf-8")
    shutil.rmtree(folder / "xai_deploy", ignore_errors=True)
    _unpack(wheel, folder)


def _downloaded(folder: Path, python: list[str], requirements: list[str]) -> list[Path]:
    asked = [*python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--only-binary=:all:"]
    platforms = [f"--platform={platform}_aarch64" for platform in _PLATFORMS]
    where = [f"--python-version={version}", *platforms, "--dest", str(folder)]
    subprocess.run([*pip, *where, *requirements], check=True)
    return sorted(folder.glob("*.whl"))


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
