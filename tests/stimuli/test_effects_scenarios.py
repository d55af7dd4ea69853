"""The example studies of utility's scenarios on the analysis level: what their people are given is found, and nothing given is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from analysis.models.utility import utility
from stimuli.records import StudyFile
from stimuli.study import load_study, resolve

FOLDER = Path(__file__).parents[2] / "configs" / "studies"
FILES = ("utility_bias", "utility_confusable", "utility_expert")
STUDIES, PEOPLE = 300, 30
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)


def answers(file: StudyFile, accuracy: dict[str, tuple[float, ...]], draws: np.random.Generator) -> pd.DataFrame:
    """Simulate the test answers of one study with the file's sessions, images and spreads; all conditions see the same images."""
    design, bots, rows = resolve(file).options, file.bots, []
    assert bots is not None
    for condition, stated in accuracy.items():
        ability = draws.normal(0, bots.participant_sd, PEOPLE)
        for session, share in enumerate(stated, start=1):
            logits = special.logit(share) + ability[:, None] + np.zeros(design["test"])
            right = draws.random(logits.shape) < (1 - bots.lapse) * special.expit(logits) + bots.lapse / 2
            rows.append(
                pd.DataFrame(
                    {
                        "participant_id": np.repeat([f"{condition} {i}" for i in range(PEOPLE)], design["test"]),
                        "condition": condition,
                        "session": session,
                        "k_seen": session * design["train"],
                        "correct": right.ravel().astype(float),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def population(file: StudyFile, stated: tuple[float, ...]) -> float:
    """Return the mean accuracy over sessions and all people there could be."""
    bots = file.bots
    assert bots is not None
    shares = special.expit(special.logit(np.array(stated))[:, None] + bots.participant_sd * NODES)
    return float(((1 - bots.lapse) * shares @ (WEIGHTS / WEIGHTS.sum()) + bots.lapse / 2).mean())


@pytest.mark.parametrize("name", FILES)
def test_the_accuracies_of_the_study_file_come_back(name: str) -> None:
    file, draws = load_study(FOLDER / f"{name}.yaml"), np.random.default_rng(1)
    assert file.bots is not None
    accuracy = dict(file.bots.accuracy) | ({"grad_cam": (0.7, 0.75, 0.8)} if name == "utility_bias" else {})
    found = utility(answers(file, accuracy, draws), bootstrap=0)
    for condition in file.conditions:
        if condition != "baseline":
            given = population(file, accuracy[condition]) / population(file, accuracy["baseline"])
            item = found.get("utility (ratio_of_means)", condition)
            # Five comparisons at most: an interval of 95 % that misses by less than its own width is no surprise.
            assert item.low - (item.high - item.low) / 2 <= given <= item.high + (item.high - item.low) / 2


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("effect", [False, True])
def test_the_interval_of_utility_misses_at_the_nominal_rate(name: str, effect: bool) -> None:
    """300 studies of 2 x 30 people: the true Utility, one at zero effect, is left out in about 5 of 100."""
    file, draws, misses = load_study(FOLDER / f"{name}.yaml"), np.random.default_rng([2, effect]), 0
    assert file.bots is not None
    base = file.bots.accuracy["baseline"]
    other = tuple(share + 0.12 for share in base) if effect else base
    given = population(file, other) / population(file, base)
    for _ in range(STUDIES):
        table = answers(file, {"baseline": base, "grad_cam": other}, draws)
        item = utility(table, bootstrap=0).get("utility (ratio_of_means)", "grad_cam")
        misses += not item.low <= given <= item.high
    low, high = stats.binom.interval(0.999, STUDIES, 0.05)
    assert low <= misses <= high
