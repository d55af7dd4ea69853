"""The ceiling of identifiability: a linear probe that was told the concepts."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from ...engine import Draws
from ...engine.host import host
from ...spaces.concept_data import ConceptData

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
_HELD_BACK = 0.25


def probe_accuracy(data: ConceptData, draws: Draws) -> np.ndarray:
    """Fit a logistic regression to each concept on train and return its test accuracy, (C,).

    Features are standardised on train; the penalty is the best of four on a quarter of train that was held back.
    """
    assert data.train_labels is not None
    assert data.test_labels is not None
    train, test = host(data.train).astype(np.float64), host(data.test).astype(np.float64)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    train, test = (train - mean) / spread, (test - mean) / spread
    order = draws.numpy().permutation(len(train))
    held = max(1, round(_HELD_BACK * len(train)))
    seen, told = host(data.train_labels), host(data.test_labels)
    return np.array(
        [
            _fit(train, seen[:, concept], order, held).score(test, told[:, concept])
            for concept in range(len(data.label_names))
        ]
    )


def _fit(rows: np.ndarray, truth: np.ndarray, order: np.ndarray, held: int) -> LogisticRegression:
    back, kept = order[:held], order[held:]
    strength = _STRENGTHS[-1]
    if np.unique(truth[kept]).size == 2:
        trials = [_probe(one).fit(rows[kept], truth[kept]).score(rows[back], truth[back]) for one in _STRENGTHS]
        strength = _STRENGTHS[int(np.argmax(trials))]
    return _probe(strength).fit(rows, truth)


def _probe(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=2000)
