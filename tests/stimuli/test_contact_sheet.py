"""A contact sheet of trials shows as many kinds of them as it has room for."""

from __future__ import annotations

import json

from stimuli.preview import _unlike
from stimuli.records import TrialRow


def _trial(number: int, **factors: str) -> TrialRow:
    return TrialRow(
        cell="a-1", condition="a", list=1, position=number, block="b", session=1, phase="test", trial_type="choice",
        trial_id=f"t{number}", item_id=f"i{number}", is_catch=False, k_seen=0, payload="{}", answer="{}",
        factors=json.dumps(factors),
    )  # fmt: skip


def test_each_rule_comes_before_any_twice() -> None:
    trials = [_trial(i, rule=f"rule {i // 20}") for i in range(80)]
    chosen = _unlike(trials, 4)
    assert sorted(json.loads(one.factors)["rule"] for one in chosen) == [f"rule {i}" for i in range(4)]


def test_crossed_factors_show_every_level_first() -> None:
    trials = [_trial(i, layer="early" if i < 8 else "late", kind="x" if i % 8 < 7 else "y") for i in range(16)]
    two = [json.loads(one.factors) for one in _unlike(trials, 2)]
    assert {one["layer"] for one in two} == {"early", "late"}
    assert {one["kind"] for one in two} == {"x", "y"}


def test_no_more_trials_than_there_are() -> None:
    assert len(_unlike([_trial(0), _trial(1)], 8)) == 2
