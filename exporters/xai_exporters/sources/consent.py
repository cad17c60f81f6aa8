"""Ask for the user's consent before torch reads a file that can run code."""

from __future__ import annotations

from ..errors import UntrustedSourceError
from ..request import Request
from .source_file import SourceFile


def require_trust(file: SourceFile, request: Request, what: str, why: str) -> None:
    """Refuse a file that runs code, unless the user trusts it.

    Args:
        file: The file.
        request: `trust_code` is the consent.
        what: The file's description, such as "a TorchScript archive".
        why: The reason why its code runs.

    Raises:
        UntrustedSourceError: The user has not consented.
    """
    if not request.trust_code:
        raise UntrustedSourceError(
            f"{file.path}: {what}, and {why}. Take a state dict (torch.save(model.state_dict(), ...) and --arch), safetensors or "
            "ONNX instead, or give --trust-code if you trust its origin"
        )
