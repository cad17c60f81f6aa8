"""What an adapter is given, and what it gives back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

PLAIN = "plain"  # the job that is one forward pass: logits [1,classes]
TORCH = ("torch==2.13.0", "torchvision==0.28.0")

Array: TypeAlias = NDArray[Any]
Job: TypeAlias = Callable[[], Array]
Jobs: TypeAlias = Mapping[str, Callable[[], Job]]


@dataclass(frozen=True)
class Case:
    """What all packages explain.

    The folder holds `weights.pt` (state dict), `net.onnx` (symbolic batch, input "image", output "output": logits), `image.npy`
    [1,3,H,W] and `net.xai` (the bundle).

    Attributes:
        folder: The folder.
        arch: torchvision's name of the network.
        layer: Module path of the target layer.
        target: Class to explain.
        threads: Number of threads for each package.
        masks: Number of RISE's masks.
        steps: Number of steps of integrated gradients.
        clock: What `worker` counts: "wall", or the "processor" time of the package's process, on a machine that does other work.
    """

    folder: str
    arch: str
    layer: str
    target: int
    threads: int
    masks: int
    steps: int
    clock: Literal["wall", "processor"] = "wall"

    @property
    def image(self) -> Array:
        """The image, preprocessed, float32 [1,3,H,W]."""
        image: Array = np.load(self.path("image.npy"))
        return image

    def path(self, name: str) -> str:
        """A file of the folder."""
        return str(Path(self.folder) / name)

    def save(self) -> None:
        """Write `case.json`."""
        Path(self.path("case.json")).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def load(folder: str) -> Case:
        """Read `case.json`."""
        return Case(**json.loads((Path(folder) / "case.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Counterpart:
    """Which of our methods a peer's is compared with.

    Attributes:
        ours: Method and options as on our command line; a name of its own if we have no such method.
        compare: "raw" if both define the same numbers; "scaled" if they agree after min-max; None if they do not, or if they
            are random.
        note: What differs.
    """

    ours: str
    compare: Literal["raw", "scaled"] | None = "raw"
    note: str = ""

    @property
    def method(self) -> str:
        """The method without its options."""
        return self.ours.partition(":")[0]


class Adapter(Protocol):
    """What a peer's file defines."""

    TITLE: str
    REQUIREMENTS: tuple[str, ...]
    COUNTERPARTS: Mapping[str, Counterpart]

    def jobs(self, case: Case) -> Jobs:
        """Name -> what prepares the job: `PLAIN`, and those of `COUNTERPARTS`. A job returns a map [h,w], not resized if
        the peer gives access to that."""
        ...
