"""Co-firing: when a network fires a latent, do the others fire it too?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import check, joined
from ._shared import TOLD, Threshold, View, check_networks, firings, permutations, written


@metric(
    version=1,
    citation="arXiv:2502.03714",
    cost="one encode a network and fit",
    of="dictionary",
    direction="up",
    bounds=(0.0, 1.0),
    null="the proportion with the other networks' latents of another index",
    ceiling="the firings of the network in which the latent fires least, over the network's own",
    presets={"published": {"threshold": 0.0}},
)
def cofiring(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    threshold: Threshold = 0.2,
    null_draws: int = 20,
) -> Measurement:
    """Measure in what share of the rows where one network fires a latent all networks fire it.

    Parameters
    ----------
    dictionaries : one or more fits of a universal dictionary
    data : ConceptData of the networks side by side; every position is a row where there are `test_maps`
    draws : Draws
    threshold : a latent fires in a row where the shared code is larger than this share of the latent's largest code in
        any network. TopK makes every network name as many latents as it is told, so that one which does not know a
        concept still fires its latent, weakly, in rows where it has nothing else to say: at the published 0 such
        latents count as shared.
    null_draws : permutations of the other networks' indices; only latents that fire take part

    Returns
    -------
    Measurement
        One value a network and latent, NaN where it never fires; `extra` holds `cofires`, rows in which all networks
        fire it, and `energy`, the squared length of the mean contribution of the latent to the network's rows, with
        `energy_null`, its mean over latents.

    Raises
    ------
    LimenError
        If a dictionary is not one of two or more networks.

    References
    ----------
    arXiv:2502.03714
    """
    check("cofiring", dictionaries, data, null_draws=null_draws)
    names: list[str] = []
    columns: dict[str, list[Tensor]] = {
        name: [] for name in ("value", "null", "ceiling", "cofires", "energy", "energy_null")
    }
    for fit, one in enumerate(dictionaries):
        found = written(one, data)
        check_networks("cofiring", len(found))
        fired = firings(found, threshold)
        counts = fired.sum(dim=1).double()
        together = fired.all(dim=0).sum(dim=0).double()
        orders = permutations(counts.sum(dim=0) > 0, len(found), null_draws, draws.spawn(fit))
        chance = _chance(fired, orders)
        for network, view in enumerate(found):
            own = counts[network]
            energy = _energy(view)
            columns["value"].append(_share(together, own))
            columns["null"].append(_share(chance[network], own))
            columns["ceiling"].append(_share(counts.amin(dim=0), own))
            columns["cofires"].append(together)
            columns["energy"].append(energy)
            columns["energy_null"].append(energy.mean().expand_as(energy))
            prefix = f"fit {fit + 1}, " if len(dictionaries) > 1 else ""
            names += [f"{prefix}network {network + 1}, atom {atom + 1}" for atom in range(one.k)]
    arrays = {name: joined(column) for name, column in columns.items()}
    return Measurement(
        values=arrays.pop("value"),
        null=arrays.pop("null"),
        ceiling=arrays.pop("ceiling"),
        samples=tuple(names),
        convention=f"rows in which all networks fire a latent ({TOLD.format(threshold)}) / rows in which one does",
        extra=arrays,
    )


def _chance(fired: Tensor, orders: Tensor) -> Tensor:
    """Return how often each network's latent (M, k) fires with mismatched latents of the others, mean over orders."""
    networks, _, k = fired.shape
    found = fired.new_zeros(networks, k, dtype=torch.float64)
    for order in orders:
        both = torch.stack([fired[network][:, order[network]] for network in range(networks)]).all(dim=0)
        times = both.sum(dim=0).double()
        for network in range(networks):
            found[network].index_add_(0, order[network], times)
    return found / len(orders)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, torch.nan)


def _energy(view: View) -> Tensor:
    """Return |E[z_k] D_k|^2 in the network's units, (k,)."""
    return (view.shared.double().mean(dim=0) * view.dictionary.parameters["gain"].double()).square()
