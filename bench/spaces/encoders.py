"""How centred activations become codes: one function an encoder, reading the dictionary's own tensors alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .nnls import nnls

if TYPE_CHECKING:
    from .dictionary import Dictionary


def _identity(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return centred


def _linear(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return centred @ dictionary.parameters["filters"].T


def _nnls(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return nnls(centred, dictionary.atoms)


def _nearest(centred: Tensor, dictionary: Dictionary) -> Tensor:
    """Give the nearest centroid its length as the code, so that decoding returns the centroid."""
    centroids = dictionary.parameters["centroids"]
    lengths = centroids.norm(dim=1)
    chosen = (centred @ centroids.T - 0.5 * lengths.square()).argmax(dim=1, keepdim=True)
    return torch.zeros_like(centred[:, :1]).repeat(1, len(centroids)).scatter(1, chosen, lengths[chosen])


def _affine(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return torch.addmm(dictionary.parameters["bias"], centred, dictionary.parameters["filters"].T)


def _relu(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return _affine(centred, dictionary).relu()


def _topk(centred: Tensor, dictionary: Dictionary) -> Tensor:
    """Keep the `active` largest positive answers of the filters; `gain` carries them to the units of unit atoms."""
    answers = _affine(centred, dictionary).relu()
    values, indices = answers.topk(int(dictionary.parameters["active"]), dim=1)
    return torch.zeros_like(answers).scatter(1, indices, values) * dictionary.parameters["gain"]


def _threshold(centred: Tensor, dictionary: Dictionary) -> Tensor:
    """Keep the answers above each atom's own threshold."""
    answers = _affine(centred, dictionary)
    return answers * (answers > dictionary.parameters["threshold"]) * dictionary.parameters["gain"]


ENCODERS: Mapping[str, tuple[Callable[[Tensor, Dictionary], Tensor], tuple[str, ...]]] = {
    "identity": (_identity, ()),
    "linear": (_linear, ("filters",)),
    "nnls": (_nnls, ()),
    "nearest": (_nearest, ("centroids",)),
    "relu": (_relu, ("filters", "bias")),
    "topk": (_topk, ("filters", "bias", "gain", "active")),
    "threshold": (_threshold, ("filters", "bias", "gain", "threshold")),
}
"""How centred activations (n, d) become codes (n, k): a function and the names of the tensors it reads.

`filters` (k, d), `bias`, `gain`, `threshold` (k,), `centroids` (k, d), `active` () a count.
"""
