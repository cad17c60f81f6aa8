"""A group of processes that the kernel ends if they take more memory than allowed, pages of files included."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

GROUPS = Path("/sys/fs/cgroup")


class Limit:
    """A cgroup with a limit on its memory; with version 1 of cgroups or version 2.

    Attributes:
        folder: Its folder; None if this process may not make one, and nothing is limited.
    """

    def __init__(self, bytes_: int) -> None:
        self._bytes = bytes_
        self.folder: Path | None = None

    def __enter__(self) -> Limit:
        name = f"check-edge-{os.getpid()}"
        for parent, limit in ((GROUPS / "memory", "memory.limit_in_bytes"), (GROUPS, "memory.max")):
            folder = parent / name
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                (folder / limit).write_text(str(self._bytes))
            except OSError:  # a group without a controller of memory
                folder.rmdir()
                continue
            self.folder = folder
            break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder is not None:
            self.folder.rmdir()

    def join(self) -> None:
        """Put the calling process into the group; for `subprocess`'s `preexec_fn`."""
        if self.folder is not None:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))
