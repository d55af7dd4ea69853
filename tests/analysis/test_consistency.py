"""Reliability and error consistency: pairs by brute force, planted agreement, networks beside people, poor tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special

from analysis.measures.agreement import error_consistency
from analysis.models.consistency import consistency, kappa_matrix
from bench.registry import LimenError


def simulate(
    seed: int = 0, *, people: int = 16, items: int = 40, item_sd: float = 1.5, skill_sd: float = 1.0
) -> pd.DataFrame:
    draws = np.random.default_rng(seed)
    ease, own = draws.normal(0, item_sd, items), draws.normal(0, skill_sd, people)
    rows = [
        (f"p{p}", f"i{i}", ("baseline", "maps")[p % 2], own[p] + ease[i]) for p in range(people) for i in range(items)
    ]
    table = pd.DataFrame(rows, columns=["participant_id", "item_id", "condition", "logit"])
    return table.assign(correct=(draws.random(len(table)) < special.expit(table.pop("logit"))) * 1.0)


def networks(data: pd.DataFrame, *, alike: bool) -> pd.DataFrame:
    """Two networks: right where most people are right, or at random."""
    share = data.groupby("item_id")["correct"].mean()
    draws = np.random.default_rng(5)
    rows = [
        (name, item, "network", float(value > share.median()) if alike else float(draws.random() < 0.5))
        for name in ("resnet", "vit")
        for item, value in share.items()
    ]
    return pd.DataFrame(rows, columns=["participant_id", "item_id", "condition", "correct"])


def test_every_pair_is_the_kappa_of_its_shared_items() -> None:
    draws = np.random.default_rng(0)
    table = draws.integers(0, 2, (5, 30)).astype(float)
    table[draws.random(table.shape) < 0.2] = np.nan
    found = kappa_matrix(table, table)
    for a in range(5):
        for b in range(a):
            both = np.isfinite(table[a]) & np.isfinite(table[b])
            assert found[a, b] == pytest.approx(error_consistency(table[a][both], table[b][both], resamples=2).value)


def test_items_that_differ_make_people_consistent_and_items_that_do_not_leave_chance() -> None:
    hard = consistency(simulate(people=40, item_sd=2.0), halves=100).get("error consistency", "people, maps")
    even = consistency(simulate(1, item_sd=0.0), halves=100).get("error consistency", "people, maps")
    assert hard.low > 0.0
    assert hard.value > 0.15
    assert abs(even.value) < 0.06
    assert hard.extra == {"null": 0.0, "pairs": 190}


def test_people_of_different_skill_are_measured_reliably_and_equal_ones_are_not() -> None:
    skilled = consistency(simulate(2), halves=100).get("split-half reliability", "people, maps")
    equal = consistency(simulate(3, skill_sd=0.0), halves=100).get("split-half reliability", "people, maps")
    assert skilled.value > 0.6
    assert abs(skilled.extra["null"]) < 0.3
    assert equal.value < skilled.value - 0.3


def test_networks_stand_beside_people_whichever_way_they_come() -> None:
    data = simulate(4)
    alike = consistency(data, networks=networks(data, alike=True), halves=100)
    random = consistency(data, networks=networks(data, alike=False), halves=100)
    label = "people and networks, maps"
    assert alike.get("error consistency", label).low > 0.1
    chance = random.get("error consistency", label)
    assert chance.low < 0 < chance.high
    assert alike.get("error consistency", "networks").value == pytest.approx(1.0)
    mixed = pd.concat([data.assign(source="live"), networks(data, alike=True).assign(source="network")])
    assert consistency(mixed, halves=100).get("error consistency", label) == alike.get("error consistency", label)
    assert alike.facts["people"] == 16


def test_intraclass_correlations_need_every_answer() -> None:
    data = simulate(6)
    whole = consistency(data, halves=20).get("intraclass correlation", "ICC(2,k) of items, maps")
    assert whole.low < whole.value < whole.high
    assert whole.value > 0.5
    assert consistency(data.drop(index=data.index[:20]), halves=20).of("intraclass correlation") != ()
    assert all(
        "baseline" not in item.label for item in consistency(data.drop(index=0), halves=20).of("intraclass correlation")
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[t["participant_id"] == "p1"],
        lambda t: t.assign(correct=1.0),
        lambda t: t[t["item_id"] == "i0"],
        lambda t: t.assign(item_id=np.arange(len(t)).astype(str)),
        lambda t: t.assign(correct=np.nan),
    ],
)
def test_poor_tables_give_no_interval_and_no_crash(change) -> None:
    result = consistency(change(simulate(7, people=6)), halves=20)
    assert result.name == "consistency"
    assert result.of("error consistency") == ()


def test_a_missing_column_is_one_sentence() -> None:
    with pytest.raises(LimenError, match="column 'item_id' is missing"):
        consistency(simulate(8, people=4).drop(columns="item_id"))
