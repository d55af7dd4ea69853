"""Relaxed archetypal autoencoder (RA-SAE): every atom lies within a distance of a mixture of points of the data."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..engine import Activations, Draws
from ..engine.precision import Precision
from ..registry import dictionary
from ..spaces.dictionary import Dictionary
from ._archetypes import Hull, Start, fit_archetypal
from ._sparse import Progress, Standardise, Training, count_active
from .topk import TopK


@dictionary(
    version=1,
    citation="arXiv:2502.12892",
    cost="k-means of n' points, then steps x (2 batch d k + 8 batch d active + 6 k n' d)",
    presets={
        "overcomplete": {
            "active": 0.1,
            "standardise": "none",
            "init": "eye",
            "centroids_seed": 0,
            "scaled": True,
            "delta": 1.0,
        },
        "ra-sae": {"active": 0.1, "standardise": "features", "init": "eye", "centroids_seed": 0, "delta": 1.0},
    },
)
def relaxed_archetypal(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    delta: float = 1.0,
    points: int | None = None,
    init: Start = "points",
    centroids_seed: int | None = None,
    scaled: bool = False,
    active: int | float | None = None,
    steps: int | None = None,
    batch_size: int = 1024,
    learning_rate: float | None = None,
    standardise: Standardise = "scale",
    revive: float = 1 / 32,
    dead_after: int | None = None,
    precision: Precision = "auto",
    checkpoint: Path | None = None,
    progress: Progress = None,
) -> Dictionary:
    """Train a TopK autoencoder whose atoms are mixtures of centroids of the activations, give or take `delta`.

    The decoder is `W C + Lambda`: `C` holds k-means centroids and stays, each row of `W` is not negative and sums to 1,
    each row of `Lambda` is at most `delta` long (both made so after every step). With `delta` = 0 it is `archetypal`.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W), or a stream of rows
    k : int
        At most the number of rows.
    delta : most length of a row of `Lambda`, in standardised units: a row of activations is sqrt(d) long on average
    points : number n' of centroids, `k` or more; None is 4 k, as far as there are 4 rows for each
    init : 'points' starts each atom on a centroid of its own, drawn by the seed; 'eye' on the first k, as published;
        'random' on a random mixture of all centroids
    centroids_seed : seed of k-means; None refits the centroids with the seed of the fit, a number lets fits on the same
        data share them, as the published ones do
    scaled : multiply all atoms by one learned factor
    active, steps, batch_size, learning_rate, standardise, revive, dead_after, precision, checkpoint, progress
        As for `topk`; 'none' does not centre either: no offset is learned, and what is decoded lies in the cone of the
        data.

    Returns
    -------
    Dictionary
        Unit atoms, encoder 'topk', whose `gain` is the atoms' length before.

    Raises
    ------
    LimenError
        If an option or the activations are out of range.

    References
    ----------
    Fel et al. 2025, arXiv:2502.12892
    """
    kept = count_active(active, k, "relaxed_archetypal")
    return fit_archetypal(
        "relaxed_archetypal",
        activations,
        k,
        draws=draws,
        hull=Hull(
            points=points,
            delta=delta,
            init=init,
            centroids_seed=centroids_seed,
            scaled=scaled,
        ),
        sparsity=TopK(kept),
        training=Training(
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            standardise=standardise,
            revive=revive,
            dead_after=dead_after,
            precision=precision,
        ),
        options={"active": kept},
        checkpoint=checkpoint,
        progress=progress,
    )
