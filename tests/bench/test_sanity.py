"""Trained against untrained: which metrics of dictionaries know that a network has learned something."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from bench import zoo
from bench.api import fit_dictionary
from bench.engine import Engine
from bench.registry import LimenError
from bench.sanity import COLUMNS, compare_untrained, untrained
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import Dictionary
from bench.spaces.gather import concept_data


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pca(rows: Tensor, seed: int) -> Dictionary:
    return fit_dictionary("pca", rows, 3, seed=seed)


def planted(learned: bool) -> ConceptData:
    """Activations that have a class's mean, or none; the head reads the classes either way."""
    kind = torch.arange(90) % 3
    weights = torch.eye(3, 12)
    rows = [normal(90, 12, seed=seed) + (6.0 * weights[kind] if learned else 0.0) for seed in (1, 2)]
    return ConceptData(
        *rows, head_weights=weights, targets=kind, embeddings=torch.eye(3)[kind] + 0.1 * normal(90, 3, seed=3)
    )


def table(metrics: list[str], learned: bool = True, **options: int) -> pd.DataFrame:
    return compare_untrained(metrics, pca, planted(learned), planted(False), **options).set_index("metric")


def test_what_was_learned_is_told() -> None:
    found = table(["monosemanticity", "plausibility"])
    assert list(found["told"]) == [True, True]
    assert (found["low"] > 0).all()
    assert (found["gain_trained"] > found["gain_untrained"]).all()


def test_two_untrained_networks_are_not_told_apart() -> None:
    found = table(["monosemanticity", "plausibility", "reconstruction_r2"], learned=False)
    assert list(found["told"]) == [False, False, False]
    np.testing.assert_allclose(found["difference"], 0)


def test_a_difference_is_signed_so_that_larger_is_better() -> None:
    found = table(["relative_l2"])
    assert found.loc["relative_l2", "direction"] == "down"
    assert found.loc["relative_l2", "difference"] == pytest.approx(
        found.loc["relative_l2", "untrained"] - found.loc["relative_l2", "trained"]
    )
    assert bool(found.loc["relative_l2", "told"])


def test_a_metric_that_cannot_be_measured_says_why() -> None:
    found = table(["feature_complexity", "plausibility"])
    assert found.loc["feature_complexity", "told"] is None
    assert "it reads 'layers', which these concept data lack" in found.loc["feature_complexity", "reason"]
    assert np.isfinite(found.loc["plausibility", "trained"])


def test_one_fit_of_one_number_has_no_interval() -> None:
    found = table(["effective_rank"], fits=1)
    assert found.loc["effective_rank", "told"] is None
    assert "fewer than two samples" in found.loc["effective_rank", "reason"]


def test_fits_without_chance_do_not_pass_rounding_for_learning() -> None:
    found = table(["coherence", "frechet_distance"])
    assert found.loc["coherence", "told"] is False
    assert found.loc["frechet_distance", "told"] is None
    assert "chance is not known" in found.loc["frechet_distance", "reason"]


def test_the_seed_fixes_the_table() -> None:
    pd.testing.assert_frame_equal(table(["monosemanticity"], seed=3), table(["monosemanticity"], seed=3))


def test_the_columns_are_those_named() -> None:
    assert tuple(compare_untrained(["l0"], pca, planted(True), planted(False)).columns) == COLUMNS


@pytest.mark.parametrize("names", [["monosemantic"], ["deletion"]])
def test_other_metrics_are_refused(names: list[str]) -> None:
    with pytest.raises(LimenError, match=r"monosemanticity|given dictionary, allowed is what it scores: maps"):
        compare_untrained(names, pca, planted(True), planted(False))


def test_no_fits_are_refused() -> None:
    with pytest.raises(LimenError, match="'fits': given 0, allowed is 1 or more"):
        table(["l0"], fits=0)


def test_an_untrained_engine_has_other_numbers_in_the_same_layers(engine: Engine) -> None:
    blind = untrained(engine)
    assert blind.network.fingerprint != engine.network.fingerprint
    assert blind.layers() == engine.layers()
    assert untrained(engine).network.fingerprint == blind.network.fingerprint
    assert untrained(engine, 1).network.fingerprint != blind.network.fingerprint


@pytest.mark.long
def test_a_trained_network_is_told_from_itself_untrained() -> None:
    engine = Engine(zoo.load_network("tiny@digits", device="cpu", progress=False), device="cpu", precision="fp32")
    pictures = [zoo.load_images("digits", split, 100).pictures for split in ("train", "test")]
    layer = engine.default_layer(engine.inputs(pictures[0][:1]))
    data = [concept_data(one, layer, *pictures, evaluator=untrained(engine, 7)) for one in (engine, untrained(engine))]
    found = compare_untrained(
        ["feature_complexity", "plausibility", "reconstruction_r2", "monosemanticity"],
        lambda rows, seed: fit_dictionary("kmeans", rows, 10, seed=seed),
        *data,
    ).set_index("metric")
    assert list(found["reason"]) == [""] * 4
    assert np.isfinite(found[["trained", "untrained", "low", "high"]].astype(float)).all(axis=None)
    # Which of the two is more complex is a finding, not a promise; that they differ is the least a metric can say.
    assert bool(found.loc["feature_complexity", "told"])
