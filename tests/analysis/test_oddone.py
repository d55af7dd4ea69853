"""The odd-one-out analysis: planted effects are found, none are invented, and people and networks stay apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.measures.cvr import sample_efficiency
from analysis.models.oddone import oddone
from bench.registry import LimenError

RULES = [("elementary", f"e{n}") for n in range(9)] + [("composed", f"c{n}") for n in range(9)]


def answers(
    seed: int,
    *,
    gap: float = 0.0,
    slope: float = 0.0,
    people: int = 36,
    problems: int = 20,
    rule_sd: float = 0.3,
    guess: bool = False,
) -> pd.DataFrame:
    """Simulate people with six rules each, rotated as the protocol does; effects in logits."""
    rng = np.random.default_rng(seed)
    effect = {rule: rng.normal(0, rule_sd) + gap * (0.5 if kind == "elementary" else -0.5) for kind, rule in RULES}
    ease = {(rule, n): rng.normal(0, 0.3) for _, rule in RULES for n in range(problems)}
    ring = [pair for both in zip(RULES[:9], RULES[9:], strict=True) for pair in both]
    rows = []
    for person in range(people):
        skill = rng.normal(0, 0.5)
        for block in range(6):
            kind, rule = ring[(person + block) % 18]
            shift = round(block * problems / 6)
            item = (np.arange(problems) + shift) % problems
            number = np.arange(1, problems + 1)
            logit = 0.7 + skill + effect[rule] + slope * (number - (problems + 1) / 2) + [ease[rule, n] for n in item]
            chance = np.full(problems, 0.25) if guess else 1 / (1 + np.exp(-logit))
            right = rng.random(problems) < chance
            rows += [
                {
                    "participant_id": f"p{person}",
                    "item_id": f"{rule}-{i}",
                    "rule": rule,
                    "composition": kind,
                    "problem": int(n),
                    "correct": float(ok),
                }
                for i, n, ok in zip(item, number, right, strict=True)
            ]
    return pd.DataFrame(rows)


def pick(result, quantity: str, label: str | None = None):
    found = [one for one in result.estimates if one.quantity == quantity and label in (None, one.label)]
    assert len(found) == 1, quantity
    return found[0]


def quick(table, **more):
    return oddone(table, formula=None, draws=20, **more)


COMPOSITION = "accuracy difference of composition over rules, people"
SLOPE = "slope of problem within observers, people"


def test_a_planted_difference_of_compositions_is_found():
    found = pick(quick(answers(1, gap=1.5)), COMPOSITION)
    assert found.low > 0.1
    assert found.p < 0.001
    assert found.n == 18


def test_planted_learning_is_found():
    found = pick(quick(answers(1, slope=0.06)), SLOPE)
    # A slope of .06 logits is near .06 * p (1 - p) = .012 in accuracy.
    assert found.low < 0.0125 < found.high
    assert found.p < 0.001


@pytest.mark.long
def test_without_effects_the_tests_reject_at_the_nominal_rate():
    studies, hits = 150, {COMPOSITION: 0, SLOPE: 0}
    for seed in range(studies):
        result = quick(answers(1000 + seed, people=18, problems=10))
        for name in hits:
            hits[name] += pick(result, name).p < 0.05
    # Binomial(150, .05): 1 to 16 in 99.8 %.
    assert all(1 <= count <= 16 for count in hits.values()), hits


def test_guessing_is_not_above_chance():
    result = quick(answers(3, guess=True))
    above = [one for one in result.estimates if one.quantity == "above chance of rule, people"]
    assert len(above) == 18
    assert min(one.p_adjusted for one in above) > 0.01


def test_accuracy_of_a_rule_is_the_mean_over_participants():
    table = answers(4)
    mine = table[table["rule"] == "e0"].groupby("participant_id")["correct"].mean()
    found = pick(quick(table), "accuracy of rule, people", "e0")
    assert found.value == pytest.approx(mine.mean())
    assert found.n == len(mine)


def test_sample_efficiency_is_of_the_curve_over_the_block():
    table = answers(5)
    curves = table.groupby(["rule", "problem"])["correct"].mean().unstack()
    found = pick(quick(table), "SES over a block, people")
    assert found.value == pytest.approx(sample_efficiency(curves.to_numpy(), list(curves.columns)).mean())


def test_people_and_networks_are_never_pooled():
    people, network = answers(6), answers(7, gap=3).assign(source="network")
    both = quick(pd.concat([people.assign(source="live"), network], ignore_index=True))
    alone = quick(people)
    for name in (COMPOSITION, SLOPE):
        assert pick(both, name).value == pick(alone, name).value
    assert both.facts["networks"]["observers"] == 36
    assert set(both.points["observers"]) == {"people", "networks"}


def test_networks_from_another_table_give_the_same_as_in_one():
    people, network = answers(6).assign(source="live"), answers(7).assign(source="network")
    one, two = quick(pd.concat([people, network], ignore_index=True)), quick(people, networks=network)
    assert [(e.quantity, e.label, e.value) for e in one.estimates] == [
        (e.quantity, e.label, e.value) for e in two.estimates
    ]


def test_the_difference_of_people_and_networks_is_paired_by_problem():
    people, network = answers(8), answers(9)
    network.loc[network["rule"] == "e3", "correct"] = 0.0
    result = quick(people, networks=network)
    items = people[people["rule"] == "e3"].groupby("item_id")["correct"].mean()
    found = pick(result, "people minus networks", "e3")
    assert found.value == pytest.approx(items.mean())
    assert found.unit == "problems"
    assert found.p_adjusted < 0.001


def test_descriptions_are_left_out():
    table = answers(10)
    said = table.head(3).assign(correct=np.nan, problem=0, item_id="rule-e0")
    with_them = quick(pd.concat([table, said], ignore_index=True))
    assert [e.value for e in with_them.estimates] == [e.value for e in quick(table).estimates]


def test_a_missing_column_is_named():
    with pytest.raises(LimenError, match="column 'rule' is missing"):
        oddone(answers(1).drop(columns="rule"))


@pytest.mark.long
def test_the_mixed_model_finds_the_planted_difference():
    result = oddone(answers(11, gap=1.5, rule_sd=0.2), draws=20)
    found = pick(result, "accuracy difference of composition (mixed model)")
    assert found.label == "elementary - composed"
    # Logits of .7 + .75 and .7 - .75, flattened by the spread of people, rules and problems: near .27 in accuracy.
    assert found.low < 0.27 < found.high
    assert found.df[0] == 16
