"""The space of concepts: credit goes to the atoms of a dictionary at a layer, and only the head of the network runs."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from ..engine import Engine
from ..engine.content import combined, digests
from ..registry import LimenError, unknown
from .dictionary import Dictionary
from .space import Mode, Size

_WHERE = "space 'concepts'"
_KEPT = 4
"""Batches of images whose codes are remembered: a method and the engine ask for the same ones several times."""


class Concepts:
    """Codes of a dictionary at a layer: what the network holds there, said in atoms.

    The coordinates of an image are its codes (T, k): T positions of the layer (places of feature maps, tokens, or 1),
    then k concepts. A mask or a credit of a concept is one for all positions at once, so positions are what channels
    are in pixels: `credit` sums over them, and the k concepts are the places. What is explained is
    `F(u) = head(decode(u))`, the network after the dictionary has spoken for the layer.

    Concepts have no neighbours: every concept is a cell whatever `side` is, and no interpolation is done between them.

    Parameters
    ----------
    dictionary : Dictionary, fitted on activations of the layer
    layer : name of a layer that everything passes through; `Engine.head` says which do
    baseline : 'zero', no concept at all: activations at the dictionary's mean

    References
    ----------
    Fel et al. 2023, arXiv:2306.07304; Fel et al. 2023 (CRAFT), arXiv:2211.10154.
    """

    ordered = False

    def __init__(self, dictionary: Dictionary, layer: str, baseline: str = "zero") -> None:
        _check_baseline(baseline)
        self.dictionary = dictionary
        self.layer: str | None = layer
        self.kind = baseline
        self.name = f"concepts ({dictionary.k} of {dictionary.name} at {layer}, {baseline})"
        parts = [
            dictionary.atoms,
            dictionary.mean,
            *(part for pair in sorted(dictionary.parameters.items()) for part in pair),
        ]
        self.identity: str | None = combined("concepts", layer, dictionary.encoder, *parts)
        self._beside = {dictionary.atoms.device: dictionary}
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._codes: WeakKeyDictionary[Engine, dict[tuple[str, ...], Tensor]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"Concepts({self.dictionary.name!r}, k={self.dictionary.k}, layer={self.layer!r})"

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
        """Return the codes (N, T, k) of images; remembered by the images' content.

        Raises
        ------
        LimenError
            If the layer's activations are not what the dictionary codes, or have as many positions as earlier ones of
            another shape.
        """
        images = engine.prepare(images)
        known, names = self._codes.setdefault(engine, {}), tuple(digests(images))
        if names not in known:
            activations = engine.tap(images, self.layer)
            codes = self._placed(activations).encode(activations)
            codes = codes.reshape(len(codes), -1, self.dictionary.k)
            self._remember_shape(codes.shape[1], tuple(activations.shape[1:]))
            known[names] = codes
            if len(known) > _KEPT:
                del known[next(iter(known))]
        return known[names].clone()

    def baseline(self, coordinates: Tensor) -> Tensor:
        """Return codes (N, T, k) that are all zero."""
        return torch.zeros_like(coordinates)

    def rebased(self, baseline: str) -> Concepts:
        """Return the same space; 'zero' is its only baseline."""
        _check_baseline(baseline)
        return self

    def inputs(self, coordinates: Tensor) -> Tensor:
        """Return the activations of the layer that codes (N, T, k) stand for; differentiable."""
        count = coordinates.shape[1]
        if count not in self._shapes:
            raise LimenError(f"{_WHERE}: given codes of {count} positions, allowed are those of images seen before.")
        activations = self._placed(coordinates).decode(coordinates)
        shape = self._shapes[count]
        if len(shape) == 3:
            activations = activations.transpose(1, 2)
        return activations.reshape(len(coordinates), *shape)

    def cells(self, coordinates: Tensor, side: int | None) -> int:
        """Return the number of concepts, whatever `side` is."""
        return int(coordinates.shape[-1])

    def spread(self, weights: Tensor, coordinates: Tensor, side: int | None, mode: Mode = "nearest") -> Tensor:
        """Return weights (B, k) as (B, 1, k): one for all positions.

        Raises
        ------
        LimenError
            If the weights are not one a concept.
        """
        if weights.shape[1] != coordinates.shape[-1]:
            raise LimenError(
                f"{_WHERE}: given {weights.shape[1]} weights for {coordinates.shape[-1]} concepts; they must agree."
            )
        return weights.unsqueeze(1)

    def pool(self, credit: Tensor, side: int | None) -> Tensor:
        """Return credit (N, 1, k) as (N, k)."""
        return credit.sum(dim=1)

    def credit(self, gradients: Tensor) -> Tensor:
        """Sum signed values (N, T, k) over the positions, (N, 1, k)."""
        return gradients.sum(dim=1, keepdim=True)

    def map(self, credit: Tensor, size: Size) -> Tensor:
        """Draw credit (N, 1, k) as k upright stripes from left to right, (N, 1, H, W); `heatmap` draws it on the image."""
        wanted = (size, size) if isinstance(size, int) else tuple(size)
        return functional.interpolate(credit.unsqueeze(2), size=wanted, mode="nearest")

    def heatmap(self, engine: Engine, images: Tensor, credit: Tensor, size: Size | None = None) -> Tensor:
        """Draw credit where in the image its concepts are.

        Each concept's credit is shared among the positions by the magnitude of its code there; a concept that the image
        does not hold has nowhere to go.

        Parameters
        ----------
        credit : (N, 1, k)
        size : height and width of the drawing; None is the images'

        Returns
        -------
        (N, 1, H, W), signed

        Raises
        ------
        LimenError
            If the layer's activations have no height and width.
        """
        codes = self.coordinates(engine, images).abs()
        shape = self._shapes[codes.shape[1]]
        if len(shape) != 3:
            raise LimenError(
                f"{_WHERE}: given the layer '{self.layer}' with activations {shape}, allowed is (C, H, W)."
            )
        total = codes.sum(dim=1, keepdim=True)
        shares = codes / total.where(total > 0, 1)
        coarse = (shares * credit).sum(dim=2).reshape(-1, 1, *shape[1:])
        wanted = images.shape[-2:] if size is None else size
        return functional.interpolate(coarse, size=wanted, mode="bilinear", align_corners=False)

    def _placed(self, like: Tensor) -> Dictionary:
        """Return the dictionary where `like` is."""
        if like.device not in self._beside:
            self._beside[like.device] = self.dictionary.apply(lambda part: part.type_as(like))
        return self._beside[like.device]

    def _remember_shape(self, count: int, shape: tuple[int, ...]) -> None:
        known = self._shapes.setdefault(count, shape)
        if known[1:] != shape[1:]:
            raise LimenError(
                f"{_WHERE}: given activations {shape} after {known}, both of {count} positions; allowed is one shape a "
                "space, so make another for these images."
            )


def _check_baseline(baseline: str) -> None:
    if baseline != "zero":
        raise unknown(f"{_WHERE}, baseline", baseline, ["zero"])
