"""Frozen critics of drawings: slow twins, planted drawings, intervals that hold and tests that keep their level."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from analysis.drawings import read_drawings, read_samples
from analysis.measures.drawings import (
    blots,
    centred,
    contours,
    inks,
    inks_of_pictures,
    means,
    parts,
    pooled_spread,
    recognised,
    spreads,
)
from analysis.models._drawing_groups import DIVERSITY, RECOGNISABILITY, Critic, Group
from analysis.models.drawing import _absolute, _difference, drawing
from bench.registry import LimenError
from stimuli.sketches import glyph_name, picture, sketch, sketch_id

ITEMS = [sketch_id(glyph_name(0, number), 0) for number in range(10)]


def frame(accuracy: dict[str, float], people: int = 8, each: int = 8, seed: int = 0) -> pd.DataFrame:
    """People who draw the right category with a stated probability, else the next one."""
    draws, rows = np.random.default_rng(seed), []
    for condition, chance in accuracy.items():
        for person in range(people):
            for place in draws.permutation(len(ITEMS))[:each]:
                right = draws.random() < chance
                shown = ITEMS[place if right else (place + 1) % len(ITEMS)].split("/")[0]
                strokes = sketch(sketch_id(shown, int(draws.integers(10_000, 99_999))))
                rows.append({
                    "participant_id": f"{condition}{person}", "condition": condition, "item_id": ITEMS[place],
                    "width": 200, "height": 200,
                    "strokes": json.dumps([[[0, 200 * x, 200 * y] for x, y in one] for one in strokes]),
                })  # fmt: skip
    return pd.DataFrame(rows)


def test_the_nearest_example_agrees_with_all_episodes_tried_one_by_one() -> None:
    draws = np.random.default_rng(0)
    features, references = draws.normal(size=(7, 3)), draws.normal(size=(5, 1, 3))
    found = recognised(features, references, ways=3, episodes=2, seed=0)
    for i, one in enumerate(features):
        far = np.linalg.norm(references[:, 0] - one, axis=1)
        for c in range(5):
            drawn = list(combinations([k for k in range(5) if k != c], 2))
            assert found[i, c] == pytest.approx(np.mean([far[c] < min(far[list(others)]) for others in drawn]))


def test_over_references_it_is_the_mean_of_what_single_ones_give() -> None:
    draws = np.random.default_rng(1)
    features, references = draws.normal(size=(40, 4)), draws.normal(size=(4, 2, 4))
    found = recognised(features, references, ways=4, episodes=400, seed=3)
    each = []
    for pick in np.ndindex(2, 2, 2, 2):
        chosen = references[np.arange(4), list(pick)][:, None]
        each.append(recognised(features, chosen, ways=4, episodes=1, seed=0))
    assert np.abs(found - np.mean(each, axis=0)).max() < 0.12
    assert found.sum(axis=1) == pytest.approx(np.ones(40))


def sample(n: int = 60, count: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    return draws.normal(size=(n, 4)), np.arange(n) % count, np.arange(n) // count


def test_diversity_is_numpys_standard_deviation_and_leaving_one_out_is_doing_so() -> None:
    features, category, _ = sample()
    found = spreads(features, category, 5)
    for c in range(5):
        mine = features[category == c]
        assert found.values[c] == pytest.approx(np.sqrt(mine.var(axis=0, ddof=1).sum()))
        for i in np.flatnonzero(category == c):
            rest = features[(category == c) & (np.arange(60) != i)]
            assert found.without[i] == pytest.approx(np.sqrt(rest.var(axis=0, ddof=1).sum()))
    assert pooled_spread(features, category, np.bincount(category)) == pytest.approx(found.values.mean())


def test_means_and_their_jackknife_agree_with_doing_it() -> None:
    features, category, person = sample()
    values = features[:, 0]
    found = means(values, category, 5)
    taken = parts(found, category, person)
    assert found.values == pytest.approx([values[category == c].mean() for c in range(5)])
    left = []
    for p in np.unique(person):
        kept = person != p
        left.append(np.mean([values[kept & (category == c)].mean() for c in range(5)]))
    count = len(left)
    assert taken.people == pytest.approx((count - 1) / count * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert taken.categories == pytest.approx(found.values.var(ddof=1) / 5)
    single = sum(values[category == c].var(ddof=1) / 12 for c in range(5)) / 25
    assert taken.drawings == pytest.approx(single)


def test_too_few_drawings_of_a_category_are_no_number() -> None:
    found = spreads(np.ones((3, 2)), np.array([0, 0, 1]), 2)
    assert np.isnan(found.values[1])
    assert np.isnan(found.without).all()


def test_where_a_drawing_lies_and_how_large_it_is_changes_nothing() -> None:
    strokes = sketch(ITEMS[0])
    moved = [0.4 * one + 0.5 for one in strokes]
    assert np.abs(blots(inks([strokes])) - blots(inks([moved]))).max() < 1e-6
    box = np.concatenate(centred(moved))
    assert np.ptp(box, axis=0).max() == pytest.approx(0.8)


def test_a_picture_is_described_as_its_strokes_are() -> None:
    sketches = [sketch(item) for item in ITEMS]
    drawn = inks_of_pictures(np.stack([picture(one, 105, 0.03)[..., 0] for one in sketches]))
    for describe in (contours, blots):
        same = (describe(drawn) * describe(inks(sketches))).sum(axis=1)
        cross = describe(drawn) @ describe(inks(sketches)).T
        assert same.min() > 0.85
        assert (cross.argmax(axis=1) == np.arange(len(ITEMS))).all()
    assert inks_of_pictures(np.full((1, 20, 20), 255, np.uint8)).sum() == 0


def test_the_plane_puts_controls_where_they_belong() -> None:
    result = drawing(frame({"view": 1.0}), ways=10, permutations=50)
    value = {(e.quantity, e.label.removesuffix(" (control)")): e for e in result.estimates}
    spread = [value[DIVERSITY, name].value for name in ("copier", "bender", "wild bender", "stranger")]
    assert spread == sorted(spread)
    assert value[RECOGNISABILITY, "generator"].value > 0.9
    assert value[RECOGNISABILITY, "stranger"].value < 0.05
    assert value[RECOGNISABILITY, "wild bender"].high < value[RECOGNISABILITY, "bender"].low
    assert value["distance to people", "generator"].value < value["distance to people", "stranger"].low
    people = value["diversity difference", "view − generator"]
    assert people.low < 0 < people.high
    first = value["recognisability at originality 1", "wild bender"]
    assert first.low > value["recognisability at originality 4", "wild bender"].high


@pytest.mark.long
def test_a_condition_that_draws_the_wrong_sign_is_less_recognised_and_more_diverse() -> None:
    result = drawing(frame({"view": 0.95, "memory": 0.55}, people=10), ways=10, permutations=100)
    assert result.get("recognisability difference", "view − memory").low > 0.15
    assert result.get("diversity difference", "view − memory").high < 0
    above = result.get("recognisability above null", "memory")
    assert above.low > 0
    assert above.p == pytest.approx(1 / 101)
    own = result.get(RECOGNISABILITY, "view")
    assert own.extra["null"] < 0.3
    assert own.extra["chance"] == pytest.approx(1 / 10)


@pytest.mark.long
def test_samples_of_a_model_stand_beside_people(tmp_path: Path) -> None:
    held = {
        item: np.stack([picture(sketch(f"{item.split('/')[0]}/{3000 + n}"), 64, 0.03)[..., 0] for n in range(5)])
        for item in ITEMS
    }
    save_file(held, tmp_path / "vae.safetensors")
    result = drawing(
        frame({"view": 1.0}), samples=read_samples([tmp_path / "vae.safetensors"]), ways=10, permutations=20
    )
    assert result.get(RECOGNISABILITY, "vae").value > 0.85
    assert result.get("recognisability difference", "view − vae").n == 64 + 50
    del held[ITEMS[3]]
    with pytest.raises(LimenError, match=ITEMS[3]):
        drawing(frame({"view": 1.0}), samples={"vae": held}, ways=10, permutations=20)


@pytest.mark.parametrize(("content", "says"), [
    ({"a": np.zeros((3, 4, 4), np.float32)}, "uint8"), ({"a": np.zeros((1, 4, 4), np.uint8)}, "2 or more"),
])  # fmt: skip
def test_samples_of_another_shape_are_refused(tmp_path: Path, content: dict[str, np.ndarray], says: str) -> None:
    save_file(content, tmp_path / "m.safetensors")
    with pytest.raises(LimenError, match=says):
        read_samples([tmp_path / "m.safetensors"])
    with pytest.raises(LimenError, match="cannot be read"):
        read_samples([tmp_path / "none.safetensors"])
    with pytest.raises(LimenError, match="export of a drawing study"):
        read_drawings(tmp_path)


def test_a_frame_without_drawings_gives_no_number() -> None:
    assert drawing(pd.DataFrame({"participant_id": ["a"]})).flags == ("undefined",)


def simulated(draws: np.random.Generator, shift: float, easy: np.ndarray, people: int = 24) -> Group:
    """People and categories with random effects on recognisability; each person draws half of the categories."""
    count = len(easy)
    able = draws.normal(0, 0.1, people)
    category = np.concatenate([(p + 2 * np.arange(count // 2)) % count for p in range(people)])
    person = np.repeat(np.arange(people), count // 2)
    chances = np.zeros((len(category), count))
    noise = draws.normal(0, 0.15, len(category))
    chances[np.arange(len(category)), category] = 0.5 + shift + able[person] + easy[category] + noise
    places = draws.normal(size=(len(category), 6)) * (1 + 0.2 * easy[category])[:, None]
    return Group("g", person, category, chances, places, np.linalg.norm(places, axis=1), people=True)


def test_two_equal_groups_are_told_apart_at_the_nominal_rate_and_the_interval_holds_a_shift() -> None:
    draws = np.random.default_rng(5)
    rejected, held = {RECOGNISABILITY: 0, DIVERSITY: 0}, 0
    runs = 400
    for _ in range(runs):
        easy = draws.normal(0, 0.1, 20)
        one, other = simulated(draws, 0.1, easy), simulated(draws, 0.0, easy)
        same = simulated(draws, 0.0, easy)
        found = _difference(one, other, RECOGNISABILITY, 0.95)
        held += found.low <= 0.1 <= found.high
        for quantity in rejected:
            rejected[quantity] += _difference(same, other, quantity, 0.95).p < 0.05
    assert 0.015 <= rejected[RECOGNISABILITY] / runs <= 0.085
    assert rejected[DIVERSITY] / runs <= 0.085
    assert held / runs >= 0.92


def test_drawings_that_have_nothing_to_do_with_their_category_reject_at_the_nominal_rate() -> None:
    draws = np.random.default_rng(6)
    critic = Critic(("a",), np.zeros((1, 1, 1)), np.zeros((1, 1)), 20, 1, 0)
    runs, rejected = 300, 0
    for run in range(runs):
        group = simulated(draws, 0.0, np.zeros(8), people=6)
        free = Group(
            "g", group.person, group.category, draws.random((len(group.person), 8)), group.places, group.far, True
        )
        rejected += next(p.p for p in _absolute(free, RECOGNISABILITY, 99, run, 0.95, critic) if p.statistic) <= 0.05
    assert 0.015 <= rejected / runs <= 0.09
