"""Simulated blocks of problems about one rule each: the data of the odd-one-out protocol for a power analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import special


def blocks(people: int, each: int, sessions: int, stream: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the kind (0 or 1) and the rule within its kind of each person's blocks, (people, sessions) twice.

    Both kinds as often as can be, the kind with one block more taking turns over people; people take turns through the
    rules of a kind, as lists do, so that every rule is met equally often or nearly so. Nobody meets a rule twice.
    """
    kinds, rules = np.zeros((people, sessions), dtype=int), np.zeros((people, sessions), dtype=int)
    met = [0, 0]
    for person in range(people):
        counts = [sessions // 2, sessions // 2]
        counts[person % 2] += sessions % 2
        counts = [min(count, each) for count in counts]
        chosen = [(kind, (met[kind] + k) % each) for kind, count in enumerate(counts) for k in range(count)]
        met = [before + count for before, count in zip(met, counts, strict=True)]
        order = stream.permutation(len(chosen))
        kinds[person, : len(chosen)], rules[person, : len(chosen)] = np.array(chosen)[order].T
    return kinds[:, : min(sessions, 2 * each)], rules[:, : min(sessions, 2 * each)]


def answers_of_blocks(
    levels: Sequence[str],
    logits: Sequence[float],
    *,
    people: int,
    each: int,
    sessions: int,
    problems: int,
    sds: Mapping[str, float],
    learning: float,
    stream: np.random.Generator,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw who meets which problem of which rule, and the log-odds of each answer.

    Parameters
    ----------
    levels, logits : the two kinds of rules, and the log-odds of a right answer in each
    each : rules of a kind
    sds : of 'participant', 'rule' and 'item' (a problem of a rule, the same to all who meet it)
    learning : log-odds gained over a block

    Returns
    -------
    DataFrame, array (n,)
        `participant_id, item_id, condition, composition, rule, problem`, and the log-odds.
    """
    kinds, rules = blocks(people, each, sessions, stream)
    person = np.repeat(np.arange(people), kinds.shape[1] * problems)
    level, rule = np.repeat(kinds.ravel(), problems), np.repeat(rules.ravel() + kinds.ravel() * each, problems)
    problem = np.tile(np.arange(problems), kinds.size)
    item = rule * problems + problem
    eta = np.asarray(logits, dtype=float)[level] + learning * (problem / max(problems - 1, 1) - 0.5)
    for name, code, count in (
        ("participant", person, people),
        ("rule", rule, 2 * each),
        ("item", item, 2 * each * problems),
    ):
        eta = eta + stream.normal(0, sds.get(name, 0.0), count)[code]
    kind = np.asarray(levels)[level]
    frame = pd.DataFrame({
        "participant_id": np.char.mod("p%d", person), "item_id": np.char.mod("i%d", item), "condition": "all",
        "composition": kind, "rule": np.char.mod("r%d", rule), "problem": problem + 1,
    })  # fmt: skip
    return frame, eta


def right(eta: np.ndarray, chance: float, lapse: float, stream: np.random.Generator) -> np.ndarray:
    """Draw right answers (1) and wrong ones (0)."""
    p = (1 - lapse) * special.expit(eta) + lapse * chance
    return (stream.random(len(p)) < p).astype(float)
