"""Trained against untrained: does a metric of dictionaries know whether the network has learned anything?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from . import api
from .engine import Engine
from .engine.randomise import reinitialised
from .registry import LimenError
from .spaces import ConceptData, Dictionary

Fit = Callable[[Tensor, int], Dictionary]
COLUMNS = (
    "metric", "direction", "trained", "untrained", "difference", "low", "high", "null_trained", "null_untrained",
    "gain_trained", "gain_untrained", "told", "reason",
)  # fmt: skip
"""Columns of the table of `compare_untrained`, in order."""
_ROUNDING = 1e-6
"""Differences below this share of the numbers compared are none."""


def untrained(engine: Engine, seed: int = 0) -> Engine:
    """Return an engine on the same network with every learned number drawn anew."""
    return engine.beside(reinitialised(engine.network, None, engine.draws(seed, "untrained")))


def compare_untrained(
    metrics: Sequence[str] | Mapping[str, Mapping[str, Any]],
    fit: Fit,
    trained: ConceptData,
    random: ConceptData,
    *,
    fits: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """Score dictionaries of a trained network and of the same network untrained, side by side.

    A metric that gives both the same says nothing of what the network has learned, however far above its null it is.

    Parameters
    ----------
    metrics : names of metrics of dictionaries, or a mapping of name to options
    fit : `fit(activations (n, d), seed) -> Dictionary`; the same for both networks
    trained, random : what `bench.spaces.gather.concept_data` gathers of the same layer, pictures and evaluator, from
        the engine and from `untrained(engine)`
    fits : dictionaries fitted to each network, with the seeds 0 .. fits - 1
    seed : seeds the metrics and the bootstrap

    Returns
    -------
    DataFrame
        One row a metric, columns `COLUMNS`. `difference` is trained less untrained, signed so that larger is better
        ('none': as it is), `low` and `high` its 95 % bootstrap interval over samples. `told`: the interval lies above 0
        ('none': excludes it); None where a value is undefined or the metric cannot be measured, and `reason` says why.

    Raises
    ------
    LimenError
        If there are no fits, or a metric does not exist or scores something else.
    """
    if fits < 1:
        raise LimenError(f"trained against untrained, 'fits': given {fits}, allowed is 1 or more.")
    chosen = dict(metrics) if isinstance(metrics, Mapping) else {name: {} for name in metrics}
    for name in chosen:
        api.resolve_metric(name, "dictionary")
    pairs = [(data, [fit(data.train, one) for one in range(fits)]) for data in (trained, random)]
    rows = []
    for name, options in chosen.items():
        try:
            scored = [api.score_dictionaries(name, made, data, seed=seed, **options) for data, made in pairs]
        except LimenError as error:
            rows.append({"metric": name, "told": None, "reason": str(error)})
            continue
        rows.append(_row(name, *scored, seed=seed))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(name: str, trained: api.ScoreResult, random: api.ScoreResult, *, seed: int) -> dict[str, Any]:
    sign = -1.0 if trained.direction == "down" else 1.0
    low, high = _interval(sign * trained.values, sign * random.values, seed)
    difference = sign * (trained.value.mean - random.value.mean)
    size = max(abs(one.mean) for one in (trained.value, random.value, trained.null_value, random.null_value))
    told: bool | None = bool(low > 0 or (trained.direction == "none" and high < 0))
    reason = ""
    if not np.isfinite([low, high]).all():
        told, reason = None, "undefined on one of the networks, or fewer than two samples"
    elif abs(difference) <= _ROUNDING * size:
        told = False
    elif high - low <= _ROUNDING * size:
        told, reason = None, "every sample of a network is the same, so chance is not known"
    return {
        "metric": name,
        "direction": trained.direction,
        "trained": trained.value.mean,
        "untrained": random.value.mean,
        "difference": difference,
        "low": low,
        "high": high,
        "null_trained": trained.null_value.mean,
        "null_untrained": random.null_value.mean,
        "gain_trained": trained.gain.mean,
        "gain_untrained": random.gain.mean,
        "told": told,
        "reason": reason,
    }


def _interval(first: np.ndarray, second: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the difference of two means over samples that are no pairs."""
    parts = [values[np.isfinite(values)] for values in (first, second)]
    if min(len(values) for values in parts) < 2:
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed)
    means = [values[draws.integers(len(values), size=(api.RESAMPLES, len(values)))].mean(axis=1) for values in parts]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)
