"""Whether an answer is right: the one place that says so, for rows, checks and what a person is told."""

from __future__ import annotations

import math

from .frozen import Trial


def correctness(trial: Trial, response: str, text: str = "") -> float:
    """Return 1 or 0 for an answer to a trial that has a right one, NaN elsewhere.

    A free answer is right if it is the expected text, or the same number.
    """
    if not trial.asks:
        return math.nan
    free = not trial.options and trial.trial_type == "choice"
    given = text.strip() if free and text.strip() else response
    if given in trial.accepted:
        return 1.0
    if not free:
        return 0.0
    try:
        return float(float(given) == float(trial.expected))
    except ValueError:
        return 0.0
