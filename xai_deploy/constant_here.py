"""Why a map of one chunk of images is the same everywhere: `constant_maps`, asked of the network that gave the map."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from .constant_maps import CUT_OFF, ELSEWHERE, NEGATIVE, ZERO_IMAGE, finite_or_nan, why_constant
from .forward import Array, ForwardPass
from .targets.seeds import Index, Seed


def why_constant_here(
    forward: ForwardPass,
    raw: Array,
    image: int,
    seed: Seed,
    by_position: bool = False,
    roles: Collection[str] = (),
    elsewhere: bool = False,
) -> str | None:
    """Why image `image`'s map for a seed is the same everywhere, see `constant_maps`; None if it is not.

    Args:
        forward: The images.
        raw: The map.
        image: Its index in the chunk.
        seed: What is explained.
        by_position: Whether the map holds the score of one position at a time.
        roles: The graphs that its method runs.
        elsewhere: The map of another layer varies. A detector's row is made at one of its layers, so the tails of the others, which
            cost several inferences, are not asked.
    """
    if np.ptp(raw) != 0:
        return None
    manifest = forward.opened.manifest

    def on_planes(others: Array, made_of: Index) -> Array:
        return forward.network(forward.arranged(others), made_of)

    # the image stands for the activation if the network is not cut
    run = forward.tail if manifest.is_cut else on_planes
    known = ("gradient", "relevance") if manifest.is_cut else ("input-gradient", "pixel-relevance")
    role = next(filter(forward.has, known), None)
    planes = forward.activation if manifest.is_cut else forward.channels_first(forward.x).astype(np.float32)

    def scores(others: Array) -> Array:
        parts = np.split(others, range(forward.batch_size, len(others), forward.batch_size))
        return np.concatenate([finite_or_nan(of_image, part, forward.logits.shape[1]) for part in parts])

    def of_image(part: Array) -> Array:
        return run(part, np.full(len(part), image))

    def gradient() -> Array | None:
        if role is None:
            return None
        values = forward.backward(role, seed)
        own: Array = (values if manifest.is_cut else forward.channels_first(values))[image]
        return own

    if elsewhere and manifest.scores.rows is not None and (back := gradient()) is not None and not back.any():
        return ELSEWHERE
    reason = why_constant(
        raw,
        planes[image],
        scores,
        gradient,
        seed.rows(np.array([image])).of,  # the seed of one image scores any number of rows
        by_position and (manifest.logits_step > 0 or manifest.format == 1),
    )
    return _said(forward, image, seed, roles, reason)


def _said(forward: ForwardPass, image: int, seed: Seed, roles: Collection[str], reason: str) -> str:
    """The reason in the words of the network: of one that is not cut the image is the layer, and may be what is cut off."""
    if not forward.opened.manifest.is_cut:
        return reason.replace("the layer's activation", "the image").replace("the layer", "the image")
    ends = {"input-gradient", "pixel-relevance"}.intersection(roles if reason == NEGATIVE else ())
    back = {end: forward.backward(end, seed)[image] for end in ends}
    own = forward.x[image]
    reached = any(one.any() for one in back.values())
    if back and not any((one * own).any() for one in back.values()) and (reached or not own.any()):
        return ZERO_IMAGE
    if all(one.any() for one in back.values()) or _rules_pass_nothing(forward, image, seed, back):
        return reason
    return CUT_OFF


def _rules_pass_nothing(forward: ForwardPass, image: int, seed: Seed, back: Mapping[str, Array]) -> bool:
    """Whether relevance at the pixels is zero because its rules keep what counts for the target, although the layer is reached."""
    if back.keys() != {"pixel-relevance"}:
        return False
    if forward.has("input-gradient"):
        return bool(forward.backward("input-gradient", seed)[image].any())
    return forward.has("relevance") and not forward.backward("relevance", seed)[image].any()
