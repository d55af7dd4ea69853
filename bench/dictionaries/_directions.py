"""Directions of a concept: filters that read it (decoding) and signal vectors that add it (encoding)."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ..engine.host import host

_TINY = 1e-12


def positive_signals(rows: Tensor, answers: Tensor, present: Tensor) -> Tensor:
    """Regress the rows on a filter's answer over the rows where its concept is present: `cov(x, z) / var(z)`.

    Where concepts exclude each other, answers over all rows are correlated through the labels; over positives alone
    they are not. A concept with fewer than two positives, or a constant answer on them, has a zero signal.

    Parameters
    ----------
    rows : float (n, d)
    answers : float (n, k)
        `w . x` of each filter; a constant added to it changes nothing.
    present : bool (n, k)

    Returns
    -------
    float (k, d)
        What one unit of the answer adds to a row; differentiable in `answers`.

    References
    ----------
    arXiv:2509.23926; without the restriction to positives, Haufe et al. (2014), doi:10.1016/j.neuroimage.2013.10.067.
    """
    kept = present.type_as(rows)
    count = kept.sum(dim=0).clamp_min(1)
    apart = kept * (answers - (kept * answers).sum(dim=0) / count)
    spread = apart.square().sum(dim=0) / count
    # The mean row is subtracted first: an offset of the layer would cost the covariance its digits.
    middle = rows.mean(dim=0)
    signals = (apart / count).T @ (rows - middle) / spread.clamp_min(_TINY)[:, None]
    return torch.where((spread > _TINY)[:, None], signals, 0.0)


def all_sample_signals(rows: Tensor, answers: Tensor) -> Tensor:
    """Regress the rows on a filter's answer over all rows: Haufe's pattern of the filter, (k, d)."""
    return positive_signals(rows, answers, torch.ones_like(answers, dtype=torch.bool))


def pattern_directions(rows: Tensor, labels: Tensor) -> Tensor:
    """Regress the rows on the labels bool (n, k): Pattern-CAV, the difference of the class means, (k, d).

    References
    ----------
    Pahde et al., arXiv:2202.03482
    """
    return all_sample_signals(rows, labels.type_as(rows))


def logistic_filters(rows: Tensor, labels: Tensor, strength: float = 1000.0) -> tuple[Tensor, Tensor]:
    """Fit a logistic regression to each concept: concept activation vectors (k, d) and intercepts (k,).

    Parameters
    ----------
    rows : float (n, d)
    labels : bool (n, k), each concept present and absent
    strength : float
        Inverse of the penalty on the weights of the centred rows; a strong penalty tilts the filters.

    References
    ----------
    Kim et al. 2018 (TCAV), arXiv:1711.11279
    """
    middle = rows.mean(dim=0)
    centred, truth = host(rows - middle).astype(np.float64), host(labels)
    fits = [LogisticRegression(C=strength, max_iter=5000).fit(centred, column) for column in truth.T]
    filters = rows.new_tensor(np.concatenate([fit.coef_ for fit in fits]))
    return filters, rows.new_tensor(np.concatenate([fit.intercept_ for fit in fits])) - filters @ middle


def oracle_filters(directions: Tensor, count: int) -> Tensor:
    """Return the filters (count, d) that read the first `count` of all directions (m, d) and see none of the others."""
    return torch.linalg.pinv(directions.double()).T[:count].type_as(directions)
