"""ReCo: do explanations tell networks that agree from networks that contradict each other?"""

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
    null="an explainer that draws another random map for every network; above 0, since it is the largest of differences",
    ceiling="1, two sets of distances that do not overlap",
    presets={"xplique": {"distance": "absolute"}},
)
def reco(
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
    blind_draws: PositiveInt = 10,
) -> Measurement:
    """Measure how well the distance of two maps tells whether the two networks predict the same class.

    Each image is held out by one network; its map is compared with that of each other network, where at least one of the
    two predicts rightly. ReCo is the largest true positive rate + true negative rate - 1 over all thresholds of the
    distance, which is the one-sided Kolmogorov-Smirnov statistic of the two sets.

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
    explained : 'label', the same class for both networks of a pair, or 'prediction', what each of them says
    blind_draws : sets of random maps behind the null

    Returns
    -------
    Measurement
        The score is a function of the pooled pairs, so that the values (N,) are ReCo plus each image's influence on it
        at the best threshold: their mean is ReCo, and the bootstrap over them is its interval over images, the networks
        being given. A single value may lie outside [0, 1]. NaN where no two networks contradict each other, or none
        agree. `extra` counts the image's pairs.

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
    return Measurement(
        values=influenced(found),
        null=np.mean([influenced(one) for one in blind], axis=0),
        ceiling=np.ones(len(images)),
        convention=(
            f"largest P(distance <= g | same prediction) - P(distance <= g | another), every threshold g; distance "
            f"{FORMULA[distance]}, rho = Spearman with average ranks over places, signed channel sum; "
            f"{len(folds.networks)} networks of '{folds.name}' without one fold each, class explained: {explained}; "
            f"{found.counts()}; values are linearised, so that their mean is the pooled score"
        ),
        extra={
            "pairs_same": found.same.sum(axis=1),
            "pairs_different": found.different.sum(axis=1),
            "undefined": found.undefined.sum(axis=1),
        },
    )


def influenced(pairs: Pairs) -> np.ndarray:
    """Return ReCo plus the influence of each image on it, float64 (N,); NaN if a set of pairs is empty."""
    alike, unlike = pairs.distance[pairs.same], pairs.distance[pairs.different]
    if not alike.size or not unlike.size:
        return np.full(len(pairs.distance), np.nan)
    threshold = best_threshold(alike, unlike)
    below = pairs.distance <= threshold
    score = np.zeros(len(pairs.distance))
    for members, sign in ((pairs.same, 1), (pairs.different, -1)):
        counts, hits = members.sum(axis=1), (members & below).sum(axis=1)
        rate = hits.sum() / counts.sum()
        score += sign * (rate + (hits - rate * counts) / counts.mean())
    return score


def best_threshold(alike: np.ndarray, unlike: np.ndarray) -> float:
    """Return the smallest threshold at which the distribution of `alike` lies furthest above that of `unlike`."""
    thresholds = np.unique(np.concatenate([alike, unlike]))
    shares = [np.searchsorted(np.sort(values), thresholds, side="right") / values.size for values in (alike, unlike)]
    gap = shares[0] - shares[1]
    return float(thresholds[np.argmax(gap >= gap.max() - 1e-12)])
