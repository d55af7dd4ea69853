"""The preference analysis: stated strengths recovered, the nominal rate at none, and what cannot be estimated."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from analysis.models.preference import preference
from bench.registry import LimenError

NAMES = ("grad_cam", "random", "saliency")


def _simulate(
    strengths: tuple[float, float, float], *, order: float = 0.0, people: int = 30, seed: int = 0
) -> pd.DataFrame:
    """Draw choices of people whose own strengths scatter around the stated ones with an SD of .4."""
    draw = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        own = np.asarray(strengths) + draw.normal(0, 0.4, 3)
        for turn in range(6):
            for pair in combinations(range(3), 2):
                left, right = pair if turn % 2 else pair[::-1]
                wins = draw.random() < 1 / (1 + np.exp(-(own[left] - own[right] + order)))
                rows.append((f"p{person}", NAMES[left], NAMES[right], 0 if wins else 1))
    return pd.DataFrame(rows, columns=["participant_id", "left", "right", "option_position"])


def test_stated_strengths_and_order_are_recovered() -> None:
    found = preference(_simulate((1.2, 0.0, 0.5), order=0.4, people=200), reference="random")
    assert (
        found.get("strength difference", "grad_cam - random").low
        <= 1.2
        <= found.get("strength difference", "grad_cam - random").high
    )
    assert (
        found.get("strength difference", "saliency - random").low
        <= 0.5
        <= found.get("strength difference", "saliency - random").high
    )
    order = found.get("order", "left")
    assert order.low <= 0.4 <= order.high
    best = found.get("preference", "grad_cam")
    assert best.low > 0.5
    assert best.n == 200


@pytest.mark.long
def test_equal_strengths_are_rejected_at_the_nominal_rate() -> None:
    n = 300
    results = [preference(_simulate((0.0, 0.0, 0.0), seed=seed)) for seed in range(n)]
    for quantity, label in (("term", "all strengths are equal"), ("preference", "grad_cam"), ("order", "left")):
        rate = np.mean([result.get(quantity, label).p < 0.05 for result in results])
        assert abs(rate - 0.05) < 3 * np.sqrt(0.05 * 0.95 / n), (quantity, rate)


def test_an_alternative_that_never_loses_has_no_strength_but_a_share() -> None:
    data = _simulate((0.0, 0.0, 0.0), people=4)
    won = data.assign(
        option_position=np.where(
            data["right"] == "grad_cam", 1, np.where(data["left"] == "grad_cam", 0, data["option_position"])
        )
    )
    found = preference(won)
    assert found.flags == ("separation",)
    assert found.get("share", "grad_cam").value == 1.0
    assert not found.of("preference")


def test_a_missing_column_is_told() -> None:
    with pytest.raises(LimenError, match="'left' is missing"):
        preference(_simulate((0.0, 0.0, 0.0), people=2).drop(columns="left"))
