"""What a command says of work that goes on: how much an earlier call has done, and how much is kept after an interruption."""

from __future__ import annotations

import sys
from pathlib import Path

from ..foundation.printable import printable


class GoingOn:
    """Knows how many images are done. Call it at the beginning, and after each chunk.

    Args:
        quiet: Say nothing of an earlier call.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.kept = Path()  # the file or folder that holds what is done
        self.done = self.images = 0

    def __call__(self, kept: Path, done: int, images: int) -> None:
        goes_on = not self.images and done > 0  # the first call, and an earlier call has done something
        self.kept, self.done, self.images = kept, done, images
        if goes_on and not self.quiet:
            print(printable(f"continuing with {self.kept}: {self._counted()}"), file=sys.stderr)

    def interrupted(self) -> None:
        """Print what is kept; print nothing before the work has begun or after it has ended."""
        if 0 < self.done < self.images:
            print(
                printable(f"{self._counted()} in {self.kept}; give the same command again to continue"), file=sys.stderr
            )

    def _counted(self) -> str:
        return f"{self.done} of {self.images} images are done"
