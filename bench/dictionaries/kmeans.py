"""k-means: an activation is its nearest centroid, as ACE finds its concepts."""

from __future__ import annotations

from torch import Tensor

from ..engine import Activations, Draws
from ..registry import LimenError, dictionary
from ..spaces.dictionary import Dictionary, check_k, fitted_on
from ._lloyd import clusters, unit_atoms
from ._sparse import stream


@dictionary(version=1, citation="arXiv:1902.03129", cost="n_init x iterations x n d k")
def kmeans(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    n_init: int = 4,
    iterations: int = 300,
    tolerance: float = 1e-4,
) -> Dictionary:
    """Cluster activations around `k` centroids; the atoms are the directions from the mean to the centroids.

    Lloyd's algorithm from greedy k-means++ where the rows have at most `spaces.dictionary.FIT_NUMBERS` numbers. Of a
    longer stream: k-means++ on a sample, mini-batches, and two passes over all rows; provenance tells which.

    Parameters
    ----------
    activations : float (n, d), (N, T, d), (N, C, H, W) or Activations
    k : int
        At most n.
    n_init : int
        Starts, of which the best is kept; a stream has one.
    iterations : int
        Most iterations of a start; mini-batches of a stream (more where `k` is large).
    tolerance : float
        Stop when the centroids move by less: squared, relative to the mean variance of a feature.

    Returns
    -------
    Dictionary
        Codes are the distance of the nearest centroid from the mean, at that centroid's atom, so that decoding gives
        the centroid. A centroid at the mean is a dead atom.

    Raises
    ------
    LimenError
        If `k` or an option is out of range.

    References
    ----------
    Ghorbani et al. 2019, arXiv:1902.03129; Arthur and Vassilvitskii 2007, doi:10.5555/1283383.1283494; Sculley 2010,
    doi:10.1145/1772690.1772862.
    """
    rows = stream(activations, "kmeans")
    check_k(k, len(rows), "kmeans", ", the number of rows")
    if n_init < 1 or iterations < 1 or tolerance < 0:
        raise LimenError(
            f"dictionary 'kmeans': given n_init = {n_init}, iterations = {iterations} and tolerance = {tolerance}, "
            "allowed are 1 or more, 1 or more and 0 or more."
        )
    found = clusters(rows, k, draws=draws.spawn("kmeans"), n_init=n_init, iterations=iterations, tolerance=tolerance)
    atoms, arrows = unit_atoms(found.centroids, rows)
    options = {"k": k, "n_init": n_init, "iterations": iterations, "tolerance": tolerance}
    facts = {"iterations_taken": found.iterations, "inertia": found.inertia, "streamed": found.streamed}
    return Dictionary(
        name="kmeans",
        atoms=atoms,
        mean=rows.moments()[0],
        encoder="nearest",
        signed=False,
        parameters={"centroids": arrows},
        provenance=fitted_on(rows, draws, **options) | facts,
    )
