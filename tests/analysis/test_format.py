"""How numbers are written."""

from __future__ import annotations

import math

import pytest

from analysis import format as write
from analysis.results import Estimate, Result, plain


@pytest.mark.parametrize(
    ("value", "text"), [(0.0004, "< .001"), (0.013, ".013"), (0.05, ".050"), (0.9996, "> .999"), (1.0, "> .999"), (math.nan, "–")]
)  # fmt: skip
def test_p_has_no_leading_zero_and_is_never_zero_or_one(value, text):
    assert write.p_value(value) == text


def test_p_in_running_text_is_an_equation():
    assert write.p_equation(0.013) == "p = .013"
    assert write.p_equation(1e-9) == "p < .001"


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(-0.004, 2, "0.00"), (-1.25, 1, "−1.2"), (math.nan, 2, "–"), (math.inf, 2, "∞"), (2.0, 0, "2")]
)  # fmt: skip
def test_numbers_have_a_true_minus_and_no_negative_zero(value, digits, text):
    assert write.number(value, digits) == text


def test_an_interval_without_bounds_is_a_dash():
    assert write.interval(0.1, 0.25) == "[0.10, 0.25]"
    assert write.interval(math.nan, 1.0) == "–"
    assert write.interval(-math.inf, math.inf) == "[−∞, ∞]"


def test_differences_carry_their_sign():
    assert (write.points(0.123), write.points(-0.05)) == ("+12.3", "−5.0")


def test_a_test_shows_its_degrees_of_freedom():
    item = Estimate(quantity="q", label="l", value=0.0, statistic="F", statistic_value=9.116, df=(7.0, 231.6))
    assert write.test(item) == "F(7, 231.6) = 9.12"
    assert write.test(Estimate(quantity="q", label="l", value=0.0)) == "–"


def test_lists_and_counts_read_as_text():
    assert [write.listing(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert [write.count(1, "person", "people"), write.count(2400, "trial")] == ["1 person", "2,400 trials"]


def test_json_holds_no_number_that_is_not_finite():
    result = Result(
        name="n",
        title="t",
        role="descriptive",
        method="m",
        estimates=(Estimate(quantity="q", label="l", value=math.nan),),
    )
    assert result.json()["estimates"][0]["value"] is None
    assert plain({"a": [math.inf, 1]}) == {"a": [None, 1]}
