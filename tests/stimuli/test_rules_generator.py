"""The rule generator: every problem follows its rule, nothing but the rule's own attribute tells the odd one, and seeds hold."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest

from bench.registry import LimenError
from stimuli.balance import seeded
from stimuli.rules.catalogue import COMPOSED, ELEMENTARY, RULES
from stimuli.rules.contours import SMALLEST_TURN, likeness, outline, profile
from stimuli.rules.layouts import CLEAR
from stimuli.rules.problems import SPLITS, problem, problems
from stimuli.rules.scene import COLOURS, draw, gap, inside, overlap
from stimuli.rules.values import Draw, differ

MANY = 160
SIZE = 32
GRID = 64
FEATURES = ("brightness", "area", "x", "y")
OWN = {
    "colour": {"brightness"},
    "size": {"area", "brightness"},
    "position": {"x", "y"},
    # One figure inside another lies nearer the middle of both; touching ones lie nearer each other.
    "inside": {"x", "y"},
    "contact": {"x", "y"},
}
"""Pixel statistics that a rule is itself about; on all others the odd one must not stand out."""


def scenes(rule: str, count: int = MANY):
    """Lay out problems without drawing them, the odd one last, each part of the rule broken in turn."""
    found = RULES[rule]
    for index in range(count):
        broken = found.parts[index % len(found.parts)]
        yield broken, found.figures(broken, Draw(seeded(5, rule, index), found.sides))


@cache
def statistics(rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (problems, 4, features) of the drawn pixels, and the place of the odd one."""
    made = problems(rule, MANY, "train", 3, size=GRID)
    pixels = made.pictures.astype(float)
    # About half covered, whatever the colour: the share of partly covered pixels grows with the count.
    ink = (pixels.min(axis=-1) < 155).astype(float)
    grid = np.arange(GRID)
    total = ink.sum(axis=(2, 3))
    x = (ink.sum(axis=2) * grid).sum(axis=-1) / total
    y = (ink.sum(axis=3) * grid).sum(axis=-1) / total
    return np.stack([pixels.mean(axis=(2, 3, 4)), total, x, y], axis=-1), made.odd


def hits(scores: np.ndarray, odd: np.ndarray) -> int:
    return int((scores.argmax(axis=1) == odd).sum())


CEILING = 64
"""More than 64 of 160 happen by chance (.25) in 1 of 100,000 comparisons, in 1 of 1,000 runs of the 85 made here."""


@pytest.mark.long
@pytest.mark.parametrize("rule", ELEMENTARY)
def test_no_pixel_statistic_gives_the_odd_one_away(rule):
    values, odd = statistics(rule)
    for number, name in enumerate(FEATURES):
        if name in OWN.get(rule, set()):
            continue
        one = values[..., number]
        apart = np.abs(one - np.median(one, axis=1, keepdims=True))
        for scores in (apart, one, -one):
            assert hits(scores, odd) <= CEILING, name


@pytest.mark.parametrize("rule", ["size", "position"])
def test_the_same_statistics_find_what_the_rule_is_about(rule):
    """The test above can fail: where the statistic is the rule's own, the odd one does stand out."""
    values, odd = statistics(rule)
    names = {"size": "area", "position": "x"}
    one = values[..., FEATURES.index(names[rule])]
    assert hits(np.abs(one - np.median(one, axis=1, keepdims=True)), odd) > CEILING


@pytest.mark.parametrize("rule", ["shape", "rotation", "flip", "count"])
def test_a_trained_classifier_on_all_statistics_stays_at_chance(rule):
    from sklearn.linear_model import LogisticRegression

    values, odd = statistics(rule)
    spread = values.std(axis=1, keepdims=True) + 1e-9
    centred = (values - values.mean(axis=1, keepdims=True)) / spread
    inputs = np.concatenate([centred, np.abs(centred)], axis=-1)
    half = MANY // 2
    target = np.arange(4) == odd[:, None]
    model = LogisticRegression(max_iter=500).fit(inputs[:half].reshape(-1, 8), target[:half].ravel())
    scores = model.decision_function(inputs[half:].reshape(-1, 8)).reshape(-1, 4)
    # 80 problems at chance .25: more than 33 in 1 of 1,000.
    assert hits(scores, odd[half:]) <= 33


def test_the_rules_are_the_nine_and_compositions_of_two():
    assert list(RULES)[:9] == list(ELEMENTARY)
    assert len(ELEMENTARY) == 9
    assert all(len(RULES[name].parts) == 2 for name in COMPOSED)
    assert len(COMPOSED) == 29


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_draws_problems_of_four_different_pictures(rule):
    made = problem(rule, 0, size=SIZE)
    assert made.pictures.shape == (4, SIZE, SIZE, 3)
    assert made.broken in RULES[rule].parts
    assert all((a != b).any() for a, b in itertools.combinations(made.pictures, 2))


