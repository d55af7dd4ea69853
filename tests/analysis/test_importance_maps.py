"""Importance maps: which rounds count, pooling and agreement beside slow twins, planted agreement and none."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.measures.importance_maps import Filters, People, Smoothing, choose_rounds, pooled, shrink, smooth
from analysis.measures.map_agreement import (
    align,
    hold_one_out,
    mean_interval,
    rank_correlation,
    split_half_ceiling,
    step_up,
    top_overlap,
)
from analysis.models.clickme import clickme
from bench.registry import LimenError
from stimuli.masks import revealed_mask

SIDE, BOX = 40, 6
HOW = Smoothing(kernel=5, sigma=1.0)


def round_of(person: str, image: str, places: list[tuple[float, float]], **changes: object) -> dict[str, object]:
    row = {
        "participant_id": person, "item_id": image, "condition": "oracle", "width": SIDE, "height": SIDE, "box_px": BOX,
        "strokes": json.dumps([[50.0 * i, x, y] for i, (x, y) in enumerate(places)]), "outcome": "won",
    }  # fmt: skip
    return row | changes


def game(seed: int, *, images: int = 8, people: int = 8, planted: bool, boxes: int = 15) -> pd.DataFrame:
    """Rounds in which people uncover around a place of the image's own, or anywhere."""
    draws = np.random.default_rng(seed)
    centres = draws.uniform(8, SIDE - 8, (images, 2))
    rows = []
    for image, person in product(range(images), range(people)):
        centre = centres[image] if planted else draws.uniform(8, SIDE - 8, 2)
        places = np.clip(centre + draws.normal(0, 4, (boxes, 2)), 0, SIDE - 1)
        rows.append(round_of(f"p{person}", f"i{image}", [tuple(place) for place in places]))
    return pd.DataFrame(rows)


def rho(left: np.ndarray, right: np.ndarray) -> float:
    """SciPy's rank correlation; what differs beyond twelve decimals, by the order of sums, is tied."""
    return float(stats.spearmanr(left.round(12).ravel(), right.round(12).ravel()).statistic)


def test_each_rule_takes_the_rounds_it_names_and_counts_them() -> None:
    ten = [(float(i), 5.0) for i in range(10)]
    rows = [round_of(f"p{i}", "a", ten) for i in range(5)]
    rows.append(round_of("p0", "a", ten[:7]))
    rows.append(round_of("p5", "a", ten, outcome="skipped"))
    rows.append(round_of("p6", "a", ten[:1]))
    rows.append(round_of("p7", "a", ten * 3))
    rows.append(round_of("p1", "b", ten))
    chosen = choose_rounds(pd.DataFrame(rows), Filters(min_boxes=2, max_boxes=20, min_people=3))
    assert dict(chosen.counts) == {
        "rounds": 10, "skipped": 1, "repeated": 1, "too few boxes": 1, "too many boxes": 1,
        "image with too few people": 1, "kept": 5,
    }  # fmt: skip
    assert [one.image_id for one in chosen.images] == ["a"]
    assert chosen.images[0].participants == ("p0", "p1", "p2", "p3", "p4")
    first = revealed_mask(json.loads(rows[0]["strokes"]), (SIDE, SIDE), BOX)
    np.testing.assert_array_equal(chosen.images[0].masks[0], first)


def test_a_map_is_the_weighted_share_of_people_who_uncovered_a_pixel() -> None:
    rows = pd.DataFrame([round_of("p0", "a", [(5, 5)]), round_of("p1", "a", [(30, 30)])])
    chosen = choose_rounds(rows, Filters(min_boxes=1, min_people=2), weights={"p0": 3.0})
    sharp = pooled(chosen.images[0], Smoothing(kernel=1, sigma=1))
    assert (sharp[5, 5], sharp[30, 30], sharp[20, 20]) == (0.75, 0.25, 0)


def test_the_blur_is_a_truncated_gaussian_mirrored_at_the_edge() -> None:
    picture = np.random.default_rng(0).random((9, 11))
    weights = np.exp(-0.5 * (np.arange(-2, 3) / 1.3) ** 2)
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(picture, 2, mode="symmetric")
    slow = [[(padded[y : y + 5, x : x + 5] * kernel).sum() for x in range(11)] for y in range(9)]
    np.testing.assert_allclose(smooth(picture, Smoothing(kernel=5, sigma=1.3)), slow)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(LimenError, match="odd kernel"):
        smooth(np.ones((4, 4)), Smoothing(kernel=10, sigma=10))


def test_shrinking_averages_over_areas_and_keeps_the_mass() -> None:
    maps = np.random.default_rng(0).random((3, 12, 8)).astype(np.float32)
    np.testing.assert_allclose(shrink(maps, 6), maps.reshape(3, 6, 2, 4, 2).mean(axis=(2, 4)), rtol=1e-5)
    np.testing.assert_allclose(shrink(maps, 5).mean(axis=(1, 2)), maps.mean(axis=(1, 2)), rtol=1e-5)
    assert shrink(maps, 20) is maps


