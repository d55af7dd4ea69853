"""Odd-one-out problems of a rule: the same generator for a study's trials and for the training sets of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from bench.registry import LimenError, unknown

from ..balance import seeded
from .catalogue import PICTURES, Rule, rule_of
from .contours import FAR_LOBES, LOBES
from .scene import draw
from .values import Draw

Split = Literal["train", "val", "test", "ood", "people"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""`ood` has contours with more and finer lobes than any other; `people` is what a study shows."""


@dataclass(frozen=True)
class Problem:
    """Four pictures of which one does not follow the rule.

    Attributes
    ----------
    pictures : uint8 (4, size, size, 3), in their places
    odd : place of the odd one, from 0
    broken : the part of the rule that it breaks
    """

    pictures: np.ndarray
    odd: int
    broken: str


@dataclass(frozen=True)
class Problems:
    """Problems of one rule as arrays.

    Attributes
    ----------
    rule : its name
    pictures : uint8 (n, 4, size, size, 3)
    odd : int64 (n,), place of the odd one
    broken : the part of the rule that each odd one breaks
    """

    rule: str
    pictures: np.ndarray
    odd: np.ndarray
    broken: tuple[str, ...]


def problem(rule: str, index: int, split: Split = "train", seed: int = 0, *, size: int = 128) -> Problem:
    """Draw one problem; it depends on its arguments only, not on what was drawn before.

    Parameters
    ----------
    rule
        A name of `catalogue.RULES`.
    index
        Number of the problem within the split, from 0.
    split
        A name of `SPLITS`; no two splits share a problem.
    seed
        Another seed gives other problems.
    size
        Width of the pictures in pixels.

    Raises
    ------
    LimenError
        If the rule or split is not known, or the size is below 16.
    """
    found = rule_of(rule)
    _check(split, size)
    odd, broken = _assigned(found, index, split, seed)
    lobes = FAR_LOBES if split == "ood" else LOBES
    draws = Draw(seeded(seed, "problem", rule, split, index), found.sides, lobes)
    *same, last = (draw(figures, size) for figures in found.figures(broken, draws))
    pictures = [*same[:odd], last, *same[odd:]]
    return Problem(np.stack(pictures), odd, broken)


def problems(rule: str, n: int, split: Split = "train", seed: int = 0, *, size: int = 128) -> Problems:
    """Draw the first `n` problems of a rule; fewer are a prefix of more, so training sets of growing size are nested.

    The odd one stands in each place equally often, and breaks each part of a composed rule equally often, in each run
    of four problems; in eight, in each place.

    Parameters
    ----------
    rule, split, seed, size
        As for `problem`.
    n
        How many, for example 20, 50, 100, 200, 500 or 1,000 for the regimes of `analysis.measures.cvr`.

    Raises
    ------
    LimenError
        If the rule or split is not known, `n` is below 1 or the size below 16.

    References
    ----------
    Zerroug, Vaishnav, Colin, Musslick, Serre: A Benchmark for Compositional Visual Reasoning, arXiv:2206.05379.
    """
    if n < 1:
        raise LimenError(f"problems of rule '{rule}', n: given {n}, allowed is 1 or more.")
    made = [problem(rule, index, split, seed, size=size) for index in range(n)]
    return Problems(
        rule=rule,
        pictures=np.stack([one.pictures for one in made]),
        odd=np.array([one.odd for one in made], dtype=np.int64),
        broken=tuple(one.broken for one in made),
    )


def _assigned(rule: Rule, index: int, split: Split, seed: int) -> tuple[int, str]:
    """Return the place of the odd one and the part it breaks.

    Each run of four problems has each place once, and each part equally often; the next run has the other part in each
    place.
    """
    run, at = divmod(index, PICTURES)
    place = int(seeded(seed, "places", rule.name, split, run).permutation(PICTURES)[at])
    if not rule.is_composed:
        return place, rule.parts[0]
    first = seeded(seed, "parts", rule.name, split, run // 2).permuted(np.array([0, 0, 1, 1]))
    return place, rule.parts[int(first[place] if run % 2 == 0 else 1 - first[place])]


def _check(split: str, size: int) -> None:
    if split not in SPLITS:
        raise unknown("problems, split", split, SPLITS)
    if size < 16:
        raise LimenError(f"problems, size: given {size}, allowed is 16 or more.")