@pytest.mark.parametrize("rule", ["colour", "shape-colour", "colour-count", "colour-contact", "colour-inside"])
def test_three_share_a_colour_and_the_odd_one_breaks_it_when_it_should(rule):

    for broken, pictures in scenes(rule, 12):
        colours = [{figure.colour for figure in picture if figure.filled} for picture in pictures]
        assert colours[0] == colours[1] == colours[2]
        assert len(colours[0]) == 1
        assert (colours[3] != colours[0]) == (broken == "colour")


def test_three_share_a_count_and_the_odd_one_has_another():
    for _, pictures in scenes("count", 40):
        assert len({len(picture) for picture in pictures[:3]}) == 1
        assert len(pictures[3]) != len(pictures[0])


@pytest.mark.long
def test_the_area_of_counted_figures_does_not_depend_on_their_count():
    areas: dict[int, list[float]] = {}
    for _, pictures in scenes("count", 60):
        for picture in pictures:
            areas.setdefault(len(picture), []).append(sum(polygon_area(figure.points) for figure in picture))
    means = {count: np.mean(given) for count, given in areas.items()}
    assert max(means.values()) - min(means.values()) < 0.008
    assert all(0.055 < value < 0.105 for given in areas.values() for value in given)


def polygon_area(points: np.ndarray) -> float:
    after = np.roll(points, -1, axis=0)
    return float(abs((points[:, 0] * after[:, 1] - points[:, 1] * after[:, 0]).sum()) / 2)


def test_sizes_are_shared_and_the_odd_one_differs_by_the_ratio():
    for _, pictures in scenes("size", 40):
        sides = [np.sqrt(polygon_area(picture[0].points)) for picture in pictures]
        assert np.allclose(sides[:3], sides[0])
        assert max(sides[3], sides[0]) / min(sides[3], sides[0]) > 1.39


def test_places_are_shared_and_the_odd_one_lies_apart():
    for _, pictures in scenes("position", 20):
        centres = [centre_of(picture[0].points) for picture in pictures]
        assert np.allclose(centres[:3], centres[0])
        assert np.hypot(*(centres[3] - centres[0])) >= 0.2


def test_the_filled_figure_is_inside_in_three_and_outside_in_the_odd_one():
    for _, pictures in scenes("inside", 15):
        for number, (host, small) in enumerate(pictures):
            assert inside(small.points, host.points).all() == (number < 3)
            assert number < 3 or not overlap(small.points, host.points)
            assert gap(small.points, host.points) >= CLEAR


def test_the_figures_touch_in_three_and_not_in_the_odd_one():
    for _, pictures in scenes("contact", 15):
        for number, (host, small) in enumerate(pictures):
            assert not overlap(small.points, host.points)
            distance = gap(small.points, host.points)
            assert distance < 0.02 if number < 3 else distance >= CLEAR


def test_rotation_turns_the_same_shape():
    for _, pictures in scenes("rotation", 20):
        radii = [radial(picture[0].points) for picture in pictures]
        assert all(np.corrcoef(radii[0], one)[0, 1] > 0.999 for one in radii[1:3])
        assert np.corrcoef(radii[0], radii[3])[0, 1] < 0.9
        assert likeness(radii[0], radii[3]) > 0.98


def radial(points: np.ndarray) -> np.ndarray:
    """Return a contour's distances from its centre at equally spaced directions."""
    centre = centre_of(points)
    offset = points - centre
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    grid = np.linspace(-np.pi, np.pi, len(points), endpoint=False)
    order = np.argsort(angle)
    return np.interp(grid, angle[order], np.hypot(*offset.T)[order], period=2 * np.pi)


def centre_of(points: np.ndarray) -> np.ndarray:
    """Intersect the chords of opposite vertices, which all pass through the centre."""
    half = len(points) // 2
    along = points[half:] - points[:half]
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    return np.linalg.lstsq(normal, (normal * points[:half]).sum(axis=1), rcond=None)[0]


def test_flip_mirrors_the_same_shape():
    from stimuli.rules.contours import _turned

    for _, pictures in scenes("flip", 20):
        radii = [radial(picture[0].points) for picture in pictures]
        assert all(_turned(radii[0], one).max() > 0.97 for one in radii[1:3])
        assert _turned(radii[0], radii[3]).max() < 0.85
        assert _turned(radii[0], radii[3][::-1]).max() > 0.97


