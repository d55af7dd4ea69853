"""A network that ends in concepts: its classes are the atoms of a dictionary, so any attribution says where one is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

from torch import Tensor, nn

from ..engine import Engine
from ..engine.content import combined
from ..engine.hooks import find_layer, replaced
from ..registry import unknown
from .dictionary import Dictionary

Pool = Literal["mean", "max"]
_CLASSES = "concept {}"


class Readout(nn.Module):
    """The network up to a layer, then codes, then one score a concept.

    Its modules bear the names they have in the network, so that layers before the concepts can be named as there.

    Parameters
    ----------
    module : the network
    layer : name of the layer that the dictionary codes
    dictionary : Dictionary
    pool : 'mean' or 'max' of a concept's codes over positions
    name : what the network is called in errors
    """

    def __init__(self, module: nn.Module, layer: str, dictionary: Dictionary, pool: Pool, name: str) -> None:
        super().__init__()
        for one, child in module.named_children():
            self.add_module(one, child)
        for one, parameter in module.named_parameters(recurse=False):
            self.register_parameter(one, parameter)
        # Held in a tuple: a module that is registered would double every layer's name.
        self._whole = (module,)
        self._layer, self._pool, self._name = layer, pool, name
        self._dictionary = dictionary
        self._runs: int | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled codes (N, k); differentiable wherever the encoder is."""
        activations = self._activations(images)
        if self._dictionary.atoms.device != activations.device:
            self._dictionary = self._dictionary.apply(lambda part: part.type_as(activations))
        codes = self._dictionary.encode(activations).reshape(len(images), -1, self._dictionary.k)
        return codes.mean(dim=1) if self._pool == "mean" else codes.amax(dim=1)

    def _activations(self, images: Tensor) -> Tensor:
        """Run the network until the layer has run for the last time, which the first pass finds out."""
        seen: list[Tensor] = []

        def keep(output: Tensor) -> Tensor:
            # A copy, since what follows may work in place.
            seen.append(output.clone())
            if len(seen) == self._runs:
                raise _Reached
            return output

        (module,) = self._whole
        with replaced(find_layer(module, self._layer, self._name), keep), _stopped():
            module(images)
        self._runs = len(seen)
        return seen[-1]


class _Reached(Exception):
    """The layer has run: nothing after it is needed."""


@contextmanager
def _stopped() -> Iterator[None]:
    try:
        yield
    except _Reached:
        return


def concept_engine(engine: Engine, dictionary: Dictionary, layer: str, *, pool: Pool = "mean") -> Engine:
    """Return an engine whose classes are concepts, for attributions, visualisations and sub-concepts of one.

    The score of class k is the code of concept k, pooled over the positions of the layer; its gradient passes through
    the encoder, by implicit differentiation where that is non-negative least squares. Nothing after the layer runs.

    Parameters
    ----------
    engine : Engine
    dictionary : Dictionary, fitted on activations of the layer
    layer : name of the layer; any that runs, it need not be a cut point
    pool : {'mean', 'max'}
        Mean over positions asks how much of the concept there is, max where it is strongest.

    Returns
    -------
    Engine
        Same device, precision, batches and meters; its network's classes are 'concept 0', 'concept 1' ...

    Raises
    ------
    LimenError
        If the layer or the pooling is unknown.

    References
    ----------
    Fel et al. 2023 (CRAFT), arXiv:2211.10154.
    """
    if pool not in get_args(Pool):
        raise unknown("concept engine, pool", pool, get_args(Pool))
    network = engine.network
    find_layer(network.module, layer, network.name)
    placed = dictionary.apply(engine.place)
    module = Readout(network.module, layer, placed, pool, network.name)
    parts: list[Any] = [
        placed.atoms,
        placed.mean,
        *(part for pair in sorted(placed.parameters.items()) for part in pair),
    ]
    return engine.beside(
        dataclasses.replace(
            network,
            name=f"{network.name}, concepts of {dictionary.name} at {layer} ({pool})",
            module=module,
            classes=tuple(_CLASSES.format(index) for index in range(dictionary.k)),
            layer=layer,
            fingerprint=combined(network.fingerprint, layer, pool, dictionary.encoder, *parts),
        )
    )
