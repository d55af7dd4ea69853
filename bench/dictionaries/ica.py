"""Independent components: directions whose codes depend on each other as little as can be."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from ..engine import Activations, Draws
from ..engine.host import host
from ..registry import LimenError, dictionary
from ..spaces.dictionary import Dictionary, check_k, fit_rows, fitted_on


@dictionary(version=1, citation="doi:10.1016/S0893-6080(00)00026-5", cost="one SVD (n, d), iterations x 4 n k^2")
def ica(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    iterations: int = 500,
    tolerance: float = 1e-5,
) -> Dictionary:
    """Fit `k` independent components by FastICA (scikit-learn's, log cosh, in parallel) on whitened activations.

    The atoms are the directions that *make* the activations, the columns of the mixing matrix, and the filters, which
    read the codes, are its pseudo-inverse: the two are not the same. Their sign is fixed: the entry of largest
    magnitude of an atom is positive.

    Parameters
    ----------
    activations : float (n, d), (N, T, d), (N, C, H, W) or Activations
    k : int
        At most the rank of the centred activations.
    iterations : int
        Most iterations; provenance tells how many were taken and whether they converged.
    tolerance : float
        Stop when no filter turns by more (one minus the cosine).

    Returns
    -------
    Dictionary
        Signed codes; atoms by decreasing variance of their codes. With `k` at the rank, decoding is exact.

    Raises
    ------
    LimenError
        If `k`, `iterations` or `tolerance` is out of range.

    References
    ----------
    Hyvarinen and Oja 2000, doi:10.1016/S0893-6080(00)00026-5.
    """
    rows = fit_rows(activations, "ica")
    check_k(k, min(rows.shape), "ica", f", the smaller of {rows.shape[0]} rows and {rows.shape[1]} features")
    if iterations < 1 or tolerance <= 0:
        raise LimenError(
            f"dictionary 'ica': given iterations = {iterations} and tolerance = {tolerance}, allowed are 1 or more and "
            "above 0."
        )
    data = host(rows).astype(np.float64)
    mean = data.mean(axis=0)
    _check_rank(data - mean, k)
    start = host(draws.normal(k, k)).astype(np.float64)
    model = FastICA(k, whiten="unit-variance", whiten_solver="svd", max_iter=iterations, tol=tolerance, w_init=start)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        codes = model.fit_transform(data)
    atoms, filters = _unit(model.mixing_.T, model.components_, codes)
    options = {"k": k, "iterations": iterations, "tolerance": tolerance}
    facts = {
        "iterations_taken": int(model.n_iter_),
        "converged": not any(issubclass(one.category, ConvergenceWarning) for one in said),
    }
    return Dictionary(
        name="ica",
        atoms=torch.from_numpy(atoms).type_as(rows),
        mean=torch.from_numpy(mean).type_as(rows),
        encoder="linear",
        signed=True,
        parameters={"filters": torch.from_numpy(filters).type_as(rows)},
        provenance=fitted_on(rows, draws, **options) | facts,
    )


def _check_rank(centred: np.ndarray, k: int) -> None:
    rank = int(np.linalg.matrix_rank(centred)) if len(centred) < centred.shape[1] else _rank(centred.T @ centred)
    if k > rank:
        raise LimenError(
            f"dictionary 'ica': given k = {k}, allowed is 1 to {rank}, the rank of the activations less their mean."
        )


def _rank(scatter: np.ndarray) -> int:
    values = np.linalg.eigvalsh(scatter)
    return int((values > max(values[-1], 0.0) * 1e-12).sum())


def _unit(mixing: np.ndarray, unmixing: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unit atoms and the filters that read their codes, both (k, d), by decreasing variance."""
    lengths = np.linalg.norm(mixing, axis=1)
    places = np.abs(mixing).argmax(axis=1)
    signs = np.sign(mixing[np.arange(len(mixing)), places])
    order = np.argsort(-lengths * codes.std(axis=0), kind="stable")
    atoms = mixing * (signs / lengths)[:, None]
    filters = unmixing * (signs * lengths)[:, None]
    return atoms[order], filters[order]
