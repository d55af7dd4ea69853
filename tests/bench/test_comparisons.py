"""Cost beside score, and which methods can be told apart: planted costs, planted ranks, and a front by its definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.comparisons import _front, cost_against_score, critical_differences, rank, rank_rows
from bench.picture import render


def samples(n: int = 40) -> dict[str, pd.Series]:
    """Two methods that are alike, one that is better on every image, and a control."""
    draws = np.random.default_rng(0)
    base = draws.normal(0, 1, n)
    values = {
        "best": base + 1.0,
        "one": base + draws.normal(0, 0.2, n),
        "other": base + draws.normal(0, 0.2, n),
        "random": base - 1.0,
    }
    return {name: pd.Series(found, index=[f"i{place}" for place in range(n)]) for name, found in values.items()}


def scores(**further: object) -> pd.DataFrame:
    rows = []
    for place, method in enumerate(("random", "cheap", "middle", "dear")):
        for metric, direction in (("deletion", "down"), ("insertion", "up")):
            value = 0.8 - 0.1 * place if direction == "down" else 0.2 + 0.1 * place
            rows.append(
                {
                    "subject": "attribution", "network": "n", "layer": "", "method": method, "metric": metric,
                    "direction": direction, "value": value, "low": value - 0.02, "high": value + 0.02, "null": 0.8,
                    "null_low": 0.78, "null_high": 0.82, "n": 40, "seconds": 0.1 * 10**place,
                    "forwards": 0 if method == "random" else 96 * 10**place, "backwards": 0, **further,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def said(figure: object) -> str:
    return render(figure, "x", "t", "a").svg  # type: ignore[arg-type]


@pytest.mark.parametrize("up", [True, False])
def test_the_front_is_of_those_that_nothing_cheaper_or_as_cheap_beats(up):
    draws = np.random.default_rng(1)
    cost, value = draws.integers(0, 8, 60).astype(float), draws.integers(0, 8, 60).astype(float)
    sign = 1 if up else -1
    front = _front(cost, value, up=up)
    beaten = [
        any(
            (cost[j] <= cost[i] and sign * value[j] > sign * value[i]) or (cost[j] < cost[i] and value[j] == value[i])
            for j in range(60)
        )
        for i in range(60)
    ]
    expected = {(cost[i], value[i]) for i in range(60) if not beaten[i]}
    assert {(cost[i], value[i]) for i in front} == expected
    assert len(front) == len(expected)


def test_a_method_without_a_value_is_on_no_front():
    assert _front(np.array([1.0, 2.0]), np.array([np.nan, 0.5]), up=True) == [1]


def test_cost_is_passes_where_they_were_counted_and_seconds_where_not():
    assert "network passes" in said(cost_against_score(scores()))
    assert "seconds" in said(cost_against_score(scores(forwards=0)))


def test_every_panel_says_its_direction_and_n():
    text = said(cost_against_score(scores()))
    assert "lower is better, n = 40" in text
    assert "higher is better, n = 40" in text


def test_ranks_find_the_better_method_and_join_those_that_are_alike():
    found = rank("insertion", "up", samples())
    assert found is not None
    assert found.found.ranks.index[0] == "best"
    assert found.found.ranks["best"] == 1.0
    assert found.found.cliques in ((("one", "other"),), (("other", "one"),))
    reference = stats.friedmanchisquare(*samples().values())
    assert found.found.chi2 == pytest.approx(reference.statistic)
    assert found.found.chi2_p == pytest.approx(reference.pvalue)


def test_lower_is_better_turns_the_ranks_round():
    down = rank("deletion", "down", samples())
    assert down is not None
    assert down.found.ranks.index[0] == "random"


def test_images_without_a_value_of_some_method_are_left_out():
    given = samples()
    given["one"].iloc[:4] = np.nan
    given["best"] = given["best"].iloc[:-3]
    found = rank("insertion", "up", given)
    assert found is not None
    assert found.found.datasets == 33


@pytest.mark.parametrize(
    ("direction", "given"),
    [
        ("none", samples()),
        ("up", {name: samples()[name] for name in ("best", "one")}),
        ("up", {name: values.iloc[:5] for name, values in samples().items()}),
    ],
)
def test_too_little_to_rank_gives_no_ranking(direction, given):
    assert rank("m", direction, given) is None


def test_the_diagram_names_every_method_with_its_rank_and_the_test():
    found = rank("insertion", "up", samples())
    assert found is not None
    text = said(critical_differences([found]))
    for name, value in found.found.ranks.items():
        assert f"{name}  {value:.1f}" in text or f"{value:.1f}  {name}" in text
    assert "n = 40 images" in text
    assert "p &lt; .001" in text or "p < .001" in text


def test_ranks_and_pairs_go_out_as_tables():
    found = rank("insertion", "up", samples())
    assert found is not None
    ranks, pairs = rank_rows([found])
    assert list(ranks["method"]) == list(found.found.ranks.index)
    assert len(pairs) == 6
    alike = pairs[pairs["p_holm"] >= 0.05]
    assert set(map(frozenset, alike[["first", "second"]].to_numpy().tolist())) == {frozenset({"one", "other"})}
