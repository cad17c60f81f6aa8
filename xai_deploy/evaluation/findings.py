"""What an evaluation found, in sentences: best is only what is ahead of every other by a paired difference that excludes 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .metrics import Column
from .summary import FEWEST, Group, Ranking

NAMED = 4  # figures that a sentence lists; more are counted


def sentences(
    names: Sequence[str],
    groups: Sequence[Group],
    rankings: Mapping[str, Ranking],
    columns: Sequence[Column],
    images: int,
) -> list[str]:
    """The sentences, the most important first.

    Args:
        names: The groups' names.
        groups: The figures.
        rankings: Column -> the comparison of its groups; columns without one are not compared.
        columns: All columns.
        images: How many images were measured.
    """
    counted = f"{images} image{'s' * (images != 1)}"
    if not rankings:
        lines = [f"{listed(names)}: measured on {counted}."]
    elif images < FEWEST:
        lines = [f"On {counted}: too few to call a method best, which takes {FEWEST}."]
    else:
        lines = _compared(names, rankings, counted)
    return [*lines, *_sanity(names, groups, columns)]


def _compared(names: Sequence[str], rankings: Mapping[str, Ranking], counted: str) -> list[str]:
    wins: dict[str, list[str]] = {}
    for column, ranking in rankings.items():
        if ranking.best:
            wins.setdefault(names[ranking.leader], []).append(column)
    level = [column for column, ranking in rankings.items() if not ranking.best]
    open_by = listed(level, "or") if 0 < len(level) <= NAMED else f"the other {len(level)} figures"
    if not wins:
        by = open_by if len(level) <= NAMED else f"any of the {len(level)} figures"
        return [f"On {counted} none is clearly best by {by}: the differences between the first ones could be chance."]
    won = listed([f"{name} is best by {listed(by)}" for name, by in wins.items()])
    return [f"On {counted}, {won}." + (f" By {open_by} none is clearly best." if level else "")]


def _sanity(names: Sequence[str], groups: Sequence[Group], columns: Sequence[Column]) -> list[str]:
    """How much of a map is left when all weights are random: the last column of the sanity check."""
    steps = sanity_columns(columns)
    if not steps:
        return []
    known = [
        (figure.mean, name)
        for name, group in zip(names, groups, strict=True)
        if (figure := group.figures.get(steps[-1])) is not None and figure.mean is not None
    ]
    if not known:
        return []
    (low, least), (high, most) = min(known), max(known)
    span = f"{low:z.2f} ({least})" + (f" to {high:z.2f} ({most})" if len(known) > 1 else "")
    return [f"With all weights random, a map's rank correlation with the trained network's is {span}; 0 is right."]


def sanity_columns(columns: Sequence[Column]) -> list[str]:
    """The columns of the sanity check, in the order of its steps."""
    return [c.name for c in columns if c.name.startswith("sanity-") and c.name.removeprefix("sanity-").isdigit()]


def listed(words: Sequence[str], last: str = "and") -> str:
    """ "a, b and c" """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
