"""Pairs of a unit and the direction that matches it, and the pictures of their questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..balance import round_half_up, seeded
from ._references import Codes, Gallery

Kind = Literal["free", "matched", "mixed"]
Scale = Literal["activation", "share", "rank"]
KINDS: tuple[Kind, ...] = ("free", "matched", "mixed")
NEURON, DICTIONARY = "neuron", "dictionary"


@dataclass(frozen=True)
class Place:
    """A picture among all those ranked for one atom: its row, its activation, and its percentile (100 = the highest)."""

    row: int
    activation: float
    percentile: float


@dataclass(frozen=True)
class Question:
    """What is shown of one atom with one kind of references; a query pair for each draw."""

    atom: int
    kind: Kind
    maximum: tuple[Place, ...]
    minimum: tuple[Place, ...]
    queries: tuple[tuple[Place, Place], ...]
    """(high, low) of each draw."""
    ranked: int
    """Pictures among which the percentiles are taken."""
    label: str = ""
    """Class that all pictures share, where they are matched."""
    other: int | None = None
    """Atom that gave the foreign references, where they are mixed."""


@dataclass(frozen=True)
class Rule:
    """How references and queries are drawn."""

    maximum: int
    minimum: int
    high: tuple[float, float]
    low: tuple[float, float]
    draws: int
    mixed_share: float
    scale: Scale
    seed: int


def question(codes: Codes, atom: int, kind: Kind, rule: Rule, labels: np.ndarray) -> Question | None:
    """Draw the pictures of an atom's question, None if the pictures do not allow it.

    Parameters
    ----------
    labels
        The class of each row of `codes.peak`.
    """
    order, label = codes.order(rule.seed, atom), ""
    if kind == "matched":
        counts = Counter(labels[order[: rule.maximum]])
        label = str(min(counts, key=lambda name: (-counts[name], str(name))))
        order = codes.order(rule.seed, atom, np.flatnonzero(labels == label))
    ranked = _ranked(codes, atom, order)
    inner = ranked[rule.maximum : len(ranked) - rule.minimum]
    highs = [one for one in inner if rule.high[0] <= one.percentile <= rule.high[1]]
    lows = [one for one in inner if rule.low[0] <= one.percentile <= rule.low[1]]
    if min(len(highs), len(lows)) < rule.draws or highs[-1].activation <= max(lows[0].activation, 0):
        return None
    key = (codes.role, atom, kind)
    pairs = zip(
        _drawn(highs, rule.draws, seeded(rule.seed, "high", *key)),
        _drawn(lows, rule.draws, seeded(rule.seed, "low", *key)),
        strict=True,
    )
    maximum, minimum, other = ranked[: rule.maximum], ranked[len(ranked) - rule.minimum :], None
    if kind == "mixed":
        kept = {one.row for one in (*maximum, *minimum, *highs, *lows)}
        other = _other(codes, atom, rule.seed)
        if other is None:
            return None
        foreign = [one for one in _ranked(codes, atom, codes.order(rule.seed, other)) if one.row not in kept]
        maximum, minimum = _mix(maximum, foreign, rule), _mix(minimum, foreign[::-1], rule)
    return Question(
        atom, kind, tuple(maximum), tuple(minimum), tuple(pairs), len(ranked), label=label, other=other
    )  # fmt: skip


def _ranked(codes: Codes, atom: int, order: np.ndarray) -> list[Place]:
    last = max(len(order) - 1, 1)
    return [
        Place(int(row), float(codes.peak[row, atom]), 100.0 * (len(order) - 1 - rank) / last)
        for rank, row in enumerate(order)
    ]


def _drawn(found: Sequence[Place], count: int, draws: np.random.Generator) -> list[Place]:
    return [found[i] for i in draws.permutation(len(found))[:count]]


def _other(codes: Codes, atom: int, seed: int) -> int | None:
    """Draw another atom that is not dead."""
    others = [int(one) for one in codes.alive(1, 1) if one != atom]
    return others[int(seeded(seed, "other", codes.role, atom).integers(len(others)))] if others else None


def _mix(own: Sequence[Place], foreign: Sequence[Place], rule: Rule) -> list[Place]:
    """Replace the last ones of a grid by foreign pictures."""
    count = round_half_up(rule.mixed_share * len(own))
    return [*own[: len(own) - count], *foreign[:count]]


@dataclass(frozen=True)
class Pair:
    """A unit, the direction that matches it, and the questions about both: (basis, kind) -> question."""

    layer: str
    unit: int
    direction: int
    votes: int
    """On how many of the unit's top pictures the direction was the most activated one."""
    questions: Mapping[tuple[str, Kind], Question]


def comparable(codes: Codes, scale: Scale) -> np.ndarray:
    """Put the activations of a basis on a scale on which its atoms can be compared, (n, k)."""
    if scale == "rank":
        return np.asarray(pd.DataFrame(codes.peak).rank(axis=0))
    return codes.peak / np.maximum(codes.peak.max(axis=0), 1e-12) if scale == "share" else codes.peak


def match(units: Codes, scaled: np.ndarray, unit: int, top: int, seed: int) -> tuple[int, int]:
    """Return the direction that is most often the most activated one on a unit's `top` pictures, and how often.

    Of directions that are it equally often, the one with the largest mean on these pictures is taken.

    Parameters
    ----------
    scaled
        The directions' activations, as given by `comparable`.
    """
    shown = scaled[units.order(seed, unit)[:top]]
    votes = np.bincount(shown.argmax(axis=1), minlength=scaled.shape[1])
    best = np.flatnonzero(votes == votes.max())
    chosen = int(best[np.argmax(shown.mean(axis=0)[best])])
    return chosen, int(votes[chosen])


def facts(pair: Pair, codes: Mapping[str, Codes], gallery: Gallery, stratum: int | None) -> dict[str, Any]:
    """Return what is known of a pair, for the table of items: atoms, complexity, and every picture's activation."""
    atoms = {NEURON: pair.unit, DICTIONARY: pair.direction}
    return {
        "layer": pair.layer,
        "unit": pair.unit,
        "direction": pair.direction,
        "votes": pair.votes,
        "stratum": stratum,
        "complexity": {basis: codes[basis].known(atom) for basis, atom in atoms.items()},
        "peak": {basis: float(codes[basis].peak[:, atom].max()) for basis, atom in atoms.items()},
        "questions": {
            basis: {kind: told(pair.questions[basis, kind], codes[basis], gallery) for b, kind in pair.questions if b == basis}
            for basis in atoms
        },
    }  # fmt: skip


def told(asked: Question, codes: Codes, gallery: Gallery) -> dict[str, Any]:
    """Return what is shown of a question: pictures by their SHA-256, with activation and percentile."""

    def place(one: Place) -> dict[str, Any]:
        return {
            "picture": gallery.natural(int(codes.index[one.row])),
            "activation": one.activation,
            "percentile": one.percentile,
        }

    return {
        "atom": asked.atom,
        "ranked": asked.ranked,
        "label": asked.label,
        "other": asked.other,
        "max": [place(one) for one in asked.maximum],
        "min": [place(one) for one in asked.minimum],
        "queries": [{"high": place(high), "low": place(low)} for high, low in asked.queries],
    }
