"""Figures of any result: what they show is what the result holds, the same bytes each time, readable in both themes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import figures
from analysis.figures.picture import Picture
from analysis.figures.style import PALETTE
from analysis.results import Estimate, Result
from bench.registry import LimenError

NAMES = ("none", "saliency", "grad_cam", "control")


def estimate(quantity: str, label: str, value: float, **further: object) -> Estimate:
    half = 0.06
    given = {"low": value - half, "high": value + half, "n": 24} | further
    return Estimate(quantity=quantity, label=label, value=value, **given)  # type: ignore[arg-type]


def people(labels: tuple[str, ...], n: int = 24) -> pd.DataFrame:
    draws = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"label": label, "value": float(np.clip(draws.normal(0.6 + 0.05 * place, 0.08), 0, 1))}
            for place, label in enumerate(labels)
            for _ in range(n)
        ]
    )


def one_factor() -> Result:
    found = [estimate("accuracy of condition", name, 0.6 + 0.05 * i) for i, name in enumerate(NAMES)]
    found += [
        estimate("accuracy difference of condition", f"{name} - none", 0.05 * i, p=p, p_adjusted=p)
        for i, (name, p) in enumerate(zip(NAMES[1:], (0.2, 0.03, 0.0002), strict=True))
    ]
    return Result(name="crossed", title="Mixed model", role="primary", method="", estimates=tuple(found),
                  points=people(NAMES))  # fmt: skip


def two_factors(seconds: tuple[str, ...]) -> Result:
    found = [estimate("accuracy of task", name, 0.6) for name in ("easy x hard", "plain")]
    found += [estimate("accuracy of condition", name, 0.6) for name in seconds]
    labels = [f"{first} x {second}" for first in ("easy x hard", "plain") for second in seconds]
    found += [estimate("accuracy of task x condition", label, 0.5 + 0.03 * i) for i, label in enumerate(labels)]
    return Result(name="crossed", title="Mixed model", role="primary", method="", estimates=tuple(found),
                  points=people(tuple(labels), 8))  # fmt: skip


def preference() -> Result:
    found = [estimate("preference", name, 0.35 + 0.1 * i, extra={"null": 0.5}) for i, name in enumerate(NAMES)]
    found += [
        Estimate(quantity="share", label=name, value=0.37 + 0.08 * i, n=300, unit="choices")
        for i, name in enumerate(NAMES)
    ]
    return Result(name="preference", title="Preference", role="primary", method="", estimates=tuple(found))


def times() -> Result:
    draws = np.random.default_rng(1)
    rows = [
        {"label": name, "seconds": float(np.exp(draws.normal(0.8 + 0.15 * i, 0.5))), "participant_id": f"p{person}"}
        for i, name in enumerate(NAMES)
        for person in range(8)
        for _ in range(12)
    ]
    return Result(name="times", title="Times", role="secondary", method="", points=pd.DataFrame(rows))


def psychometric() -> Result:
    from scipy.stats import norm

    levels = np.linspace(-2, 2, 6)
    grid = np.linspace(-2.2, 2.2, 80)
    found, curves = [], {}
    for i, name in enumerate(("photo", "sketch")):
        curve = lambda x, i=i: 0.5 + 0.47 * norm.cdf(1.4 * (np.asarray(x) - 0.3 * i))  # noqa: E731
        curves[name] = {"level": grid.tolist(), "accuracy": curve(grid).tolist()}
        found += [
            estimate(
                "accuracy at level", name, float(curve(x)), extra={"level": float(x)}, n=40 * (j + 1), unit="trials"
            )
            for j, x in enumerate(levels)
        ]
        found.append(
            Estimate(quantity="threshold", label=name, value=0.3 * i, low=0.3 * i - 0.2, high=0.3 * i + 0.2, n=840)
        )
    return Result(name="psychometric", title="Psychometric", role="secondary", method="", estimates=tuple(found),
                  facts={"curves": curves})  # fmt: skip


def calibrated() -> Result:
    found = [
        estimate(
            "accuracy at confidence",
            "all answers",
            0.5 + 0.4 * place,
            extra={"confidence": place},
            n=30 + 40 * i,
            unit="answers",
        )
        for i, place in enumerate((0.1, 0.3, 0.5, 0.7, 0.9))
    ]
    return Result(name="confidence", title="Confidence", role="secondary", method="", estimates=tuple(found))


def rated() -> Result:
    draws = np.random.default_rng(2)
    rows = [
        {"label": name, "rating": float(draws.choice(5, p=np.roll([0.05, 0.15, 0.3, 0.3, 0.2], i)) + 1)}
        for i, name in enumerate(NAMES)
        for _ in range(80)
    ]
    return Result(name="ratings", title="Ratings", role="secondary", method="", points=pd.DataFrame(rows))


def maps() -> Result:
    draws = np.random.default_rng(3)
    rows = [
        {
            "quantity": "split-half ceiling",
            "condition": name,
            "value": draws.normal(0.6, 0.1),
            "null": draws.normal(0.15, 0.1),
        }
        for name in ("dog", "cat")
        for _ in range(25)
    ]
    found = [estimate("split-half ceiling", name, 0.75, unit="images", n=25) for name in ("dog", "cat")]
    found += [estimate("split-half correlation above null", name, 0.45, unit="images", n=25) for name in ("dog", "cat")]
    return Result(
        name="clickme", title="Maps", role="primary", method="", estimates=tuple(found), points=pd.DataFrame(rows)
    )


DRAWN = {
    "one factor": lambda: figures.level_means(one_factor(), "accuracy of condition", chance=0.5),
    "two factors as colours": lambda: figures.level_means(
        two_factors(NAMES[:3]), "accuracy of task x condition", chance=0.5
    ),
    "two factors as panels": lambda: figures.level_means(
        two_factors((*NAMES, "ig")), "accuracy of task x condition", chance=0.5
    ),
    "contrasts": lambda: figures.contrast_forest(one_factor(), "accuracy difference of condition"),
    "strengths": lambda: figures.strengths(preference()),
    "times": lambda: figures.reaction_times(times(), order=NAMES),
    "psychometric": lambda: figures.psychometric_function(psychometric(), chance=0.5, xlabel="Contrast (log units)"),
    "calibration": lambda: figures.calibration(calibrated(), chance=0.5),
    "ratings": lambda: figures.rating_shares(rated(), ends=("not at all", "very"), order=NAMES),
    "against null": lambda: figures.against_null(maps(), "split-half ceiling"),
}
"""One figure of each kind, of data made up here."""


@pytest.fixture(scope="module")
def drawn() -> dict[str, Picture]:
    return {name: make() for name, make in DRAWN.items()}


def said(picture: Picture) -> set[str]:
    """Return the texts of a picture; its letters are drawn as paths, and each text stands beside them as a comment."""
    return {text.strip() for text in re.findall(r"<!--(.*?)-->", picture.svg, re.S)}


@pytest.mark.parametrize("name", ["one factor", "contrasts", "ratings"])
def test_the_same_input_gives_the_same_bytes(drawn, name):
    again = DRAWN[name]()
    assert (again.svg, again.inline, again.png) == (drawn[name].svg, drawn[name].inline, drawn[name].png)


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_says_its_n(drawn, name):
    assert any(re.search(r"n = [\d,]+", text) for text in said(drawn[name]))


def test_chance_is_drawn_and_named(drawn):
    for name in ("one factor", "two factors as colours", "two factors as panels", "strengths", "psychometric"):
        assert "chance 50 %" in said(drawn[name])
    assert "chance" in said(drawn["calibration"])


def test_axes_name_what_they_measure_and_its_unit(drawn):
    assert "Accuracy (%), mean with 95 % interval" in said(drawn["one factor"])
    assert "Accuracy difference of condition (percentage points), n = 24 participants" in said(drawn["contrasts"])
    assert any(text.startswith("Response time (s, logarithmic)") for text in said(drawn["times"]))
    assert {"Confidence (%)", "Accuracy (%)", "answers"} <= said(drawn["calibration"])


def test_ids_are_one_pictures_own(drawn):
    ids = [found for picture in drawn.values() for found in set(re.findall(r'\bid="([^"]+)"', picture.inline))]
    names = [picture.name for picture in drawn.values()]
    doubled = {name for name in names if names.count(name) > 1}
    assert doubled == {"crossed_accuracy_of_task_x_condition"}, "drawn twice here, as colours and as panels"
    assert len([one for one in ids if not one.startswith(tuple(doubled))]) == len(
        {one for one in ids if not one.startswith(tuple(doubled))}
    )


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_in_a_page_takes_its_colours_from_the_page_and_nothing_from_outside(drawn, name):
    body = drawn[name].inline
    ET.fromstring(body)
    assert not re.search(r"(?:fill|stroke): #(?:1d2329|5f6872|d8dde2|ffffff|0072b2)", body)
    assert set(re.findall(r'href="([^#"][^"]*)"', body)) == set()


def test_the_palette_is_told_apart_by_colour_blind_eyes():
    """Machado, Oliveira and Fernandes (2009), severity 1: every two colours stay apart in CIELAB."""
    rgb = np.array([[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    }
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for matrix in [np.eye(3).tolist(), *seen.values()]:
        xyz = np.clip(linear @ np.array(matrix).T, 0, 1) @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
        gaps = np.linalg.norm(lab[:, None] - lab[None], axis=2)
        assert gaps[np.triu_indices(len(PALETTE), 1)].min() > 12


def test_every_raw_point_is_drawn_where_it_lies():
    from matplotlib.figure import Figure

    from analysis.figures.rows import strip

    values = np.array([0.5, 0.5, 0.5, 0.75, 0.9])
    axes = Figure().subplots()
    strip(axes, values, 0.0, PALETTE[0])
    places = np.concatenate([np.asarray(one.get_offsets()) for one in axes.collections])
    assert sorted(places[:, 0]) == sorted(values)
    assert len({tuple(place) for place in places.tolist()}) == len(values), "equal values stand beside each other"


def test_levels_of_two_factors_are_split_where_their_names_hold_the_sign_between_them(drawn):
    assert {"easy x hard", "plain", "saliency"} <= said(drawn["two factors as colours"])
    assert "hard x saliency" not in said(drawn["two factors as colours"])


def test_several_quantities_of_the_same_labels_become_colours():
    sides = ("accuracy, machine right", "accuracy, machine wrong")
    items = tuple(estimate(side, name, 0.7) for side in sides for name in NAMES)
    found = Result(name="agreement", title="", role="primary", method="", estimates=items)
    texts = said(figures.level_means(found, sides, chance=0.5))
    assert {"machine right", "machine wrong"} <= texts
    assert not any("accuracy, machine" in text for text in texts)


def test_only_a_contrast_that_was_told_apart_is_filled():
    from analysis.figures.forest import _told_apart

    by_label = {item.label: _told_apart(item, 0.05) for item in one_factor().of("accuracy difference of condition")}
    assert by_label == {"saliency - none": False, "grad_cam - none": True, "control - none": True}
    assert not _told_apart(estimate("x", "untested", 1.0), 0.05)


def test_shares_of_ratings_are_counted(drawn):
    rows = rated().points
    assert rows is not None
    share = 100 * float((rows.loc[rows["label"] == "none", "rating"] == 4).mean())
    assert f"{share:.0f}" in said(drawn["ratings"])
    assert "4 (very)" not in said(drawn["ratings"])
    assert "5 (very)" in said(drawn["ratings"])


def test_a_png_is_on_white():
    picture = figures.contrast_forest(one_factor(), "accuracy difference of condition")
    import io

    assert Image.open(io.BytesIO(picture.png)).convert("RGB").getpixel((1, 1)) == (255, 255, 255)


def test_an_interval_that_does_not_exist_is_said_to_be_missing():
    items = tuple(estimate("accuracy of condition", name, 0.6, low=np.nan, high=np.nan) for name in NAMES)
    found = Result(name="crossed", title="", role="primary", method="", estimates=items)
    assert any("no interval" in text for text in said(figures.level_means(found, "accuracy of condition")))


def test_a_result_gets_the_figures_of_its_quantities():
    drawn = [picture.name for picture in figures.pictures_of(one_factor(), chance=0.5)]
    assert drawn == ["crossed_accuracy_of_condition", "crossed_accuracy_difference_of_condition"]
    assert [picture.name for picture in figures.pictures_of(preference())] == ["preference_preference"]
    assert [picture.name for picture in figures.pictures_of(maps())] == ["clickme_split_half_ceiling"]
    assert [picture.name for picture in figures.pictures_of(psychometric())] == ["psychometric_psychometric"]


def test_steps_of_confidence_have_no_line_of_perfect_calibration():
    items = tuple(
        estimate(
            "accuracy at confidence",
            f"none: step {step}",
            0.4 + 0.1 * step,
            extra={"condition": "none", "confidence": step},
            unit="answers",
        )
        for step in (1.0, 2.0, 3.0)
    )
    found = Result(name="c", title="", role="secondary", method="", estimates=items, facts={"scale": "steps"})
    texts = said(figures.calibration(found, chance=0.5))
    assert "calibrated" not in texts
    assert {"Confidence (step of the scale)", "1", "2", "3", "none (n = 72)"} <= texts


def test_estimated_shares_of_answers_become_the_same_bars_as_the_answers():
    rows = rated().points
    assert rows is not None
    items = tuple(
        estimate("share of answers", f"{name}: {value:g}", float((part["rating"] == value).mean()),
                 extra={"level": name, "answer": value, "answers": len(part)})
        for name, part in rows.groupby("label")
        for value in (1.0, 2.0, 3.0, 4.0, 5.0)
    )  # fmt: skip
    found = Result(name="ratings", title="", role="secondary", method="", estimates=items)
    (picture,) = figures.pictures_of(found)
    assert picture.svg == figures.rating_shares(rated()).svg


def test_ratios_stand_beside_one_and_times_have_their_unit():
    quantities = {"response time of condition": 1800.0, "response time ratio of condition": 1.2}
    items = [estimate(q, name, v, low=0.9 * v, high=1.1 * v) for q, v in quantities.items() for name in NAMES]
    medians = pd.DataFrame({"condition": NAMES, "participant_id": "p1", "median_ms": 1750.0})
    found = Result(name="reaction_time", title="", role="secondary", method="", estimates=tuple(items), points=medians)
    means, ratios = figures.pictures_of(found, chance=0.5)
    assert "Response time (ms), mean with 95 % interval" in said(means)
    assert not any("chance" in text for text in said(means))
    assert "Response time ratio of condition (1 = no difference), n = 24 participants" in said(ratios)


def test_raw_points_of_one_kind_never_stand_behind_another():
    from analysis.figures.rows import points_behind, raw_points

    medians = pd.DataFrame({"condition": ["none"], "median_ms": [1750.0]})
    found = Result(name="x", title="", role="secondary", method="", points=medians)
    table = raw_points(found)
    assert points_behind(table, estimate("response time of condition", "none", 1800.0)).tolist() == [1750.0]
    assert not len(points_behind(table, estimate("share of times left out", "none", 0.1)))


def test_a_result_without_numbers_gets_no_figure():
    refused = Result(name="crossed", title="", role="primary", method="", flags=("separation",))
    nothing = Result(name="x", title="", role="primary", method="", estimates=(estimate("accuracy", "a", np.nan),) * 2)
    assert figures.pictures_of(refused) == figures.pictures_of(nothing) == []


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (
            lambda: figures.level_means(one_factor(), "accuracy of task"),
            "no estimate of 'accuracy of task'; the result has",
        ),
        (lambda: figures.reaction_times(one_factor()), "points need the columns label and seconds"),
        (lambda: figures.rating_shares(rated(), scale=(1, 2, 3, 4)), "given 5, allowed are 1, 2, 3, 4"),
        (
            lambda: figures.against_null(one_factor(), "accuracy"),
            "no points of 'accuracy' with the columns value and null",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(draw, sentence):
    with pytest.raises(LimenError, match=re.escape(sentence)):
        draw()
