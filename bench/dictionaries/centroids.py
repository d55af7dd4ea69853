"""The control for stability: atoms that are k-means centroids and never learn."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Activations, Draws
from ..registry import LimenError, dictionary
from ..spaces.dictionary import Dictionary, check_k, fitted_on
from ..spaces.nnls import nnls
from ._lloyd import clusters, unit_atoms
from ._sparse import count_active, stream

_RIDGE = 1e-8


@dictionary(version=1, citation="arXiv:2606.02061", cost="iterations x n d k, then n d k + n k^2")
def centroids(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    active: int | float | None = None,
    shared: bool = True,
    iterations: int = 100,
) -> Dictionary:
    """Freeze the atoms at k-means centroids and code with the largest few answers.

    The cheap cousin of a TopK autoencoder whose dictionary is frozen at its initial centroids: the filters are the
    atoms themselves instead of learned ones, and the gain of each atom is the non-negative one that reconstructs the
    activations best, in closed form. As the centroids are shared by all seeds, its stability is 1 whatever it is worth:
    a method must beat its stability *and* its R2.

    Parameters
    ----------
    activations : float (n, d), (N, T, d), (N, C, H, W) or Activations
    k : int
        At most the number of rows.
    active : int, float or None
        Atoms a row, or a share of `k` below 1; None is a tenth of `k`, at most 32.
    shared : bool
        True: the same k-means, and so the same atoms, for every seed. False: k-means is run again for each.
    iterations : int
        Most iterations of k-means.

    Returns
    -------
    Dictionary
        Encoder 'topk'. A centroid at the mean is a dead atom.

    Raises
    ------
    LimenError
        If `k` or an option is out of range.

    References
    ----------
    arXiv:2606.02061; arXiv:2502.12892.
    """
    rows = stream(activations, "centroids")
    check_k(k, len(rows), "centroids", ", the number of rows")
    kept = count_active(active, k, "centroids")
    if iterations < 1:
        raise LimenError(f"dictionary 'centroids', option 'iterations': given {iterations}, allowed is 1 or more.")
    source = Draws.beside(rows, 0, "centroids") if shared else draws.spawn("centroids")
    found = clusters(rows, k, draws=source, n_init=1, iterations=iterations)
    atoms, _ = unit_atoms(found.centroids, rows)
    plain = Dictionary(
        name="centroids",
        atoms=atoms,
        mean=rows.moments()[0],
        encoder="topk",
        signed=False,
        parameters={
            "filters": atoms,
            "bias": torch.zeros_like(atoms[:, 0]),
            "gain": torch.ones_like(atoms[:, 0]),
            "active": atoms.new_tensor(float(kept)),
        },
        provenance=fitted_on(rows, draws, k=k, active=kept, shared=shared, iterations=iterations),
    )
    return _with_gain(plain, rows)


def _with_gain(plain: Dictionary, rows: Activations) -> Dictionary:
    """Return the dictionary with the gains `g >= 0` that make `(codes * g) @ atoms` nearest to the activations.

    With codes Z, atoms D and centred activations A they solve `(Z'Z * DD') g = diag(Z'A D')`: k numbers, one pass.
    """
    atoms = plain.atoms.double()
    pairs, answers = torch.zeros_like(atoms @ atoms.T), torch.zeros_like(atoms[:, 0])
    for chunk in rows.chunks():
        codes = plain.encode(chunk).double()
        pairs += codes.T @ codes
        answers += ((codes.T @ (chunk - plain.mean).double()) * atoms).sum(dim=1)
    system = pairs * (atoms @ atoms.T)
    # A ridge on atoms that never fire leaves their gain 0 and changes no other.
    scale = system.diagonal().mean().clamp_min(1e-30)
    factor = torch.linalg.cholesky(system + _RIDGE * scale * torch.eye(plain.k).type_as(system))
    target = torch.linalg.solve_triangular(factor, answers[:, None], upper=False)
    gain = nnls(target.T, factor)[0]
    parameters = {**plain.parameters, "gain": gain}
    return Dictionary(
        name=plain.name,
        atoms=plain.atoms,
        mean=plain.mean,
        encoder=plain.encoder,
        signed=plain.signed,
        parameters=parameters,
        provenance=plain.provenance,
    )
