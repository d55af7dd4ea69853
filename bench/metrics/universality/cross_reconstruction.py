"""Cross-reconstruction: how much of one network's activations does the code that another network wrote keep?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import averaged, check
from ._shared import View, decoded, permutations, written


@metric(
    version=1,
    citation="arXiv:2502.03714",
    cost="one encode and M (1 + null_draws) decodes a network and fit",
    of="dictionary",
    direction="up",
    bounds=(-float("inf"), 1.0),
    null="the same with the latents' indices permuted between encoder and decoder",
    ceiling="the decoded network's own code",
)
def cross_reconstruction(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    null_draws: int = 5,
) -> Measurement:
    """Measure R2 of each network's rows decoded from the code of each network.

    Parameters
    ----------
    dictionaries : one or more fits of a universal dictionary over the same networks; a value is their average
    data : ConceptData of the networks side by side; every position is a row where there are `test_maps`
    draws : Draws
    null_draws : permutations of the indices of the latents that fire

    Returns
    -------
    Measurement
        One value an ordered pair of networks, encoder first; `extra` holds `linear`, R2 of the least-squares affine map from
        the encoder's rows to the decoder's, fitted to these very rows, and `same`, 1 where the pair is one network.

    Raises
    ------
    LimenError
        If a dictionary is not one of several networks, fits differ in their networks, or a network's rows are all the
        same.

    References
    ----------
    arXiv:2502.03714
    """
    check("cross_reconstruction", dictionaries, data, null_draws=null_draws)
    values, null, linear = [], [], []
    for fit, one in enumerate(dictionaries):
        found = written(one, data)
        pairs = [(source, target) for source in found for target in found]
        values.append(torch.stack([_r2(target, source.shared) for source, target in pairs]))
        alive = torch.stack([(view.shared > 0).any(dim=0) for view in found]).any(dim=0)
        orders = permutations(alive, 2, null_draws, draws.spawn(fit))[:, 1]
        null.append(
            torch.stack(
                [
                    torch.stack([_r2(target, source.shared[:, order]) for order in orders]).mean()
                    for source, target in pairs
                ]
            )
        )
        linear.append(torch.stack([_linear(source.rows, target.rows) for source, target in pairs]))
    counts = {len(column) for column in values}
    if len(counts) > 1:
        raise LimenError(
            "metric 'cross_reconstruction': given fits over unlike numbers of networks, allowed are the same networks for all."
        )
    count = round(counts.pop() ** 0.5)
    matrix = averaged(values).reshape(count, count)
    return Measurement(
        values=matrix.ravel(),
        null=averaged(null),
        ceiling=matrix.diagonal()[None].repeat(count, axis=0).ravel(),
        samples=tuple(f"network {i + 1} to {j + 1}" for i in range(count) for j in range(count)),
        convention="R2 of test rows against each feature's mean; code written by the first network, decoded for the second",
        extra={
            "linear": averaged(linear),
            "same": averaged([torch.eye(count).flatten()]),
        },
    )


def _r2(target: View, shared: Tensor) -> Tensor:
    rows = target.rows.double()
    variance = (rows - rows.mean(dim=0)).square().sum()
    if not bool(variance > 0):
        raise LimenError(
            "metric 'cross_reconstruction': given a network whose test rows are all the same, allowed are rows that differ."
        )
    return 1 - (rows - decoded(target, shared).double()).square().sum() / variance


def _linear(source: Tensor, target: Tensor) -> Tensor:
    """Return R2 of the least-squares affine map from one network's rows to another's, on these rows."""
    known, wanted = (rows.double() - rows.double().mean(dim=0) for rows in (source, target))
    basis, sizes, _ = torch.linalg.svd(known, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes.max()]
    return (basis.T @ wanted).square().sum() / wanted.square().sum()
