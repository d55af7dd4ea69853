"""Simulated players with attention: strokes that the trial allows, at what stands out; without it a walk that agrees with nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from analysis.models.clickme import clickme
from psychophysics_server.bots.attention import attentive, standing_out
from psychophysics_server.bots.replies import walk
from stimuli.trials import Reveal

SIDE, PEOPLE, IMAGES = 64, 8, 10
ABOVE = "split-half correlation above null"


def pictures(folder: Path) -> list[Path]:
    """Draw grey noise with a bright square, each elsewhere."""
    draws, found = np.random.default_rng(0), []
    for number in range(IMAGES):
        picture = draws.integers(90, 110, (SIDE, SIDE, 3)).astype(np.uint8)
        row, column = draws.integers(4, SIDE - 20, 2)
        picture[row : row + 16, column : column + 16] = (250, 220, 40)
        found.append(folder / f"{number}.png")
        Image.fromarray(picture).save(found[-1])
    return found


def trial(mode: str = "reveal") -> Reveal:
    return Reveal(
        phase="test", image="0" * 64, word="cat", size=(SIDE, SIDE), mode=mode, max_boxes=60, box_px=8, step_px=4
    )  # type: ignore[arg-type]


def game(paths: list[Path], seed: int, attention: float) -> pd.DataFrame:
    """Let people play a round on each picture."""
    rows = []
    for number, path in enumerate(paths):
        for person in range(PEOPLE):
            draws = np.random.default_rng([seed, number, person])
            strokes = (
                attentive(trial(), path, 60, draws, attention=attention) if attention else walk(trial(), 60, draws)
            )
            rows.append(
                {
                    "participant_id": f"p{person}", "condition": "oracle", "item_id": f"i{number}", "width": SIDE,
                    "height": SIDE, "box_px": 8, "outcome": "timeout", "strokes": json.dumps(strokes),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("mode", ["reveal", "click"])
@pytest.mark.parametrize("attention", [0.3, 1.0])
def test_attentive_strokes_are_what_the_trial_allows(tmp_path: Path, mode: str, attention: float) -> None:
    path = pictures(tmp_path)[0]
    for seed in range(20):
        strokes = attentive(trial(mode), path, 100, np.random.default_rng(seed), attention=attention)
        assert len(strokes) == 60
        assert trial(mode).fault("done", {"strokes": strokes}) == ""


def test_the_cells_that_stand_out_lie_on_the_odd_object(tmp_path: Path) -> None:
    path = pictures(tmp_path)[0]
    rows, columns = (standing_out(path) * 2).T
    bright = np.asarray(Image.open(path))[..., 0] > 200
    assert bright[rows, columns].mean() > 0.5


def test_players_with_attention_agree(tmp_path: Path) -> None:
    found = clickme(game(pictures(tmp_path), 1, 0.9), side=16, halves=5).get(ABOVE, "oracle")
    assert found.low > 0.1


@pytest.mark.long
def test_players_who_walk_at_random_agree_no_more_than_the_null_at_the_nominal_rate(tmp_path: Path) -> None:
    """120 games: the index-permuted null lies inside the interval in about 95 of 100."""
    paths, misses, games = pictures(tmp_path), 0, 120
    for seed in range(games):
        found = clickme(game(paths, seed, 0.0), side=16, halves=5).get(ABOVE, "oracle")
        misses += not found.low <= 0 <= found.high
    low, high = stats.binom.interval(0.999, games, 0.05)
    assert low <= misses <= high
