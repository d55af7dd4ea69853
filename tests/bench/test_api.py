"""Explaining and scoring by name: what is accepted, what is added to a score, and what each error says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

import bench
from bench.api import (
    Interval,
    ScoreResult,
    bootstrap,
    explain,
    fit_dictionary,
    needs_k,
    null,
    score,
    score_dictionaries,
    summarise,
)
from bench.engine import Engine
from bench.records import Measurement, Score, columns
from bench.registry import DICTIONARIES, LimenError, UnknownName, attribution, metric
from bench.spaces import ConceptData, Dictionary


@metric(version=1, citation="test", cost="none", of="maps", direction="down", bounds=(0, 1), null="own", ceiling="own")
def own_null(engine: Engine, images: Tensor, targets: Tensor, maps: Tensor, *, shift: float = 0.0) -> Measurement:
    """Know the null and the ceiling."""
    values = maps.flatten(1).mean(1) + shift
    return Measurement(
        values=values, null=torch.full_like(values, 0.25), ceiling=torch.ones_like(values), convention="c"
    )


@attribution(version=1, citation="test", cost="none")
def brightness(engine: Engine, images: Tensor, targets: Tensor, *, power: int = 1) -> Tensor:
    """Take the image itself."""
    return images.sum(1, keepdim=True) ** power


def scored(values: list[float], floor: list[float], **changes: Any) -> ScoreResult:
    """Build a result by hand."""
    card = own_null.card  # type: ignore[attr-defined]
    ceiling = np.full(len(values), np.nan)
    fields = {"metric": "m", "card": card, "values": np.array(values), "null": np.array(floor), "ceiling": ceiling}
    return ScoreResult(**{**fields, "convention": "c", **changes})


def test_the_package_hands_out_explain_and_score() -> None:
    assert bench.explain is explain
    assert bench.score is score


def test_pictures_and_normalised_floats_give_the_same_map(engine: Engine) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    expected = explain("saliency", engine, engine.inputs(pictures), 1)
    assert torch.equal(explain("saliency", engine, pictures, 1), expected)
    assert torch.equal(explain("saliency", engine, torch.from_numpy(pictures), 1), expected)
    floats = engine.numpy(engine.inputs(pictures))
    assert torch.equal(explain("saliency", engine, floats, 1), expected)


def test_targets_may_be_a_number_a_list_an_array_or_a_tensor(engine: Engine, images: Tensor) -> None:
    expected = explain("saliency", engine, images, 2)
    for targets in ([2] * 4, np.full(4, 2), torch.full((4,), 2)):
        assert torch.equal(explain("saliency", engine, images, targets), expected)


def test_no_target_means_the_predicted_class(engine: Engine, images: Tensor) -> None:
    predicted = engine.scores(images).argmax(1)
    assert torch.equal(explain("saliency", engine, images), explain("saliency", engine, images, predicted))


def test_a_function_with_a_card_is_accepted_with_its_options(engine: Engine, images: Tensor) -> None:
    maps = explain(brightness, engine, images, 0, power=2)
    torch.testing.assert_close(maps, images.sum(1, keepdim=True) ** 2)


@pytest.mark.parametrize("keep", [slice(None), slice(0, 1), 0])
def test_a_plain_callable_may_return_any_of_the_three_shapes(engine: Engine, images: Tensor, keep: Any) -> None:
    maps = explain(lambda module, inputs, targets: inputs[:, keep], engine, images, 0)
    expected = images.sum(1, keepdim=True) if keep == slice(None) else images[:, :1]
    torch.testing.assert_close(maps, expected)


def test_a_plain_callable_gets_the_module_and_copies_of_the_arguments(engine: Engine, images: Tensor) -> None:
    given = images.clone()

    def careless(module: torch.nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        assert module is engine.network.module
        assert targets.tolist() == [1, 1, 1, 1]
        return inputs.mul_(0).add_(1)

    assert explain(careless, engine, images, 1).sum() > 0
    assert torch.equal(images, given)


ERRORS = [
    (lambda e, x: explain("salience", e, x), r"attribution: unknown name 'salience'; .*did you mean 'saliency'\?"),
    (lambda e, x: explain("rise", e, x, mask=3), r"attribution 'rise', option: unknown name 'mask'.*'masks'"),
    (lambda e, x: explain("rise", e, x, masks="many"), r"attribution 'rise', option 'masks': given 'many'"),
    (lambda e, x: explain("rise", e, x, masks=0), r"attribution 'rise', option 'masks': given 0"),
    (lambda e, x: explain(lambda *a: x, e, x, steps=3), r"given options steps, a plain callable takes none"),
    (lambda e, x: explain(lambda *a: x[..., :3], e, x), r"given \(4, 3, 16, 3\), allowed is .* \(4, 1, 16, 16\)"),
    (lambda e, x: explain(lambda *a: x * torch.nan, e, x), r"given numbers that are not finite"),
    (lambda e, x: explain(lambda *a: None, e, x), r"given NoneType, allowed is a tensor"),
    (lambda e, x: explain("saliency", e, x[0]), r"images: given float32 \(3, 16, 16\), allowed are uint8 pictures"),
    (lambda e, x: explain("saliency", e, x.int()), r"images: given int32 \(4, 3, 16, 16\), allowed are uint8"),
    (lambda e, x: explain("saliency", e, x.tolist()), r"images: given list, allowed are uint8 pictures"),
    (lambda e, x: explain("saliency", e, x / 0), r"images: given numbers that are not finite"),
    (lambda e, x: explain("saliency", e, x, [0, 1]), r"allowed is one class index an image"),
    (lambda e, x: explain("saliency", e, x, 5), r"given classes from 5 to 5, allowed is 0 to 4"),
    (lambda e, x: explain("saliency", e, x, -1), r"given classes from -1 to -1, allowed is 0 to 4"),
    (lambda e, x: score("delete", e, x, x[:, :1]), r"metric: unknown name 'delete'; .*did you mean 'deletion'\?"),
    (
        lambda e, x: score("deletion", e, x, x[:, :1], step=3),
        r"metric 'deletion', option: unknown name 'step'.*'steps'",
    ),
    (lambda e, x: score("deletion", e, x, x[:2, :1]), r"metric 'deletion', maps: given \(2, 1, 16, 16\)"),
    (lambda e, x: score("deletion", e, x, x[:, :1], null=np.zeros(3)), r"null: given 3 values for 4 samples"),
    (lambda e, x: score("deletion", e, x, x[:, :1], null_draws=0), r"option 'null_draws': given 0, allowed is 1"),
    (lambda e, x: score(lambda *a: None, e, x, x[:, :1]), r"has no card"),
]


@pytest.mark.parametrize(("call", "sentence"), ERRORS, ids=[sentence[:40] for _, sentence in ERRORS])
def test_a_fault_is_one_sentence(call: Any, sentence: str, engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match=sentence) as caught:
        call(engine, images)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_a_lookup_error(engine: Engine, images: Tensor) -> None:
    with pytest.raises(UnknownName):
        explain("nothing", engine, images)


def test_the_null_is_measured_when_it_is_not_given(engine: Engine, images: Tensor) -> None:
    maps = explain("saliency", engine, images, 1)
    floor = null("deletion", engine, images, 1, seed=4, null_draws=2, steps=6)
    given = score("deletion", engine, images, maps, 1, seed=4, null=floor, steps=6)
    measured = score("deletion", engine, images, maps, 1, seed=4, null_draws=2, steps=6)
    np.testing.assert_array_equal(measured.null, floor)
    np.testing.assert_array_equal(given.null, floor)
    np.testing.assert_array_equal(given.values, measured.values)


def test_the_null_is_the_mean_of_its_draws(engine: Engine, images: Tensor) -> None:
    one, three = (null("insertion", engine, images, 1, null_draws=draws, steps=6) for draws in (1, 3))
    assert one.shape == three.shape == (4,)
    assert not np.array_equal(one, three)
    assert np.abs(one - three).max() < 0.1


def test_the_cost_of_a_score_leaves_its_null_out(engine: Engine, images: Tensor) -> None:
    maps = explain("saliency", engine, images, 1)
    found = score("deletion", engine, images, maps, 1, steps=8)
    assert found.cost.forwards == 4 * 9


def test_a_metrics_own_null_and_ceiling_are_taken(engine: Engine, images: Tensor) -> None:
    found = score(own_null, engine, images, torch.ones(4, 1, 16, 16), 1, shift=-0.5)
    assert found.null.tolist() == [0.25] * 4
    assert found.ceiling.tolist() == [1.0] * 4
    assert found.gains.tolist() == [-0.25] * 4  # .5 where lower is better, against .25
    assert summarise(found)["ceiling"] == 1.0


def test_gain_is_signed_so_that_larger_is_better() -> None:
    assert scored([1.0, 2.0], [3.0, 3.0]).gains.tolist() == [2.0, 1.0]


def test_a_score_is_at_its_null_if_the_interval_of_the_gain_holds_zero() -> None:
    draws = np.random.default_rng(0).normal(0, 1, 50)
    assert scored(list(draws), [float(draws.mean())] * 50).at_null
    assert not scored(list(draws), [float(draws.mean()) + 1] * 50).at_null


def test_the_gain_is_paired_by_sample() -> None:
    level = np.random.default_rng(0).normal(0, 10, 40)
    found = scored(list(level), list(level + 0.1))
    assert found.gain.low == pytest.approx(0.1)
    assert found.value.low < found.null_value.mean < found.value.high


def test_one_sample_has_no_interval_and_cannot_be_told_from_chance() -> None:
    found = scored([0.1], [0.9])
    assert found.value.mean == 0.1
    assert math.isnan(found.value.low)
    assert found.at_null


def test_samples_without_a_value_are_left_out_and_counted() -> None:
    found = scored([1.0, float("nan"), 3.0], [0.0, 0.0, 0.0])
    assert found.n == 2
    assert found.value.mean == 2.0
    assert found.gain.mean == -2.0


def test_the_bootstrap_interval_is_near_the_normal_one_and_repeats() -> None:
    values = np.random.default_rng(1).normal(5, 2, 200)
    found = bootstrap(values, seed=7)
    half = norm.ppf(0.975) * values.std() / math.sqrt(200)
    assert found.low == pytest.approx(values.mean() - half, abs=0.06)
    assert found.high == pytest.approx(values.mean() + half, abs=0.06)
    assert bootstrap(values, seed=7) == found
    assert bootstrap(values, seed=8) != found


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    source = np.random.default_rng(2)
    hits = sum(bootstrap(source.normal(0, 1, 40), seed=run, resamples=400).holds(0.0) for run in range(300))
    # A percentile interval of 40 samples covers about .94; the standard error over 300 runs is .014.
    assert 0.89 < hits / 300 < 0.98


def test_an_interval_that_is_not_known_excludes_nothing() -> None:
    assert Interval(1.0, math.nan, math.nan).holds(0.0)


def test_a_summary_fills_its_part_of_a_score_row(engine: Engine, images: Tensor) -> None:
    found = summarise(score("deletion", engine, images, explain("saliency", engine, images), steps=4, null_draws=1))
    caller = {"network", "images", "subject", "method", "options", "layer", "metric", "question"}
    assert set(found) | caller | {"seconds", "forwards", "backwards"} == set(columns(Score))
    assert found["low"] <= found["value"] <= found["high"]
    assert found["gain"] == pytest.approx(found["null"] - found["value"])


@metric(
    version=1, citation="test", cost="none", of="dictionary", direction="up", bounds=(0, math.inf), null="random atoms"
)
def projected(dictionaries: list[Dictionary], data: ConceptData, *, power: int = 1) -> Measurement:
    """Measure the variance of the test rows along each atom of each dictionary."""
    values = torch.stack([(data.test @ one.atoms.T).var(dim=0) ** power for one in dictionaries]).mean(0)
    return Measurement(values=values, samples=tuple(f"atom {index}" for index in range(len(values))), convention="c")


@pytest.fixture
def stretched() -> ConceptData:
    """Rows whose variance lies along the first two of six axes."""
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 4, 1, 1, 1, 1])
    return ConceptData(train=rows[:100], test=rows[100:])


def test_a_dictionary_is_fitted_by_name(stretched: ConceptData) -> None:
    fitted = fit_dictionary("pca", stretched.train, 2, seed=1)
    assert fitted.atoms.shape == (2, 6)
    np.testing.assert_array_equal(fit_dictionary("pca", stretched.train.numpy(), 2, seed=1).atoms, fitted.atoms)


@pytest.mark.long
@pytest.mark.parametrize("name", DICTIONARIES.names())
def test_a_seed_gives_the_same_dictionary_again(name: str, stretched: ConceptData) -> None:
    rows = stretched.train.abs()
    first, second = (fit_dictionary(name, rows, 6, seed=2) for _ in range(2))
    assert torch.equal(first.atoms, second.atoms)


def test_the_layer_decides_the_size_of_the_identity_dictionary(stretched: ConceptData) -> None:
    assert not needs_k("neurons")
    assert needs_k("pca")
    assert fit_dictionary("neurons", stretched.train).k == 6


def test_dictionaries_are_scored_beside_random_ones(stretched: ConceptData) -> None:
    fitted = [fit_dictionary("pca", stretched.train, 2, seed=seed) for seed in (0, 1)]
    found = score_dictionaries(projected, fitted, stretched, seed=5)
    assert found.samples == ("atom 0", "atom 1")
    assert found.gain.low > 0
    blind = [fit_dictionary("random", stretched.train, 2, seed=seed) for seed in (5, 6)]
    np.testing.assert_allclose(found.null, projected(blind, stretched).values)


DICTIONARY_ERRORS = [
    (lambda d: fit_dictionary("pcaa", d.train, 2), r"dictionary: unknown name 'pcaa'; .*did you mean 'pca'\?"),
    (lambda d: fit_dictionary("pca", d.train, 2, size=3), r"dictionary 'pca', option: unknown name 'size'"),
    (lambda d: fit_dictionary("pca", d.train.int(), 2), r"dictionary 'pca': given activations .* of torch.int32"),
    (lambda d: fit_dictionary("pca", d.train), r"dictionary 'pca', 'k': nothing was given and it has no default"),
    (lambda d: fit_dictionary("pca", d.train, 0), r"dictionary 'pca': given k = 0"),
    (lambda d: fit_dictionary(lambda rows, k: rows, d.train, 2), r"returned a Tensor, allowed is a Dictionary"),
    (lambda d: score_dictionaries(projected, [], d), r"metric 'projected': given no dictionary"),
    (lambda d: score_dictionaries("deletion", [], d), r"metric 'deletion': given dictionary, allowed is .*: maps"),
]


@pytest.mark.parametrize(("call", "sentence"), DICTIONARY_ERRORS, ids=[text[:40] for _, text in DICTIONARY_ERRORS])
def test_a_fault_with_dictionaries_is_one_sentence(call: Any, sentence: str, stretched: ConceptData) -> None:
    with pytest.raises(LimenError, match=sentence) as caught:
        call(stretched)
    assert "\n" not in str(caught.value)
