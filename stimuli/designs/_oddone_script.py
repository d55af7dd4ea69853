"""Which rule a list shows in which block, and in which order and places its problems stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..balance import rotations, seeded
from ..rules.catalogue import COMPOSED, ELEMENTARY, RULES

PLACES = 4


def choose_rules(given: Sequence[str] | None, composed: int, seed: int) -> list[str]:
    """Return the rules of a study around a ring in which elementary and composed ones alternate as evenly as can be."""
    draws = seeded(seed, "rules")
    names = [*ELEMENTARY, *draws.permutation(COMPOSED)[:composed]] if given is None else list(given)
    kinds = [[str(name) for name in names if RULES[str(name)].is_composed == kind] for kind in (False, True)]
    mixed = [[kind[int(i)] for i in draws.permutation(len(kind))] for kind in kinds]
    placed = [((at + 0.5) / len(kind), side, name) for side, kind in enumerate(mixed) for at, name in enumerate(kind)]
    return [name for _, _, name in sorted(placed)]


def rule_order(ring: Sequence[str], number: int, sessions: int) -> list[str]:
    """Return the rules of list `number` (from 0), one a block.

    The lists are the rows of a Latin rectangle: over them each rule stands once in each block. A list zigzags around the
    ring (0, 1, -1, 2, -2 ...), so that no rule follows the same other one in two places, as far as their number allows.
    """
    steps = [(block + 1) // 2 * (1 if block % 2 else -1) for block in range(sessions)]
    return [ring[(number + step) % len(ring)] for step in steps]


@dataclass(frozen=True)
class Turn:
    """How a rule's problems are shown in one block: their order, and how far their pictures are turned around."""

    order: tuple[int, ...]
    places: int


def turns(rule: str, count: int, sessions: int, seed: int) -> list[Turn]:
    """Return the turn of a rule's problems for each block it can stand in.

    One seeded order is rotated, so that a problem stands early in one list and late in another; the four pictures are
    rotated by one place from block to block, so that a problem's odd one stands in each place.
    """
    base = [int(i) for i in seeded(seed, "problem order", rule).permutation(count)]
    shifts = rotations(count, sessions)
    return [Turn((*base[shift:], *base[:shift]), block % PLACES) for block, shift in enumerate(shifts)]