def test_shapes_are_shared_up_to_turn_and_mirror():
    for _, pictures in scenes("shape", 20):
        radii = [radial(picture[0].points) for picture in pictures]
        assert all(likeness(radii[0], one) > 0.97 for one in radii[1:3])
        assert likeness(radii[0], radii[3]) < 0.65


def test_all_figures_lie_within_the_picture():
    for rule in RULES:
        for _, pictures in scenes(rule, 2):
            points = np.concatenate([figure.points for picture in pictures for figure in picture])
            assert 0 <= points.min() <= points.max() <= 1, rule


def test_shared_and_odd_values_are_drawn_alike():
    pairs = [Draw(seeded(1, "alike", index)).pair("size") for index in range(800)]
    shared, odd = np.log(np.array(pairs)).T
    # Two means of 800 draws with a standard deviation near .25: their difference has a standard error of about .018.
    assert abs(shared.mean() - odd.mean()) < 0.06
    assert abs(shared.std() - odd.std()) < 0.04


def test_the_same_seed_gives_the_same_pixels_and_another_does_not():
    first = problem("inside", 7, "val", 11, size=SIZE)
    again = problem("inside", 7, "val", 11, size=SIZE)
    assert (first.pictures == again.pictures).all()
    assert (problem("inside", 7, "val", 12, size=SIZE).pictures != again.pictures).any()


def test_smaller_training_sets_are_the_beginning_of_larger_ones():
    few, many = problems("colour", 5, size=SIZE), problems("colour", 9, size=SIZE)
    assert (many.pictures[:5] == few.pictures).all()
    assert many.odd[:5].tolist() == few.odd.tolist()


def test_splits_share_no_problem():
    shown = [problem("colour", 0, split, size=SIZE).pictures for split in SPLITS]
    assert all((a != b).any() for a, b in itertools.combinations(shown, 2))


def test_contours_out_of_distribution_are_finer():
    near = [profile(np.random.default_rng(i)) for i in range(20)]
    far = [profile(np.random.default_rng(i), (4, 9)) for i in range(20)]
    rough = [np.mean([np.abs(np.diff(one)).mean() for one in group]) for group in (near, far)]
    assert rough[1] > 1.2 * rough[0]


@pytest.mark.parametrize("rule", ["colour", "shape-colour"])
def test_places_and_broken_parts_are_balanced(rule):
    made = problems(rule, 24, size=16)
    assert np.bincount(made.odd, minlength=4).tolist() == [6] * 4
    parts = RULES[rule].parts
    assert [made.broken.count(part) for part in parts] == [24 // len(parts)] * len(parts)
    crossed = {(int(place), part) for place, part in zip(made.odd, made.broken, strict=True)}
    assert len(crossed) == 4 * len(parts)


def test_pictures_stand_on_white_and_are_anti_aliased():
    picture = problem("colour", 0, size=64).pictures[0]
    assert (picture[0] == 255).all()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5


def test_a_drawn_figure_covers_its_area():
    points = outline(profile(np.random.default_rng(0)), side=0.3, turn=20, mirrored=False, at=(0.5, 0.5))
    from stimuli.rules.scene import Figure

    pixels = draw((Figure(points, "black"),), 128)
    assert (255 - pixels[..., 0].astype(float)).mean() / 255 == pytest.approx(0.09, rel=0.03)


def test_turns_of_less_than_the_threshold_do_not_count_as_different():
    assert not differ("rotation", 350.0, 350.0 + SMALLEST_TURN - 361)
    assert differ("rotation", 350.0, 40.0)


# Viénot, Brettel and Mollon's projections on the colours that dichromats see, in linear RGB.
PROTAN = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTAN = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


def lab(linear: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / np.array([0.9505, 1, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", [np.eye(3), PROTAN, DEUTAN], ids=["normal", "protan", "deutan"])
def test_colours_are_told_apart_by_dichromats_and_from_white(seen):
    linear = {
        name: ((np.array(rgb) / 255 + 0.055) / 1.055) ** 2.4 for name, rgb in [*COLOURS.items(), ("white", (255,) * 3)]
    }
    places = {name: lab(np.clip(seen @ value, 0, 1)) for name, value in linear.items()}
    distances = {pair: np.linalg.norm(places[pair[0]] - places[pair[1]]) for pair in itertools.combinations(places, 2)}
    assert min(distances.values()) > 10, min(distances, key=distances.get)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: problem("color", 0), "colour"),
        (lambda: problems("colour", 0), "1 or more"),
        (lambda: problem("colour", 0, "training"), "train"),
        (lambda: problem("colour", 0, size=8), "16 or more"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, said):
    with pytest.raises(LimenError) as refused:
        call()
    assert said in str(refused.value)
