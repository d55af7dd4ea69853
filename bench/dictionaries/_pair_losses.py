"""Losses of encoding-decoding direction pairs: what makes a set of detectors sparse, sure, busy enough and apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._directions import positive_signals

_TINY = 1e-12
GAMMA = 1.1
POWER = 4
RANK_TOLERANCE = 1e-3
"""Singular values of `W^T S` below this share of the largest count as zero, so that no detector is moved without end."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What detectors say of positions, for R sets of them at once.

    Attributes
    ----------
    filters : (R, k, d), unit length
    excess : (R, n, T, k)
        `w . x - b`, in the units of the activations.
    detections : (R, n T, k) in (0, 1)
    margins : (R, k)
    """

    filters: Tensor
    excess: Tensor
    detections: Tensor
    margins: Tensor

    @property
    def shares(self) -> Tensor:
        """Detections of each position, over their sum."""
        return self.detections / self.detections.sum(dim=-1, keepdim=True).clamp_min(_TINY)


def detect(activations: Tensor, filters: Tensor, thresholds: Tensor, log_margins: Tensor) -> Answers:
    """Apply R sets of detectors to activations (n, T, d).

    Parameters
    ----------
    filters : (R, k, d)
    thresholds, log_margins : (R, k)
    """
    unit = torch.nn.functional.normalize(filters, dim=-1)
    excess = torch.einsum("ntd,rkd->rntk", activations, unit) - thresholds[:, None, None]
    margins = log_margins.exp()
    detections = torch.sigmoid(excess / margins[:, None, None]).flatten(1, 2)
    return Answers(filters=unit, excess=excess, detections=detections, margins=margins)


def entropy(shares: Tensor) -> Tensor:
    """Return the entropy in bits over the last axis."""
    return -(shares * shares.clamp_min(_TINY).log2()).sum(dim=-1)


def self_weighted(values: Tensor) -> Tensor:
    """Average non-negative values over the last axis, each weighted by its 4th power: a soft maximum."""
    weights = values.pow(POWER)
    return (weights * values).sum(dim=-1) / weights.sum(dim=-1).clamp_min(_TINY)


def sparsity(answers: Answers) -> Tensor:
    """Few detectors share a position: mean entropy of the shares, (R,)."""
    return entropy(answers.shares).mean(dim=-1)


def sparsity_bound(answers: Answers) -> Tensor:
    """No position is shared by many: soft maximum of the entropy, (R,)."""
    return self_weighted(entropy(answers.shares))


def binary(answers: Answers) -> Tensor:
    """The detector that takes a position is sure of it, (R,)."""
    return -(answers.shares * answers.detections.clamp_min(_TINY).log2()).sum(dim=-1).mean(dim=-1)


def margin(answers: Answers) -> Tensor:
    """Margins are wide: mean of their inverses, (R,)."""
    return answers.margins.reciprocal().mean(dim=-1)


def activity(answers: Answers) -> Tensor:
    """Return how much each detector says on average, (R, k)."""
    return answers.detections.clamp_min(_TINY).pow(GAMMA).mean(dim=1)


def inactive(answers: Answers, least: float) -> Tensor:
    """Every detector says something: mean shortfall of the activity below `least`, (R,)."""
    return ((least - activity(answers)).relu() / least).mean(dim=-1)


def too_active(answers: Answers, most: float) -> Tensor:
    """No detector says yes to everything: soft maximum of the activity above `most`, (R,)."""
    return self_weighted((activity(answers) - most).relu() / (1 - most))


def orthogonality(answers: Answers, signals: Tensor) -> Tensor:
    """A filter does not see the other detectors' signals: root mean square of their cosines, (R,); 0 for one detector."""
    count = signals.shape[1]
    if count == 1:
        return signals.sum(dim=(1, 2)) * 0
    cosines = answers.filters @ torch.nn.functional.normalize(signals, dim=-1).mT
    apart = 1 - torch.eye(count).type_as(cosines)
    return ((cosines * apart).square().sum(dim=(1, 2)) / (count * (count - 1)) + _TINY).sqrt()


def to_boundary(answers: Answers) -> Tensor:
    """Return the smallest moves (R, n, T, d) of the activations that leave every detector undecided."""
    return answers.excess.flatten(1, 2).matmul(_inverse(answers.filters).mT).unflatten(1, answers.excess.shape[1:3])


def to_boundary_along(answers: Answers, signals: Tensor) -> Tensor:
    """Return the moves along the signals (R, k, d) that leave every detector undecided."""
    amounts = answers.excess.flatten(1, 2) @ _inverse(answers.filters @ signals.mT).mT
    return (amounts @ signals).unflatten(1, answers.excess.shape[1:3])


def uncertainty(head: Callable[[Tensor], Tensor], moved: Tensor) -> Tensor:
    """The head cannot tell moved activations (R, n, T, d): minus the mean entropy of its answer, (R,)."""
    logits = head(moved.flatten(0, 1))
    return -entropy(logits.softmax(dim=-1)).unflatten(0, moved.shape[:2]).mean(dim=-1)


def signals_of(activations: Tensor, answers: Answers) -> Tensor:
    """Return each detector's signal vector on a batch, (R, k, d); see `positive_signals`."""
    rows = activations.flatten(0, 1)
    return torch.stack([positive_signals(rows, excess, excess > 0) for excess in answers.excess.flatten(1, 2)])


def _inverse(matrix: Tensor) -> Tensor:
    return torch.linalg.pinv(matrix, rtol=RANK_TOLERANCE)
