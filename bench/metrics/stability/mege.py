"""MeGe: do networks that differ by the data they were trained on give the same explanation?"""

from __future__ import annotations

import numpy as np
from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...zoo.folds import Folds
from .._noisy import Explainer
from ._retrained import FORMULA, Distance, Explained, Pairs, found_and_blind


@metric(
    version=1,
    citation="arXiv:2009.04521",
    cost="k explanations, one for each retrained network",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="an explainer that draws another random map for every network",
    ceiling="1, networks that explain alike",
    presets={"xplique": {"distance": "absolute"}},
)
def mege(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    explainer: Explainer,
    folds: Folds,
    draws: Draws,
    distance: Distance = "signed",
    explained: Explained = "label",
    blind_draws: PositiveInt = 5,
) -> Measurement:
    """Turn into a similarity the mean distance of maps of retrained networks that predict the same class.

    Each image is held out by one network; its map is compared with that of each other network, where both predict the
    same class and rightly so. MeGe = 1 / (1 + mean distance), over all such pairs of all images. An explainer that does
    not look at the network scores 1: read MeGe beside ReCo, where it scores 0.

    Parameters
    ----------
    engine : Engine, whose device and settings the networks run with
    images : (N, C, H, W) float32, normalised, pictures of the folds
    targets : (N,) int64, unused: the class explained is the label, or the prediction of each network
    maps : (N, 1, H, W), for their shape: the maps compared are those of the retrained networks
    explainer : explains the retrained networks in the way the maps were made
    folds : Folds, networks and the fold of each image
    draws : Draws, for the null
    distance : 'signed' = sqrt((1 - rho) / 2), or 'absolute' = sqrt(1 - |rho|), to which an inverted map is the same map
    explained : 'label', or 'prediction' of the network that is explained; they are the same in every pair that counts
    blind_draws : sets of random maps behind the null

    Returns
    -------
    Measurement
        The score is a function of the pooled pairs, so that the values (N,) are MeGe plus each image's influence on it
        (the delta method): their mean is MeGe, and the bootstrap over them is its interval over images, the networks
        being given. A single value may lie outside [0, 1]. `extra` holds the image's mean distance and its pairs.

    Raises
    ------
    LimenError
        If an image is in no fold.

    References
    ----------
    Fel et al. 2022, arXiv:2009.04521.
    """
    found, blind = found_and_blind(
        engine,
        images,
        maps,
        explainer=explainer,
        folds=folds,
        draws=draws,
        distance=distance,
        explained=explained,
        blind_draws=blind_draws,
    )
    pairs = found.same.sum(axis=1)
    total = np.where(found.same, found.distance, 0).sum(axis=1)
    return Measurement(
        values=influenced(found),
        null=np.mean([influenced(one) for one in blind], axis=0),
        ceiling=np.ones(len(pairs)),
        convention=(
            f"1 / (1 + mean of {FORMULA[distance]}), rho = Spearman with average ranks over places, signed channel sum; "
            f"{len(folds.networks)} networks of '{folds.name}' without one fold each, class explained: {explained}; "
            f"{found.counts()}; values are linearised, so that their mean is the pooled score"
        ),
        extra={
            "distance": np.divide(total, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0),
            "pairs": pairs,
            "undefined": found.undefined.sum(axis=1),
        },
    )


def influenced(pairs: Pairs) -> np.ndarray:
    """Return MeGe plus the influence of each image on it, float64 (N,); NaN if no pair counts."""
    counts = pairs.same.sum(axis=1)
    if not counts.any():
        return np.full(len(counts), np.nan)
    totals = np.where(pairs.same, pairs.distance, 0).sum(axis=1)
    mean = totals.sum() / counts.sum()
    return 1 / (1 + mean) - (totals - mean * counts) / counts.mean() / (1 + mean) ** 2
