"""Counterbalancing: rotated lists, mixed blocks and sides, all from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np

from bench.registry import LimenError


def seeded(seed: int, *key: object) -> np.random.Generator:
    """Return a random generator that depends on the seed and the key only, not on what was drawn before."""
    text = "\x1f".join(str(part) for part in (seed, *key))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def round_half_up(value: float) -> int:
    """Round to the nearest integer, halves upwards (Python's own `round` goes to the even one)."""
    return int(np.floor(value + 0.5 + 1e-9))


def rotations(n: int, lists: int) -> list[int]:
    """Choose how far each list turns a ring of `n` roles, as evenly as whole steps allow."""
    return [round_half_up(index * n / lists) % n if n else 0 for index in range(lists)]


def spread(total: int, parts: int) -> list[int]:
    """Split a count into parts that differ by one at most; the larger ones are spaced out."""
    edges = [round_half_up(total * index / parts) for index in range(parts + 1)]
    return [high - low for low, high in pairwise(edges)]


def compose(sizes: Sequence[int], special: int) -> list[np.ndarray]:
    """Say how many pictures of each kind stand in each block.

    A kind is (special or not) x (class 0 or 1), for example model-wrong x predicted class. `special` of all pictures
    are spread over the blocks evenly; within a block the two classes differ by one at most; over the blocks the two
    classes differ by one at most among the special and among the other pictures.

    Parameters
    ----------
    sizes
        Pictures in each block.
    special
        Pictures of the special kind in all blocks together.

    Returns
    -------
    list of int arrays (2, 2)
        Entry [s, c] counts pictures with special = s and class = c; one array a block.

    Raises
    ------
    LimenError
        If there are more special pictures than pictures.
    """
    total = sum(sizes)
    if not 0 <= special <= total:
        raise LimenError(f"balance: {special} special pictures asked of {total}; allowed is 0 to {total}.")
    edges = [round_half_up(special * seen / total) if total else 0 for seen in np.cumsum([0, *sizes])]
    lead = [0, 0]
    blocks = []
    for size, (low, high) in zip(sizes, pairwise(edges), strict=True):
        counts = (size - (high - low), high - low)
        extra = _extras(lead, counts)
        blocks.append(np.array([[(counts[s] + extra[s]) // 2, (counts[s] - extra[s]) // 2] for s in (0, 1)]))
        lead = [lead[s] + extra[s] for s in (0, 1)]
    return blocks


def _extras(lead: list[int], counts: tuple[int, int]) -> list[int]:
    """Give an odd count's last picture to class 0 (+1) or 1 (-1) so that no lead of a class grows beyond one."""
    odd = [count % 2 for count in counts]
    if odd == [1, 1]:
        sign = -lead[0] if lead[0] else (lead[1] or 1)
        return [sign, -sign]
    signs = [0, 0]
    for s in (0, 1):
        if odd[s]:
            signs[s] = -lead[s] if lead[s] else (-lead[1 - s] or 1)
    return signs


def sides(classes: Sequence[Hashable], generator: np.random.Generator) -> list[bool]:
    """Choose for each trial of a block whether the expected answer stands on the left.

    Left and right differ by one at most in the block, and within each class by one at most, so that neither the side
    nor the pairing of class and side tells the answer.

    Parameters
    ----------
    classes
        The expected answer of each trial.
    generator
        A seeded random generator.

    Returns
    -------
    list of bool
        True where the expected answer stands on the left.
    """
    left = [False] * len(classes)
    names = sorted(set(classes), key=str)
    lead = 0
    for name in (names[i] for i in generator.permutation(len(names))):
        members = [i for i, value in enumerate(classes) if value == name]
        members = [members[i] for i in generator.permutation(len(members))]
        half = len(members) // 2
        if len(members) % 2 and (lead < 0 or (lead == 0 and generator.random() < 0.5)):
            half += 1
        for i in members[:half]:
            left[i] = True
        lead += 2 * half - len(members)
    return left
