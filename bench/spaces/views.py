"""One code for several networks: rows of all of them side by side, and each network's own view of the shared code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..engine.activations import Activations
from ..engine.joined import Joined
from ..registry import LimenError
from .dictionary import Dictionary


def side_by_side(
    activations: Sequence[Tensor | Activations], grids: Sequence[tuple[int, int] | None] | None = None
) -> tuple[Tensor | Activations, tuple[int, ...]]:
    """Put the activations of several networks for the same images side by side, position by position.

    Parameters
    ----------
    activations : for each network float (N, C, H, W), (N, T, d) or (N, d); or a stream for each, of as many rows an image,
        recorded at one grid
    grids : (H, W) of tokens (N, T, d) with H * W = T, or None; class tokens left out before

    Returns
    -------
    rows : float32 (N, d_1 + ... + d_M), or (N, T, d_1 + ... + d_M) where there are positions; of streams a stream
        Grids of unlike size are resized bilinearly to the smallest.
    widths : (d_1, ..., d_M)

    Raises
    ------
    LimenError
        If the images or the positions do not correspond.
    """
    shapes = ", ".join(str(tuple(one.shape)) for one in activations)
    streams = tuple(one for one in activations if isinstance(one, Activations))
    if streams:
        if len(streams) < len(activations) or len({(len(one), one.positions) for one in streams}) != 1:
            raise LimenError(
                f"activations side by side: given {shapes}, allowed are streams for all, of as many rows and positions."
            )
        return Joined.beside(streams), tuple(one.shape[1] for one in streams)
    return _in_memory([one for one in activations if isinstance(one, Tensor)], grids, shapes)


def _in_memory(
    activations: Sequence[Tensor], grids: Sequence[tuple[int, int] | None] | None, shapes: str
) -> tuple[Tensor, tuple[int, ...]]:
    allowed = "allowed are the same images for each, (N, C, H, W), (N, T, d) of one T or of a grid, or all (N, d)"
    given = [
        one.transpose(1, 2).unflatten(2, grid) if grid is not None and one.ndim == 3 else one
        for one, grid in zip(activations, grids or [None] * len(activations), strict=True)
    ]
    if not given or len({len(one) for one in given}) != 1 or len({one.ndim for one in given}) != 1:
        raise LimenError(f"activations side by side: given {shapes or 'none'}, {allowed}.")
    if given[0].ndim == 4:
        places = min((tuple(one.shape[2:]) for one in given), key=lambda place: place[0] * place[1])
        given = [_resized(one, places).movedim(1, -1).flatten(1, 2) for one in given]
    if given[0].ndim not in (2, 3) or len({one.shape[1:-1] for one in given}) != 1:
        raise LimenError(f"activations side by side: given {shapes}, {allowed}.")
    return torch.cat([one.float() for one in given], dim=-1), tuple(int(one.shape[-1]) for one in given)


def _resized(maps: Tensor, places: tuple[int, ...]) -> Tensor:
    if tuple(maps.shape[2:]) == places:
        return maps
    return functional.interpolate(maps.float(), size=places, mode="bilinear", align_corners=False, antialias=True)


def views(dictionary: Dictionary) -> tuple[Dictionary, ...]:
    """Return each network's own dictionary: its encoder into the shared code, and its part of every atom.

    Atom i is one concept in all views. A view's codes are those of the shared code in the units of the network, the
    shared code times the view's `gain`.

    Parameters
    ----------
    dictionary : a `universal` dictionary, of networks side by side

    Raises
    ------
    LimenError
        If it is another dictionary.
    """
    if dictionary.encoder != "shared_topk":
        raise LimenError(
            f"views: given dictionary '{dictionary.name}' with the encoder '{dictionary.encoder}', allowed is one of several "
            "networks, such as 'universal' fits."
        )
    parameters = dictionary.parameters
    widths = [int(width) for width in parameters["widths"]]
    found = []
    for index, (atoms, mean, filters) in enumerate(
        zip(
            (dictionary.atoms * parameters["gain"][:, None]).split(widths, dim=1),
            dictionary.mean.split(widths),
            parameters["filters"].split(widths, dim=1),
            strict=True,
        )
    ):
        gain = atoms.norm(dim=1)
        found.append(
            Dictionary(
                name=dictionary.name,
                atoms=torch.where(gain[:, None] > 0, atoms / gain.clamp_min(1e-30)[:, None], 0.0),
                mean=mean,
                encoder="topk",
                signed=False,
                parameters={
                    "filters": filters,
                    "bias": parameters["biases"][index],
                    "gain": gain,
                    "active": parameters["active"],
                },
                provenance={**dictionary.provenance, "view": index},
            )
        )
    return tuple(found)
