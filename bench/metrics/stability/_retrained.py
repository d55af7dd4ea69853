"""Distances between the maps of networks retrained without one fold each, for images that one of them has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...engine import Draws, Engine
from ...zoo.folds import Folds
from .._noisy import AT_ONCE, Explainer
from .._similarity import centred_ranks

Distance = Literal["signed", "absolute"]
Explained = Literal["label", "prediction"]
FORMULA = {"signed": "sqrt((1 - rho) / 2)", "absolute": "sqrt(1 - |rho|)"}


@dataclass(frozen=True)
class Pairs:
    """The pairs (network that has not seen the image, another network), N images x k networks.

    Attributes
    ----------
    distance : float64 (N, k), of the two maps
    same, different : bool (N, k), whether the pair counts: one of the two predictions is right, both maps rank places,
        and the predictions are the same, or are not
    undefined : bool (N, k), pairs left out since a map is constant
    """

    distance: np.ndarray
    same: np.ndarray
    different: np.ndarray
    undefined: np.ndarray

    def counts(self) -> str:
        """Say how many pairs there are, for the convention."""
        return f"{int(self.same.sum())} pairs with the same prediction, {int(self.different.sum())} with another"


def found_and_blind(
    engine: Engine,
    images: Tensor,
    maps: Tensor,
    *,
    explainer: Explainer,
    folds: Folds,
    draws: Draws,
    distance: Distance,
    explained: Explained,
    blind_draws: int,
) -> tuple[Pairs, list[Pairs]]:
    """Return the pairs of an explainer, and of one that draws another random map for each network, `blind_draws` times.

    Parameters
    ----------
    engine : Engine, whose device and settings the networks run with
    images : (N, C, H, W), each in a fold
    maps : (N, 1, H, W), for the shape of the random ones
    explainer, folds, draws, distance, explained, blind_draws : as in `mege`
    """
    own = folds.of(images)
    truth = folds.labels(images)
    engines = [engine.beside(network) for network in folds.networks]
    predicted = [one.scores(images).argmax(dim=1) for one in engines]
    answers = np.stack([engine.numpy(classes) for classes in predicted], axis=1)
    right = answers == truth[:, None]
    rows = np.arange(len(own))
    agree = answers == answers[rows, own][:, None]
    counts = right | right[rows, own][:, None]
    counts[rows, own] = False

    def maps_of(network: int, part: slice) -> Tensor:
        asked = engine.place(truth) if explained == "label" else predicted[network]
        return explainer(images[part], asked[part], on=engines[network])

    def pairs(maps: Callable[[int, slice], Tensor]) -> Pairs:
        correlation = _correlations(engine, maps, own, len(engines))
        undefined = counts & np.isnan(correlation)
        far = np.sqrt(((1 - correlation) / 2 if distance == "signed" else 1 - np.abs(correlation)).clip(0))
        kept = counts & ~undefined
        return Pairs(far, kept & agree, kept & ~agree, undefined)

    found = pairs(maps_of)

    def blind(draw: int) -> Callable[[int, slice], Tensor]:
        def random_maps(network: int, part: slice) -> Tensor:
            streams = draws.spawn("null", draw, network).for_images(images[part])
            return torch.stack([stream.uniform(*maps.shape[1:]) for stream in streams])

        return random_maps

    return found, [pairs(blind(draw)) for draw in range(blind_draws)]


def _correlations(engine: Engine, maps: Callable[[int, slice], Tensor], own: np.ndarray, k: int) -> np.ndarray:
    """Return the rank correlation (N, k) of the map of the network that has not seen an image with all maps."""
    parts = []
    for start in range(0, len(own), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        ranks = torch.stack([centred_ranks(maps(network, part)) for network in range(k)], dim=1)
        ranks = ranks / ranks.norm(dim=2, keepdim=True)
        mine = torch.stack([row[fold] for row, fold in zip(ranks, own[part].tolist(), strict=True)])
        parts.append(engine.numpy((ranks * mine[:, None]).sum(dim=2)))
    # The root of a distance enlarges the rounding of a sum: equal maps are to be at one distance, which is 0.
    return np.concatenate(parts).round(12)
