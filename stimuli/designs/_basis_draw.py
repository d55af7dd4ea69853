"""Which neurons, directions and spare features a study of two bases is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.registry import LimenError

from ..balance import seeded
from ..records import StudyFile
from ._basis_pairs import DICTIONARY, NEURON, Kind, Pair, Place, Question, Rule, comparable, match, question
from ._references import Codes, in_turns, strata

Bases = Mapping[str, Codes]
"""Codes of each basis at one layer."""


@dataclass(frozen=True)
class Chosen:
    """The pairs of one layer, the stratum of each (None where there are none), and the sizes of the pool."""

    pairs: list[Pair]
    strata: list[int | None]
    pool: Mapping[str, Any]


@dataclass(frozen=True)
class Extra:
    """A feature of no pair, for practice or a catch trial."""

    basis: str
    layer: str
    question: Question


def choose(
    study: StudyFile,
    codes: Bases,
    layer: str,
    classes: np.ndarray,
    kinds: tuple[Kind, ...],
    rule: Rule,
    wanted: tuple[int, int],
) -> Chosen:
    """Draw the pairs of a layer.

    Parameters
    ----------
    classes
        Class of each picture of the pool.
    wanted
        Number of pairs, and of strata.

    Raises
    ------
    LimenError
        If fewer pairs can be made.
    """
    count, groups = wanted
    alive = {basis: one.alive(rule.maximum + rule.draws, rule.minimum + rule.draws) for basis, one in codes.items()}
    scaled = comparable(codes[DICTIONARY], rule.scale)
    taken: set[int] = set()

    def made(unit: int) -> Pair | None:
        direction, votes = match(codes[NEURON], scaled, unit, rule.maximum, rule.seed)
        if direction in taken or direction not in alive[DICTIONARY]:
            return None
        atoms = {NEURON: unit, DICTIONARY: direction}
        asked: dict[tuple[str, Kind], Question] = {}
        for basis, atom in atoms.items():
            for kind in kinds:
                one = question(codes[basis], atom, kind, rule, classes[codes[basis].index])
                if one is None:
                    return None
                asked[basis, kind] = one
        taken.add(direction)
        return Pair(layer, unit, direction, votes, asked)

    parts = strata(codes[NEURON], alive[NEURON], groups, rule.seed)
    found = in_turns(parts, count, made)
    pool = {
        "layer": layer,
        "neurons": codes[NEURON].size,
        "neurons_alive": len(alive[NEURON]),
        "directions": codes[DICTIONARY].size,
        "directions_alive": len(alive[DICTIONARY]),
        "strata": [len(part) for part in parts],
        "chosen": len(found),
    }
    if len(found) < count:
        raise LimenError(
            f"study '{study.study}', layer '{layer}', key 'design.pairs': given {count}, allowed is at most {len(found)}: so "
            f"many of {pool['neurons_alive']} neurons (not dead, of {pool['neurons']}) have a direction of their own among "
            f"{pool['directions_alive']} and enough pictures between the percentiles of the queries; lower pairs, query_pairs, "
            "maximum or minimum, widen high and low, or set match to rank."
        )
    numbers = [stratum if len(parts) > 1 else None for stratum, _ in found]
    return Chosen([pair for _, pair in found], numbers, pool)


def extras(
    study: StudyFile, found: Mapping[str, Bases], chosen: Mapping[str, Chosen], rule: Rule, count: int
) -> list[Extra]:
    """Draw features of no pair, bases and layers in turn, each asked about by its most extreme pictures.

    Raises
    ------
    LimenError
        If too few are left.
    """
    plain = replace(rule, high=(0.0, 100.0), low=(0.0, 100.0), draws=1)
    groups: list[list[Extra]] = []
    for layer, codes in found.items():
        used = {NEURON: {p.unit for p in chosen[layer].pairs}, DICTIONARY: {p.direction for p in chosen[layer].pairs}}
        for basis, one in codes.items():
            rest = [int(a) for a in one.alive(rule.maximum + 1, rule.minimum + 1) if int(a) not in used[basis]]
            order = seeded(rule.seed, "spare", one.role).permutation(rest)
            groups.append([Extra(basis, layer, _extreme(one, int(atom), plain)) for atom in order[:count]])
    queue = [group[i] for i in range(count) for group in groups if i < len(group)]
    if len(queue) < count:
        raise LimenError(
            f"study '{study.study}', key 'design.catch': practice and catch trials need {count} features of no pair, but only "
            f"{len(queue)} are left; lower practice, catch or pairs."
        )
    return queue[:count]


def _extreme(codes: Codes, atom: int, rule: Rule) -> Question:
    order = codes.order(rule.seed, atom)
    last = len(order) - 1
    ranked = [Place(int(r), float(codes.peak[r, atom]), 100.0 * (last - i) / last) for i, r in enumerate(order)]
    low = ranked[len(ranked) - rule.minimum - 1]
    return Question(
        atom,
        "free",
        tuple(ranked[: rule.maximum]),
        tuple(ranked[len(ranked) - rule.minimum :]),
        ((ranked[rule.maximum], low),),
        len(ranked),
    )
