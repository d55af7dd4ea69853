"""k-sparse probing: can a few atoms together say which images hold a concept?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import check


@metric(
    version=1,
    citation="arXiv:2305.01610",
    cost="one encode a dictionary; one logistic regression on a few codes a concept, one on all features",
    of="dictionary",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the same on random directions of the same activations, as many as there are atoms",
    ceiling="the same probe of all the layer's features at once",
)
def k_sparse_probing(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    active: int = 5,
    null_draws: int = 2,
) -> Measurement:
    """Predict each concept from the few atoms whose mean codes differ most between images with and without it.

    Atoms are chosen and the probe is fitted on the training split, the held-out one is scored. The value is
    `2 AUROC - 1`: 0 for chance whatever the share of images that hold the concept, 1 for a perfect order.

    Parameters
    ----------
    dictionaries : one or more fits of one method; a concept's value is their average
    data : ConceptData with labels
    draws : Draws
    active : atoms a probe may read
    null_draws : sets of random directions a dictionary

    Returns
    -------
    Measurement
        One value a concept; NaN where a split always or never shows it. `extra` holds `random_codes`, the value of
        codes that know nothing, which is 0 but for chance.

    Raises
    ------
    LimenError
        If there is no dictionary, or the data have no labels.

    References
    ----------
    Gurnee et al. 2023, arXiv:2305.01610.
    """
    check("k_sparse_probing", dictionaries, data, active=active, null_draws=null_draws)
    data.require("k_sparse_probing", "train_labels", "test_labels")
    assert data.train_labels is not None
    assert data.test_labels is not None
    if not data.label_names:
        raise LimenError("metric 'k_sparse_probing': given labels of no concept, allowed is one or more.")
    told = host(data.train_labels), host(data.test_labels)
    mean = data.train.mean(dim=0)
    values, null, blind = [], [], []
    for index, one in enumerate(dictionaries):
        values.append(_probed(one.encode(data.train), one.encode(data.test), told, active))
        for draw in range(null_draws):
            stream = draws.spawn(index, draw)
            filters = stream.normal(one.k, one.d).T
            null.append(_probed((data.train - mean) @ filters, (data.test - mean) @ filters, told, active))
            noise = stream.normal(len(data.train), one.k), stream.normal(len(data.test), one.k)
            blind.append(_probed(*noise, told, active))
    return Measurement(
        values=np.mean(values, axis=0),
        null=np.mean(null, axis=0),
        ceiling=_probed(data.train, data.test, told, data.train.shape[1]),
        samples=data.label_names,
        convention=f"2 AUROC - 1 on held-out images of a logistic probe of the {active} atoms whose mean differs most on train",
        extra={"random_codes": np.mean(blind, axis=0)},
    )


def _probed(train: Tensor, test: Tensor, told: tuple[np.ndarray, np.ndarray], active: int) -> np.ndarray:
    """Return 2 AUROC - 1 of each concept, (C,)."""
    seen, held = host(train).astype(np.float64), host(test).astype(np.float64)
    mean, spread = seen.mean(axis=0), seen.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    seen, held = (seen - mean) / spread, (held - mean) / spread
    return np.array([_one(seen, held, *truth, active) for truth in zip(told[0].T, told[1].T, strict=True)])


def _one(seen: np.ndarray, held: np.ndarray, known: np.ndarray, truth: np.ndarray, active: int) -> float:
    if known.all() or not known.any() or truth.all() or not truth.any():
        return float("nan")
    gap = np.abs(seen[known].mean(axis=0) - seen[~known].mean(axis=0))
    chosen = np.argsort(-gap, kind="stable")[:active]
    probe = LogisticRegression(C=1.0, max_iter=2000).fit(seen[:, chosen], known)
    return float(2 * roc_auc_score(truth, probe.decision_function(held[:, chosen])) - 1)
