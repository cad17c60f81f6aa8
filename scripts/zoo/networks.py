"""The networks: the smallest of every timm family, and a small one of every transformers image classifier, with random numbers.

Statistics, scales, biases and layer scales are drawn, too: an initial network has ones and zeros there, which hide errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

SIZES = (128, 160, 192, 224, 256, 288, 384)
"""Sides of the input, in pixels; each network gets the first one that it takes."""

TIMM, TRANSFORMERS = "timm", "transformers"

_NO_IMAGES_ALONE = {
    "shieldgemma2": "it takes images with a text",
    "timm_wrapper": "it is timm's network under another name",
}
_SHALLOW = 4
"""Blocks of a transformer for which the configuration says more."""


def names() -> list[str]:
    """ "timm:FAMILY" of every module of timm, and "transformers:TYPE" of every type of image classifier."""
    import timm
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as types

    kept = [kind for kind in types if kind not in _NO_IMAGES_ALONE]
    return [f"{TIMM}:{family}" for family in timm.list_modules()] + [f"{TRANSFORMERS}:{kind}" for kind in kept]


def build(name: str, variant: str | None = None) -> tuple[torch.nn.Module, str, int]:
    """A network of a family, in evaluation mode.

    Args:
        name: As `names` gives it.
        variant: timm's name of the network; None: the one with the fewest weights.

    Returns:
        The network, its name, and the side of its input in pixels.

    Raises:
        RuntimeError: It takes none of `SIZES`.
    """
    library, _, family = name.partition(":")
    if library == TIMM:
        chosen = variant or smallest(family)
        makers = [_timm_maker(chosen)]
    else:
        chosen = family
        makers = [_transformers_maker(family)]
    problem = ""
    for side in SIZES:
        for make in makers:
            try:
                torch.manual_seed(0)
                network = randomised(make(side).eval())
                with torch.no_grad():
                    scores = logits(network(torch.rand(1, 3, side, side)))
                if scores.ndim == 2 and bool(torch.isfinite(scores).all()):
                    return network, chosen, side
                problem = f"gives {list(scores.shape)}, finite {bool(torch.isfinite(scores).all())}"
            except Exception as error:
                problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    raise RuntimeError(f"takes no image of {SIZES[0]} to {SIZES[-1]} pixels: {problem}")


def smallest(family: str) -> str:
    """The network of a timm module with the fewest weights: one of those for timm's own tests, if there are any."""
    import timm

    counts = {}
    names = timm.list_models(module=family)
    for name in [name for name in names if name.startswith("test_")] or names:
        try:
            with torch.device("meta"):
                counts[name] = sum(p.numel() for p in timm.create_model(name).parameters())
        except Exception:  # some read numbers while they are built
            continue
    return min(counts, key=lambda name: counts[name]) if counts else str(timm.list_models(module=family)[0])


def _timm_maker(name: str) -> Callable[[int], torch.nn.Module]:
    import timm

    def make(side: int) -> Any:
        try:
            return timm.create_model(name, img_size=side)
        except TypeError:  # it takes images of any size
            return timm.create_model(name)

    return make


def _transformers_maker(kind: str) -> Callable[[int], torch.nn.Module]:
    import transformers

    def make(side: int) -> Any:
        config: Any = transformers.AutoConfig.for_model(kind)
        parts: tuple[Any, ...] = (config, getattr(config, "vision_config", None))
        for part in parts:
            if getattr(part, "image_size", None) is not None:
                part.image_size = side
            if type(getattr(part, "num_hidden_layers", None)) is int:
                part.num_hidden_layers = min(part.num_hidden_layers, _SHALLOW)
        config.num_labels = 10
        return transformers.AutoModelForImageClassification.from_config(config)

    return make


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Draw what an initial network leaves at ones and zeros. Matrices keep their initial numbers, unless these are all zero."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            leaf = name.rpartition(".")[2]
            if not value.is_floating_point() or value.numel() == 0:
                continue
            if leaf == "running_var":
                value.uniform_(0.5, 1.5, generator=draw)
            elif leaf == "running_mean" or (leaf == "bias" and value.ndim == 1):
                value.normal_(0, 0.1, generator=draw)
            elif isinstance(value, torch.nn.Parameter) and value.ndim == 1 and value.numel() > 1:
                value.uniform_(0.5, 1.5, generator=draw)
            elif isinstance(value, torch.nn.Parameter) and value.ndim > 1 and not value.any():
                value.normal_(0, 0.02, generator=draw)
    return network


def logits(output: Any) -> torch.Tensor:
    """The scores in what a network gives."""
    if isinstance(output, torch.Tensor):
        return output
    found = getattr(output, "logits", None)
    chosen: torch.Tensor = (
        found if found is not None else next(iter(output.values() if hasattr(output, "values") else output))
    )
    return chosen