def test_rank_correlation_is_scipys() -> None:
    left, right = np.random.default_rng(0).integers(0, 5, (2, 6, 7)).astype(float)
    assert rank_correlation(left, right) == pytest.approx(stats.spearmanr(left.ravel(), right.ravel()).statistic)
    assert np.isnan(rank_correlation(left, np.ones((6, 7))))


def test_split_halves_are_those_of_a_slow_twin() -> None:
    images = choose_rounds(game(1, images=4, people=5, planted=True), Filters(min_people=2)).images
    found = split_half_ceiling(images, HOW, halves=3, seed=7)
    draws, own, others = np.random.default_rng(7), np.zeros((3, 4)), np.zeros((3, 4))
    for split in range(3):
        sides = []
        for one in images:
            order = draws.permutation(5)
            sides.append([smooth(one.masks[part].mean(axis=0, dtype=float), HOW) for part in (order[:3], order[3:])])
        table = [[rho(a[0], b[1]) for b in sides] for a in sides]
        own[split] = np.diag(table)
        others[split] = [(sum(table[i]) - table[i][i]) / 3 for i in range(4)]
    np.testing.assert_allclose(found.values, own.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(found.null, others.mean(axis=0), atol=1e-9)


def test_hold_one_out_is_that_of_a_slow_twin() -> None:
    images = choose_rounds(game(2, images=3, people=4, planted=True), Filters(min_people=2)).images
    found = hold_one_out(images, HOW)
    rest = [[smooth(np.delete(one.masks, p, 0).mean(axis=0, dtype=float), HOW) for p in range(4)] for one in images]
    alone = [[smooth(mask, HOW) for mask in one.masks] for one in images]
    own = [np.mean([rho(a, r) for a, r in zip(alone[i], rest[i], strict=True)]) for i in range(3)]
    null = [np.mean([rho(a, r) for a in alone[i] for j in range(3) if j != i for r in rest[j]]) for i in range(3)]
    np.testing.assert_allclose(found.values, own, atol=1e-9)
    np.testing.assert_allclose(found.null, null, atol=1e-9)


def test_stepping_up_doubles_the_length_of_the_test() -> None:
    assert [step_up(0.5), step_up(0.0), step_up(1.0)] == pytest.approx([2 / 3, 0, 1])


def test_overlap_of_the_tops_counts_pixels() -> None:
    left, right = np.zeros((10, 10)), np.zeros((10, 10))
    left[0], right[0, 5:], right[1, 5:] = 1, 1, 1
    assert top_overlap(left, right) == pytest.approx((5 / 15, 0.5))
    assert top_overlap(left, left) == (1, 1)


def test_alignment_is_divided_by_the_ceiling_and_a_published_one_needs_its_name() -> None:
    draws = np.random.default_rng(0)
    humans = draws.random((5, 8, 8))
    models = humans + draws.normal(0, 0.3, humans.shape)
    found = align(models, humans, ceiling=0.8)
    twin = [stats.spearmanr(m.ravel(), h.ravel()).statistic for m, h in zip(models, humans, strict=True)]
    np.testing.assert_allclose(found.spearman, twin)
    np.testing.assert_allclose(found.normalised, np.array(twin) / 0.8)
    assert align(models, humans, ceiling="harmonization").ceiling == 0.65753
    assert abs(found.null.mean()) < 0.1
    with pytest.raises(LimenError, match="harmonization"):
        align(models, humans, ceiling="published")


def test_planted_agreement_is_found() -> None:
    result = clickme(game(3, planted=True), side=SIDE, kernel=5, sigma=1.0)
    for quantity in ("split-half correlation above null", "hold-one-out agreement above null"):
        item = result.get(quantity, "oracle")
        assert item.low > 0.2
        assert (item.n, item.unit) == (8, "images")


@pytest.mark.long
def test_without_agreement_halves_are_at_their_null_as_often_as_the_interval_says() -> None:
    """200 games of 24 images without any agreement: the 95 % interval leaves out 0 in about one of twenty."""
    missed = 0
    for seed in range(200):
        draws = np.random.default_rng(seed)
        images = [
            People(
                image_id=str(index), participants=("a", "b", "c", "d"), weights=np.ones(4),
                masks=(draws.random((4, 8, 8)) < 0.3).astype(np.float32),
            )
            for index in range(24)
        ]  # fmt: skip
        found = split_half_ceiling(images, Smoothing(kernel=3, sigma=0.7), halves=2, seed=seed)
        _, low, high, _ = mean_interval(found.values - found.null)
        missed += not low <= 0 <= high
    assert missed <= stats.binom.ppf(0.999, 200, 0.05)


def test_conditions_are_measured_apart_and_together() -> None:
    rounds = game(4, planted=True)
    rounds["condition"] = np.where(rounds["participant_id"] < "p4", "oracle", "alone")
    rounds["participant_id"] += rounds["condition"]
    result = clickme(rounds, side=SIDE, min_people=3)
    assert [item.label for item in result.of("split-half ceiling")] == ["oracle", "alone", "all conditions"]


def test_too_few_people_is_undefined_and_no_strokes_too() -> None:
    assert clickme(game(5, people=3, planted=True)).get("split-half ceiling", "oracle").flags == ("undefined",)
    assert clickme(pd.DataFrame({"correct": [1.0]})).flags == ("undefined",)
