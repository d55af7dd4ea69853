"""The shared code of several networks as each of them writes it, and permutations of its indices for a null."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ...engine import Draws
from ...registry import LimenError
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from ...spaces.views import views

Threshold = Annotated[float, Field(ge=0, lt=1)]
TOLD = "shared code above {:g} of the latent's largest"
_ROWS_AT_ONCE = 4096


class View(NamedTuple):
    """One network: its dictionary, its rows (n, d_i), and the shared code (n, k) that it writes."""

    dictionary: Dictionary
    rows: Tensor
    shared: Tensor


def written(universal: Dictionary, data: ConceptData) -> list[View]:
    """Return what each network makes of the test rows, at every position where there are positions.

    Parameters
    ----------
    universal : a dictionary of several networks
    data : ConceptData of the networks side by side
    """
    rows = data.test if data.test_maps is None else data.test_maps.flatten(0, 1)
    found = []
    for one, own in zip(views(universal), rows.split([one.d for one in views(universal)], dim=1), strict=True):
        gain = one.parameters["gain"]
        plain = replace(one, parameters={**one.parameters, "gain": torch.ones_like(gain)})
        found.append(View(one, own, torch.cat([plain.encode(part) for part in own.split(_ROWS_AT_ONCE)])))
    return found


def decoded(one: View, shared: Tensor) -> Tensor:
    """Return a network's rows from the shared code (n, k)."""
    return one.dictionary.decode(shared * one.dictionary.parameters["gain"])


def firings(found: list[View], threshold: float) -> Tensor:
    """Return where each network fires each latent, bool (M, n, k): above a share of the latent's largest code in any."""
    shared = torch.stack([view.shared for view in found])
    return shared > threshold * shared.amax(dim=(0, 1))


def permutations(alive: Tensor, networks: int, count: int, draws: Draws) -> Tensor:
    """Return orders of the latents (count, networks, k) that mix those alive (k,); the first network's stay in place."""
    latents = torch.ones_like(alive, dtype=torch.int64).cumsum(0) - 1
    living = alive.nonzero()[:, 0]
    found = latents.repeat(count, networks, 1)
    for draw in range(count):
        for network in range(1, networks):
            found[draw, network, living] = living[draws.permutation(len(living))]
    return found


def check_networks(metric: str, count: int) -> None:
    """Refuse a dictionary of a single network.

    Raises
    ------
    LimenError
    """
    if count < 2:
        raise LimenError(f"metric '{metric}': given a dictionary of {count} network, allowed are two or more networks.")
