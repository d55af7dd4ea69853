"""Ridge regression of many targets on one set of features, each with a penalty of its own, from one factorisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Candidates, in units of the mean eigenvalue of the features' covariance; beyond the last, each target's mean."""


@dataclass(frozen=True)
class Ridge:
    """A fit, ready to predict.

    Attributes
    ----------
    weights : (p, k), for standardised features
    bias : (k,)
    mean, scale : (p,), what standardises features
    penalty : (k,), the one chosen for each target; infinite where nothing is predicted
    """

    weights: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    penalty: Tensor

    def predict(self, features: Tensor) -> Tensor:
        """Return predictions (m, k) for features (m, p)."""
        return (features.double() - self.mean) / self.scale @ self.weights + self.bias


def fit_ridge(features: Tensor, targets: Tensor) -> Ridge:
    """Fit each target by ridge regression, its penalty chosen by generalised cross-validation.

    One singular value decomposition serves all targets and all penalties: the cross-validated error of a target needs
    its coordinates in the left vectors alone.

    Parameters
    ----------
    features : (n, p)
        Standardised here; a constant feature stays 0.
    targets : (n, k)
    """
    count, mean = len(features), features.double().mean(dim=0)
    centred = features.double() - mean
    scale = centred.square().mean(dim=0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    left, values, right = _factorise(centred / scale)
    bias = targets.double().mean(dim=0)
    coordinates = left.T @ (targets.double() - bias)
    total = (targets.double() - bias).square().sum(dim=0)
    outside = (total - coordinates.square().sum(dim=0)).clamp_min(0)
    # To predict nothing but the mean is a candidate as well: one degree of freedom is spent on it.
    best = total / (count - 1) ** 2
    shrink, penalty = torch.zeros_like(coordinates), torch.full_like(total, torch.inf)
    for candidate in PENALTIES:
        level = candidate * values.square().sum() / len(right)
        kept = values.square() / (values.square() + level).clamp_min(1e-300)
        free = count - 1 - kept.sum()
        if not bool(free > 0):
            continue
        error = (outside + ((1 - kept)[:, None] * coordinates).square().sum(dim=0)) / free.square()
        better = error < best
        best = torch.where(better, error, best)
        shrink = torch.where(better, (kept / values.clamp_min(1e-150))[:, None], shrink)
        penalty = torch.where(better, level, penalty)
    return Ridge(right @ (shrink * coordinates), bias, mean, scale, penalty)


def _factorise(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return left (n, r), values (r,), right (p, r) with rows = left * values @ right.T, values above rounding."""
    left, values, right = torch.linalg.svd(rows, full_matrices=False)
    kept = values > 1e-10 * values.max()
    return left[:, kept], values[kept], right.T[:, kept]
