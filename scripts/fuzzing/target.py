"""What a target's file defines, and what may become of an input."""

from __future__ import annotations

import importlib
import random
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from xai_deploy.foundation.registry import import_all

from . import mutations

Kind = Literal["accepted", "refused", "uncaught", "crash", "hang", "memory"]
FAULTS: tuple[Kind, ...] = ("uncaught", "crash", "hang", "memory")


@dataclass(frozen=True)
class Outcome:
    """The outcome of one input.

    Attributes:
        kind: "accepted"; "refused" by an XaiError; or a fault: "uncaught" (another exception), "crash" (the worker died), "hang",
            "memory" (more than allowed).
        detail: The error in one line.
        seconds: How long it took.
    """

    kind: Kind
    detail: str = ""
    seconds: float = 0.0

    @property
    def fault(self) -> bool:
        """Whether it needs a fix."""
        return self.kind in FAULTS


class Target(Protocol):
    """What a target's file defines. A function `mutate(data, others, rng)` is optional: the default mutates bytes."""

    def seeds(self) -> list[bytes]:
        """Good inputs, and those at which faults were found before."""
        ...

    def one(self, data: bytes) -> None:
        """Run the code under test on one input.

        Raises:
            XaiError: The input is refused, as a bad input should be.
        """
        ...


def targets() -> list[str]:
    """The names of all targets."""
    return [module.__name__.rpartition(".")[2] for module in import_all(f"{__package__}.targets")]


def load(name: str) -> Any:
    """A target's module, which is a `Target`; a name with a dot is a module elsewhere."""
    return importlib.import_module(name if "." in name else f"{__package__}.targets.{name}")


def mutated(target: Any, corpus: list[bytes], rng: random.Random) -> bytes:
    """An input: one of the seeds, changed by the target's own way or by bytes."""
    data = rng.choice(corpus)
    mutate = getattr(target, "mutate", mutations.mutate_bytes)
    changed: bytes = mutate(data, corpus, rng)
    return changed
