"""Firing entropy: is a latent used by all networks alike, or is it one network's own?"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import atom_names, check, joined
from ._shared import TOLD, Threshold, check_networks, firings, permutations, written


@metric(
    version=1,
    citation="arXiv:2502.03714",
    cost="one encode a network and fit",
    of="dictionary",
    direction="up",
    bounds=(0.0, 1.0),
    null="the entropy of latents of different index, one a network",
    ceiling="1, all networks fire equally often",
    presets={"published": {"threshold": 0.0}},
)
def firing_entropy(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    threshold: Threshold = 0.2,
    null_draws: int = 20,
) -> Measurement:
    """Measure how evenly the firings of each latent are spread over the networks.

    `-(1 / log M) sum_i p_i log p_i`, p_i the share of network i in all firings of the latent: 1 where all fire equally
    often, 0 where one alone fires. How often says nothing of when: latents that all fire at one rate have entropy 1
    whatever they stand for, which the index-permuted null shows. Read it beside `cofiring`.

    Parameters
    ----------
    dictionaries : one or more fits of a universal dictionary
    data : ConceptData of the networks side by side; every position is a row where there are `test_maps`
    draws : Draws
    threshold : a latent fires in a row where the shared code is larger than this share of the latent's largest code in
        any network. TopK makes every network name as many latents as it is told, so that one which does not know a
        concept still fires its latent, weakly, in rows where it has nothing else to say: at the published 0 such
        latents count as shared.
    null_draws : permutations of the indices

    Returns
    -------
    Measurement
        One value a latent, NaN where it never fires; `extra` holds `firings`, the share of all rows and networks.

    Raises
    ------
    LimenError
        If a dictionary is not one of two or more networks.

    References
    ----------
    arXiv:2502.03714
    """
    check("firing_entropy", dictionaries, data, null_draws=null_draws)
    values, null, often = [], [], []
    for fit, one in enumerate(dictionaries):
        found = written(one, data)
        check_networks("firing_entropy", len(found))
        counts = firings(found, threshold).sum(dim=1).double()
        orders = permutations(counts.sum(dim=0) > 0, len(found), null_draws, draws.spawn(fit))
        mixed = [entropy(counts.gather(1, order)) for order in orders]
        values.append(entropy(counts))
        null.append(torch.stack(mixed).nanmean(dim=0))
        often.append(counts.sum(dim=0) / (len(found) * len(found[0].rows)))
    return Measurement(
        values=joined(values),
        null=joined(null),
        ceiling=1.0,
        samples=atom_names(dictionaries),
        convention=f"entropy over networks of the firings ({TOLD.format(threshold)}) on test rows, divided by log M",
        extra={"firings": joined(often)},
    )


def entropy(counts: Tensor) -> Tensor:
    """Return the entropy of each column of counts (M, k) in units of log M; NaN where nothing was counted."""
    total = counts.sum(dim=0)
    shares = counts / total
    found = -torch.xlogy(shares, shares).sum(dim=0) / log(len(counts))
    return torch.where(total > 0, found, torch.nan)
