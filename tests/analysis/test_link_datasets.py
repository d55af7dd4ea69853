"""Several data sets: within each first, pooled with data sets as blocks, and silence where few cannot tell."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from analysis.link_cli import link as command
from analysis.measures.association import Reliability, exact_interval
from analysis.measures.pooling import random_effects
from analysis.models.link import link
from analysis.models.link_datasets import _Block, block_p, link_datasets
from bench.registry import LimenError


def pair(x: np.ndarray, y: np.ndarray, *, width: float | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = [f"m{i}" for i in range(len(x))]
    scores = pd.DataFrame({"method": names, "metric": "deletion", "direction": "up", "value": x})
    utilities = pd.DataFrame({"condition": names, "utility": y})
    if width is not None:
        scores = scores.assign(low=x - width, high=x + width)
        utilities = utilities.assign(low=y - width, high=y + width)
    return scores, utilities


def planted(rho: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=n)
    return draws[:, 0], draws[:, 1]


def test_levels_of_data_sets_make_no_correlation():
    """Within each data set nothing; between them scores and Utility rise together: naive pooling finds .9."""
    sets = {f"d{k}": pair(*(np.array(planted(0.0, 6, 10 + k)) * 0.2 + k)) for k in range(5)}
    everything = [np.concatenate([sets[name][i].iloc[:, -1].to_numpy() for name in sets]) for i in (0, 1)]
    assert np.corrcoef(*everything)[0, 1] > 0.9
    found = link_datasets(sets, bootstrap=50).get("pooled Pearson r", "deletion")
    assert found.p > 0.05
    assert found.low < 0 < found.high


@pytest.mark.parametrize(
    ("spread", "variances"),
    [(0.0, [1 / 6] * 6), (0.6, [1 / 6] * 10), (0.0, [1 / 6] * 3), (0.4, [1 / 60, *[1 / 3] * 5]), (0.4, [1 / 60, *[1 / 3] * 9])],
)  # fmt: skip
def test_a_planted_mean_is_covered_at_its_level_however_data_sets_and_their_precisions_differ(spread, variances):
    rng, held, draws, each = np.random.default_rng(1), 0, 300, np.array(variances)
    for _ in range(draws):
        found = random_effects(0.6 + rng.normal(0, np.sqrt(spread**2 + each)), each)
        held += found.low <= 0.6 <= found.high
    assert stats.binomtest(held, draws, 0.95).pvalue > 0.01


@pytest.mark.long
def test_without_a_correlation_orders_within_data_sets_reject_nominally(monkeypatch):
    monkeypatch.setattr("analysis.models.link_datasets.MOST_ORDERS", 399)
    rejected = 0
    for seed in range(300):
        blocks = [_Block(str(k), *planted(0.0, 9, 1000 * seed + k)) for k in range(4)]
        rejected += block_p(blocks, "Pearson r", seed=seed)[0] <= 0.05
    assert stats.binomtest(rejected, 300, 0.05).pvalue > 0.01


def test_the_p_within_data_sets_counts_every_combination():
    rng = np.random.default_rng(0)
    blocks = [_Block("a", rng.normal(size=4), rng.normal(size=4)), _Block("b", rng.normal(size=3), rng.normal(size=3))]
    weights = (3 / 5, 2 / 5)

    def mean(orders: tuple[tuple[int, ...], ...]) -> float:
        return sum(
            w * np.corrcoef(b.x, b.y[list(o)])[0, 1] for w, b, o in zip(weights, blocks, orders, strict=True)
        )  # fmt: skip

    observed = abs(mean((tuple(range(4)), tuple(range(3)))))
    everything = list(itertools.product(itertools.permutations(range(4)), itertools.permutations(range(3))))
    expected = np.mean([abs(mean(one)) >= observed - 1e-10 for one in everything])
    assert block_p(blocks, "Pearson r") == (pytest.approx(expected), "exact, all 144 orders, within data sets")


def test_with_many_orders_random_ones_never_give_zero():
    blocks = [_Block(name, np.arange(8.0), np.arange(8.0)) for name in "ab"]
    p, how = block_p(blocks, "Spearman rho")
    assert p == pytest.approx(1 / 100_001)
    assert how.endswith("within data sets")


def test_few_data_sets_are_said_not_to_tell_their_spread():
    sets = {name: pair(*planted(0.5, 7, seed)) for seed, name in enumerate("abc")}
    result = link_datasets(sets, bootstrap=50)
    assert result.flags == ("few_datasets",)
    assert "cannot tell how far data sets differ" in result.method
    spread = result.get("spread of Pearson r", "deletion")
    assert spread.flags == ("few_datasets",)
    assert spread.high - spread.low > 1


def test_a_perfect_or_tiny_data_set_is_left_out_by_name():
    line = np.arange(6.0)
    sets = {
        "line": pair(line, line),
        "tiny": pair(*planted(0.5, 3, 0)),
        "a": pair(*planted(0.5, 6, 1)),
        "b": pair(*planted(0.5, 6, 2)),
    }
    item = link_datasets(sets, bootstrap=50).get("pooled Pearson r", "deletion")
    assert item.n == 2
    assert item.extra["left_out"] == "line, tiny"


def test_each_data_set_is_drawn_towards_the_mean_and_keeps_its_own_result():
    sets = {
        name: pair(*planted(rho, 7, seed))
        for seed, (name, rho) in enumerate(zip("abcd", (0.9, 0.5, 0.5, 0.1), strict=True))
    }
    result = link_datasets(sets, bootstrap=50)
    mean = result.get("pooled Pearson r", "deletion").value
    for name in sets:
        own = result.get("Pearson r", f"deletion, {name}").value
        drawn = result.get("Pearson r drawn towards the mean", f"deletion, {name}").value
        assert min(own, mean) - 1e-9 <= drawn <= max(own, mean) + 1e-9
        assert own == link(*sets[name], bootstrap=50).get("Pearson r", "deletion").value


def test_a_single_data_set_pools_to_nothing():
    item = link_datasets({"a": pair(*planted(0.5, 8, 0))}, bootstrap=50).get("pooled Pearson r", "deletion")
    assert math.isnan(item.value)
    with pytest.raises(LimenError, match="given no data set"):
        link_datasets({})


def test_a_correlation_carries_its_exact_interval_its_null_and_the_methods_it_takes():
    item = link(*pair(*planted(0.8, 7, 3)), bootstrap=50).get("Pearson r", "deletion")
    assert (item.extra["exact_low"], item.extra["exact_high"]) == exact_interval(item.value, 7)
    assert item.extra["null_low"] < 0 < item.extra["null_high"]
    assert item.extra["methods_for_power"] >= 4
    if item.low <= 0 <= item.high:
        assert item.extra["methods_for_power_high"] == math.inf


def test_measurement_error_is_taken_out_by_both_reliabilities():
    x, y = planted(0.6, 7, 4)
    plain = link(*pair(x, y), bootstrap=50).get("Pearson r", "deletion")
    assert math.isnan(plain.extra["corrected"])
    wide = link(*pair(x, y, width=0.5), bootstrap=50).get("Pearson r", "deletion")
    error = (0.5 / stats.norm.ppf(0.975)) ** 2
    first, second = (1 - error / values.var(ddof=1) for values in (x, y))
    assert wide.extra["ceiling"] == pytest.approx(math.sqrt(first * second))
    assert wide.extra["corrected"] == pytest.approx(wide.value / math.sqrt(first * second))
    given = Reliability(0.5, 0.3, 0.7, 9, "split halves")
    halved = link(*pair(x, y, width=0.5), reliability=given, bootstrap=50).get("Pearson r", "deletion")
    assert halved.extra["corrected"] == pytest.approx(halved.value / math.sqrt(first * 0.5))


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "analysis.link_cli.read_scores", lambda path: pd.read_csv(path).assign(label=lambda t: t["method"])
    )
    for seed, name in enumerate(("husky", "leaves")):
        scores, utilities = pair(*planted(0.6, 7, seed), width=0.4)
        scores.to_csv(tmp_path / f"{name}.csv", index=False)
        utilities.to_csv(tmp_path / f"{name}_utility.csv", index=False)
    return tmp_path


def call(files, *more: str):
    parts = [
        x
        for n in ("husky", "leaves")
        for x in ("--scores", str(files / f"{n}.csv"), "--utility", str(files / f"{n}_utility.csv"), "--name", n)
    ]
    return CliRunner().invoke(command, [*parts, *more])


def test_the_command_takes_pairs_and_prints_each_set_the_pool_and_what_it_takes(files):
    result = call(files, "-o", str(files / "out"))
    assert result.exit_code == 0, result.output
    for text in ("deletion", "husky", "leaves", "pooled", "spread", "cannot tell"):
        assert text in result.output
    assert (files / "out" / "link.json").exists()
    assert (files / "out" / "link.csv").read_text().startswith("quantity,label,value")


def test_pairs_that_do_not_match_are_refused(files):
    result = call(files, "--scores", str(files / "husky.csv"))
    assert isinstance(result.exception, LimenError)
    assert "3 score tables and 2 tables of Utility" in str(result.exception)
