"""What OpenVINO is given to read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Given:
    """A file that OpenVINO reads.

    Attributes:
        shown: Its path as the user names it.
        path: Its absolute path; for a SavedModel, the folder's.
        format: The format's name, for people.
        size: The bytes of all its files.
        short: A shorter name of the format.
        frontend: OpenVINO's reader ("tflite", "tf", "paddle"); "" for IR and ONNX, which OpenVINO's core reads.
        ending: The ending that the reader wants; "" for any.
        beside: Its further files: weights.
    """

    shown: Path
    path: Path
    format: str
    size: int
    short: str = "file"
    frontend: str = ""
    ending: str = ""
    beside: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on which a network depends beside the one that was named."""
        return self.beside

    def placed(self, folder: Path) -> Path:
        """The path to give to the reader: if the ending is another one, links in a folder of ours."""
        if not self.ending or self.path.suffix == self.ending:
            return self.path
        for file, name in ((self.path, f"net{self.ending}"), *((file, f"net{file.suffix}") for file in self.beside)):
            if (folder / name).exists():
                continue
            try:
                (folder / name).symlink_to(file)
            except OSError:  # Windows, without the right to link
                shutil.copyfile(file, folder / name)
        return folder / f"net{self.ending}"
