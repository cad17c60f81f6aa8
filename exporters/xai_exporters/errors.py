"""Every error that the exporters raise on purpose; all are `xai_deploy.errors.XaiError`.

ExportError
├── RequestError              an option that does not fit, or does not fit the network
│   ├── PreprocessingError    nobody states how pixels are prepared for a network of floats
│   └── SeveralOutputsError   nobody names the output that is explained
├── SourceError               the source file
│   ├── UnknownSourceError    not a format that xai-export reads
│   ├── UntrustedSourceError  reading it would run code from the file
│   └── ArchitectureError     the weights' architecture is unknown, or does not fit them
├── LayerError                no such layer, an ambiguous one, or one that can't be cut
│   ├── OtherInputError       one that depends on another image than the one explained
│   └── ExtentError           one that covers a part of the image, or more than the image
├── GraphError                the graph holds what a bundle can't
│   └── RuleError             an operator that can't be differentiated, or has no rule
├── BatchError                the network can't take several images at once
├── VerificationError         the parts do not reproduce the source
└── OutputError               the bundle can't be written where asked
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from xai_deploy.errors import XaiError


class ExportError(XaiError):
    """Base of the exporters' errors."""


class RequestError(ExportError):
    """An option does not fit, or does not fit the network."""


class PreprocessingError(RequestError):
    """A network takes floats, and nobody states how pixels become them."""


class SeveralOutputsError(RequestError):
    """The network has several outputs, and none was named.

    Args:
        names: Those that may be named.
        ranks: The number of dimensions of each output of the network.
    """

    def __init__(self, names: Iterable[str], ranks: Collection[int]) -> None:
        parts = [f"the network has several outputs; choose one with --output: {', '.join(names)}"]
        if 3 in ranks:
            parts.append("their rows are read as those of no detector, unless --decoder names a layout")
        if sum(rank >= 4 for rank in ranks) > 1:  # heads of YOLO, RTMDet, FCOS, CenterNet
            parts.append("if its maps are a detector's, export it with decoded boxes")
        super().__init__("; ".join(parts))


class SourceError(ExportError):
    """The source file can't be used."""


class UnknownSourceError(SourceError):
    """The file is of no format that xai-export reads."""


class UntrustedSourceError(SourceError):
    """Reading the file would run code that it carries."""


class ArchitectureError(SourceError):
    """The weights' architecture is not known, or does not fit them."""


class LayerError(ExportError):
    """No such layer, an ambiguous one, or one at which the network can't be cut."""


class OtherInputError(LayerError):
    """The layer depends on another image than the one that is explained.

    Attributes:
        input: The name of that image input in the source.
    """

    def __init__(self, message: str, input: str) -> None:
        super().__init__(message)
        self.input = input


class ExtentError(LayerError):
    """The layer covers a part of the image, or a border around it as well."""


class GraphError(ExportError):
    """The graph holds something that a bundle can't."""


class RuleError(GraphError):
    """An operator on the way from the logits to the target has no rule, or no rule for this case."""


class BatchError(ExportError):
    """The network can't take several images at once."""


class VerificationError(ExportError):
    """Head and tail do not reproduce the source's output."""


class OutputError(ExportError):
    """The bundle can't be written where it was asked for."""
