"""Synthetic studies with planted effects, in the shape of the server's export."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.records import Score, columns
from psychophysics_server.records import ADDED, EXPORT_SCHEMA, ResponseRow, SessionRow

ACCURACY = {
    "baseline": (0.56, 0.60, 0.62),
    "control": (0.55, 0.60, 0.61),
    "grad_cam": (0.70, 0.78, 0.82),
    "occlusion": (0.66, 0.72, 0.75),
    "rise": (0.62, 0.68, 0.70),
    "saliency": (0.57, 0.62, 0.64),
}
"""Planted accuracy by condition and session."""


@dataclass(frozen=True)
class Synthetic:
    """What to simulate; `people` per condition, of whom some fail a check or leave."""

    accuracy: dict[str, tuple[float, ...]]
    people: int = 20
    careless: int = 1
    leavers: int = 1
    source: str = "bot"
    seed: int = 0
    person_sd: float = 0.5
    item_sd: float = 0.5


def _logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def simulate(plan: Synthetic) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate the answers (ResponseRow) and the people (SessionRow) of a utility study: 3 sessions of 5 + 7."""
    rng = np.random.default_rng(plan.seed)
    items = rng.normal(0, plan.item_sd, size=(3, 7))
    wrong = np.arange(7) % 2
    rows, people = [], []
    for condition, accuracies in plan.accuracy.items():
        for index in range(plan.people + plan.careless + plan.leavers):
            careless = plan.people <= index < plan.people + plan.careless
            leaves = index >= plan.people + plan.careless
            person = f"p{rng.integers(16**10):010x}"
            skill = rng.normal(0, plan.person_sd)
            cell = f"{condition}-0"
            base = {
                "study": "scenes-utility", "study_version": 1, "stimuli": "5f0c2b7a9d3e4c1b8a6f7e2d",
                "source": plan.source, "participant_id": person, "cell": cell, "condition": condition, "list": 0,
            }  # fmt: skip
            reason = "catch_accuracy" if careless else ""
            seq, right = 0, []
            for session, accuracy in enumerate(accuracies[: 1 if leaves else None], start=1):
                for trial in range(12):
                    test = trial >= 5
                    item = trial - 5 if test else trial
                    p = (
                        0.5
                        if careless
                        else 1 / (1 + np.exp(-(_logit(accuracy) + skill + items[session - 1, item % 7])))
                    )
                    correct = float(rng.random() < p) if test else np.nan
                    right.append(correct)
                    expected = "day" if item % 2 else "night"
                    rows.append({
                        **ADDED, **base, "row_id": f"{person}-{seq}", "seq": seq, "position": seq, "block": f"session {session}",
                        "session": session, "phase": "test" if test else "train", "trial_type": "predict",
                        "trial_id": f"t{session}{trial:02d}", "item_id": f"image-{session}-{trial}", "is_catch": False,
                        "attempt": 1, "k_seen": 5 * session if test else 5 * (session - 1) + trial,
                        "response": expected if correct == 1 else "other", "expected": expected if test else "",
                        "correct": correct, "model_correct": float(wrong[item % 7]),
                        "rt_ms": float(np.round(rng.lognormal(7.3, 0.4), 1)), "onset_ms": 12.5, "frame_ms": 16.7,
                        "dropped_frames": 0, "input": "key", "focus_lost": 0, "reservoir_ms": 0.0, "window": "1280x800",
                        "pixel_ratio": 1.0, "elapsed_s": float(seq * 3), "excluded": careless, "exclusion_reason": reason,
                    })  # fmt: skip
                    seq += 1
            held = np.array(right, dtype=float)
            people.append({
                **base, "reason": "", "consent_version": "1", "day": 0, "schedule_seed": "7", "browser": "Firefox",
                "system": "Linux", "px_per_cm": np.nan, "frame_ms": 16.7, "fullscreen": "no", "flags": "", "decision": "",
                "state": "EXPIRED" if leaves else "COMPLETE", "consented": True, "finished": not leaves,
                "trials_held": seq, "trials_planned": 36, "resumes": 0, "total_seconds": float(seq * 3),
                "practice_attempts": 1, "catch_accuracy": 0.2 if careless else 1.0,
                "test_accuracy": float(np.nanmean(held)), "median_rt_ms": 1500.0, "same_side_share": 0.5,
                "excluded": careless, "exclusion_reason": reason,
            })  # fmt: skip
    names = list(ResponseRow.__dataclass_fields__)
    return pd.DataFrame(rows)[names], pd.DataFrame(people).reindex(columns=list(SessionRow.__dataclass_fields__))


def write_folder(folder: Path, trials: pd.DataFrame, sessions: pd.DataFrame) -> Path:
    """Write an export folder as the server does."""
    data = folder / "data"
    data.mkdir(parents=True)
    study = "scenes-utility"
    out = trials["excluded"].astype(bool)
    trials[~out].to_csv(data / f"study-{study}_data.csv", index=False)
    trials[out].to_csv(data / f"study-{study}_description-excluded_data.csv", index=False)
    sessions.to_csv(data / f"study-{study}_description-sessions_data.csv", index=False)
    provenance = {
        "schema": EXPORT_SCHEMA,
        "stimuli": "5f0c2b7a9d3e4c1b8a6f7e2d",
        "parents": ["runs/ab12", "images/cd34"],
        "rows": len(trials),
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


@pytest.fixture
def synthetic_export(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a synthetic export; `edit` may damage the tables first."""

    def build(
        edit: Callable[[pd.DataFrame, pd.DataFrame], tuple[pd.DataFrame, pd.DataFrame]] | None = None,
        accuracy: dict[str, tuple[float, ...]] | None = None,
        name: str = "export",
        **options: object,
    ) -> Path:
        trials, sessions = simulate(Synthetic(accuracy or ACCURACY, **options))
        if edit is not None:
            trials, sessions = edit(trials, sessions)
        return write_folder(tmp_path / name, trials, sessions)

    return build


def score_frame(seed: int = 0) -> pd.DataFrame:
    """Make a bench score table of four metrics for the methods of `ACCURACY`."""
    rng = np.random.default_rng(seed)
    metrics = {"deletion": ("faithfulness", "down"), "insertion": ("faithfulness", "up"),
               "mu_fidelity": ("faithfulness", "up"), "sparseness": ("complexity", "none")}  # fmt: skip
    rows = []
    for metric, (question, direction) in metrics.items():
        for index, method in enumerate(("grad_cam", "occlusion", "rise", "saliency")):
            value = 0.5 + (-1 if direction == "down" else 1) * 0.06 * (3 - index) + float(rng.normal(0, 0.03))
            gain = abs(value - 0.5)
            rows.append({
                "network": "resnet@scenes", "images": "scenes", "subject": "attribution", "method": method, "options": "",
                "layer": "", "metric": metric, "question": question, "direction": direction, "value": value,
                "low": value - 0.03, "high": value + 0.03, "null": 0.5, "null_low": 0.48, "null_high": 0.52, "gain": gain,
                "gain_low": gain - 0.04, "gain_high": gain + 0.04, "at_null": bool(gain < 0.04), "ceiling": np.nan, "n": 64,
                "seconds": 1.0, "forwards": 64, "backwards": 0, "convention": "logit, mean baseline",
            })  # fmt: skip
    return pd.DataFrame(rows)[columns(Score)]


@pytest.fixture
def score_table(tmp_path: Path) -> Path:
    """A score table as `limen bench table --format csv` writes it."""
    path = tmp_path / "scores.csv"
    score_frame().to_csv(path, index=False)
    return path
