"""Choice protocols on the analysis level: what people were given is inside the interval, and nothing given is not found.

Each card's own model is fitted to many simulated studies with the protocol's structure: who sees which items, and which items belong
to one condition alone. People and items differ (standard deviations .5 and .4 logits).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from analysis.models.crossed import crossed
from stimuli.protocol import DESIGNS, DesignCard

pytestmark = pytest.mark.long

PEOPLE, NULLS, GIVEN = 48, 20, 8
SPREAD = {"person": 0.5, "item": 0.4}


def allowed(studies: int) -> int:
    """Return how many rejections at .05 among some studies no more than 3 in 1,000 such runs exceed."""
    return int(stats.binom.isf(0.003, studies, 0.05))


@dataclass(frozen=True)
class Case:
    """A protocol's structure: conditions, items of a person, and whether the conditions have items of their own."""

    name: str
    conditions: tuple[str, str]
    items: int
    own_items: bool
    machine: bool = False
    base: float = 0.0


CASES = (
    Case("intruder", ("neurons", "nmf"), 12, own_items=True, base=-0.4),
    Case("subcluster", ("neurons", "nmf"), 12, own_items=True, base=0.2),
    Case("distinction", ("saliency", "grad_cam"), 10, own_items=False, machine=True, base=-0.6),
)


def study(case: Case, effect: float, seed: int) -> tuple[pd.DataFrame, float]:
    """Simulate one study; return its answers, and the difference in expected accuracy that was given."""
    draw, rows = np.random.default_rng([seed, CASES.index(case)]), []
    ease: dict[str, float] = {}
    for person in range(PEOPLE):
        which = person % 2
        condition, ability = case.conditions[which], draw.normal(0, SPREAD["person"])
        for number in range(case.items):
            item = f"{condition} {number}" if case.own_items else f"{number}"
            facts: dict[str, Any] = {
                "participant_id": f"p{person:02d}",
                "condition": condition,
                "reference": condition,
                "item_id": item,
            }
            facts |= {"machine": ("right", "wrong")[number % 2]} if case.machine else {}
            ease.setdefault(item, draw.normal(0, SPREAD["item"]))
            logit = case.base + effect * which + ability + ease[item]
            rows.append({**facts, "correct": float(draw.random() < special.expit(logit)), "session": 1})
    spread = np.hypot(*SPREAD.values()) * stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    given = special.expit(case.base + effect + spread).mean() - special.expit(case.base + spread).mean()
    return pd.DataFrame(rows), float(given)


def estimate(case: Case, data: pd.DataFrame) -> Any:
    """Fit the card's own model and return the difference between the two conditions."""
    card = cast(DesignCard, DESIGNS.card(case.name))
    factor = "reference" if "reference" in card.formula else "condition"
    references: Mapping[str, str] = {factor: case.conditions[0]}
    found = crossed(data, formula=card.formula, chance=card.chance, references=references)
    return found.get(f"accuracy difference of {factor}", f"{case.conditions[1]} - {case.conditions[0]}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_without_an_effect_it_is_not_found_too_often(case: Case) -> None:
    found = [estimate(case, study(case, 0.0, seed)[0]) for seed in range(NULLS)]
    assert sum(one.p < 0.05 for one in found) <= allowed(NULLS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_given_effect_is_inside_nearly_every_interval(case: Case) -> None:
    held = []
    for seed in range(GIVEN):
        data, given = study(case, 0.9, 100 + seed)
        one = estimate(case, data)
        held.append(one.low <= given <= one.high)
    assert GIVEN - sum(held) <= allowed(GIVEN)
