"""Reading a concept from one code: thresholds, one-to-one matching, accuracy corrected for chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ...engine.host import host

PERCENTILES = 100


@dataclass(frozen=True)
class Labels:
    """Which concepts, that vary in both splits, each image holds: bool (n, C), (m, C), and their names."""

    train: Tensor
    test: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What the atoms of one dictionary say of each concept; arrays (C,)."""

    accuracy: np.ndarray
    auroc: np.ndarray
    published: np.ndarray
    atom: np.ndarray
    corrected: np.ndarray

    def over(self, floor: np.ndarray) -> Reading:
        """Return the same with the accuracy corrected by a floor (C,); a concept without an atom is 0."""
        gain = np.where(self.atom >= 0, (self.accuracy - floor) / (1 - floor), 0.0)
        return replace(self, corrected=gain)


def read_matched(train: Tensor, test: Tensor, labels: Labels, *, signed: bool, published: np.ndarray) -> Reading:
    """Match codes to concepts and choose thresholds on train, then score on test.

    Parameters
    ----------
    train, test : float (n, k), (m, k)
    labels : Labels
    signed : bool
        A code may also say the concept by being low: its sign is a convention.
    published : (C,), handed on
    """
    best, threshold, low = _best_thresholds(train, labels.train, signed)
    majority = _majority(labels.train)
    gain = (host(best) - majority) / (1 - majority)
    atoms, concepts = linear_sum_assignment(gain, maximize=True)
    constant = constant_accuracy(labels)
    accuracy, auroc = constant.copy(), np.full(len(constant), 0.5)
    matched = np.full(len(constant), -1)
    for atom, concept in zip(atoms, concepts, strict=True):
        truth = labels.test[:, concept]
        says = (test[:, atom] > threshold[atom, concept]) ^ low[atom, concept]
        accuracy[concept] = float((says == truth).double().mean())
        area = float(roc_auc_score(host(truth), host(test[:, atom])))
        auroc[concept] = 1 - area if bool(low[atom, concept]) else area
        matched[concept] = atom
    return Reading(accuracy, auroc, published, matched, np.full(len(accuracy), np.nan))


def published_accuracy(codes: Tensor, labels: Tensor) -> np.ndarray:
    """Return, for each concept, the best accuracy over atoms and percentile thresholds on these very rows."""
    best = torch.zeros_like(labels[0], dtype=torch.float64)
    for threshold in _percentiles(codes):
        best = torch.maximum(best, _accuracies(codes > threshold, labels).amax(dim=0))
    return host(best)


def constant_accuracy(labels: Labels) -> np.ndarray:
    """Return the test accuracy of the constant answer that is the better one on train."""
    often = host(labels.train).mean(axis=0) > 0.5
    present = host(labels.test).mean(axis=0)
    return np.where(often, present, 1 - present)


def _majority(labels: Tensor) -> np.ndarray:
    present = host(labels).mean(axis=0)
    return np.maximum(present, 1 - present)


def _best_thresholds(codes: Tensor, labels: Tensor, signed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return best accuracy, its threshold, and whether low codes say yes; each (k, C)."""
    always = torch.full_like(codes[0], -torch.inf)
    best = _accuracies(codes > always, labels)
    threshold = always[:, None].expand_as(best).clone()
    low = torch.zeros_like(best, dtype=torch.bool)
    for candidate in _percentiles(codes):
        above = _accuracies(codes > candidate, labels)
        for accuracy, is_low in ((above, False), (1 - above, True))[: 1 + signed]:
            better = accuracy > best
            best = torch.where(better, accuracy, best)
            threshold = torch.where(better, candidate[:, None], threshold)
            low = torch.where(better, torch.full_like(low, is_low), low)
    return best, threshold, low


def _percentiles(codes: Tensor) -> Iterator[Tensor]:
    """Yield the 1st to the 100th percentile of each code, as order statistics, (k,) each."""
    ordered = codes.sort(dim=0).values
    for percentile in range(1, PERCENTILES + 1):
        yield ordered[-(-percentile * len(ordered) // PERCENTILES) - 1]


def _accuracies(says: Tensor, labels: Tensor) -> Tensor:
    """Return the accuracy of each answer (n, k) on each concept (n, C): float64 (k, C)."""
    yes, truth = says.float(), labels.float()
    hits = (yes.T @ truth).double()
    count, said, present = len(labels), yes.double().sum(dim=0)[:, None], truth.double().sum(dim=0)
    return (count - present - said + 2 * hits) / count
