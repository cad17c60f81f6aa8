"""The networks: the smallest of every timm family, and a small one of every transformers image classifier, with random numbers.

Scales, biases and layer scales are drawn, too: an initial network has ones and zeros there, which hide errors. Statistics are
those of random images, moved a little: with any others the signal dies on its way (a MobileNet's gradient is then 1e-29), and
every position answers to rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

SIZES = (128, 160, 192, 224, 240, 256, 288, 384)
"""Sides of the input, in pixels; each network gets the first one that it takes."""

TIMM, TRANSFORMERS = "timm", "transformers"

_NO_IMAGES_ALONE = {
    "shieldgemma2": "it takes images with a text",
    "timm_wrapper": "it is timm's network under another name",
}
_GRAINS = (2, 4, 16, 64)
"""Squares along the side of the random images to which statistics are fitted, beside images of noise."""
_DRAWS = 4
"""Images of each kind. With one of each, what is pooled is alike in all: divided by so small a spread, the logits of LeViT and
HaloNet moved by 1e-2 and more if their image moved by 1e-7."""
_SHALLOW = 4
"""Blocks of a network that takes its number of blocks."""


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
                    fit_statistics(network, side)
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
        # not every network lets one choose its depth, and some take images of any size
        for given in ({"img_size": side, "depth": _SHALLOW}, {"depth": _SHALLOW}, {"img_size": side}):
            try:
                return timm.create_model(name, **given)
            except (TypeError, ValueError, AssertionError):  # of those that take a list of depths
                continue
        return timm.create_model(name)

    return make


def _transformers_maker(kind: str) -> Callable[[int], torch.nn.Module]:
    import transformers

    def make(side: int) -> Any:
        config: Any = transformers.AutoConfig.for_model(kind)
        parts: tuple[Any, ...] = (config, getattr(config, "vision_config", None))
        for part in parts:
            if (known := getattr(part, "image_size", None)) is not None:
                part.image_size = [side, side] if isinstance(known, (list, tuple)) else side  # Hiera's is checked
            for depth in ("num_hidden_layers", "num_self_attends_per_block"):
                if type(getattr(part, depth, None)) is int:
                    setattr(part, depth, min(getattr(part, depth), _SHALLOW))
        config.num_labels = 10
        config.architectures = config.architectures or []  # None is refused if a type has several classes (DeiT)
        return transformers.AutoModelForImageClassification.from_config(config)

    return make


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Draw what an initial network leaves at ones and zeros. Matrices keep their initial numbers, unless these are all zero.

    `fit_statistics` then replaces the statistics.
    """
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


def fit_statistics(network: torch.nn.Module, side: int) -> None:
    """Give each BatchNorm the statistics of what reaches it from random images, moved a little, layer after layer."""
    draw = torch.Generator().manual_seed(0)

    def fit(norm: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        over = [axis for axis in range(x.ndim) if axis != 1]
        mean, spread = x.mean(over), x.std(over)
        moved = torch.randn(mean.shape, generator=draw)
        norm.running_mean.copy_(mean + 0.1 * spread * moved)  # type: ignore[operator]
        factor = torch.rand(mean.shape, generator=draw) + 0.5
        norm.running_var.copy_(torch.where(spread > 0, factor * spread**2, factor))  # type: ignore[operator]

    norms = [m for m in network.modules() if getattr(m, "running_var", None) is not None]
    if norms:
        hooks = [norm.register_forward_pre_hook(fit) for norm in norms]
        network(torch.cat([_grainy(side, grain, draw) for grain in (*_GRAINS, side) * _DRAWS]))
        for hook in hooks:
            hook.remove()


def _grainy(side: int, grain: int, draw: torch.Generator) -> torch.Tensor:
    return torch.nn.functional.interpolate(torch.rand(1, 3, grain, grain, generator=draw), (side, side))


def logits(output: Any) -> torch.Tensor:
    """The scores in what a network gives."""
    if isinstance(output, torch.Tensor):
        return output
    found = getattr(output, "logits", None)
    chosen: torch.Tensor = (
        found if found is not None else next(iter(output.values() if hasattr(output, "values") else output))
    )
    return chosen
