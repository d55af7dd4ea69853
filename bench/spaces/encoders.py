"""How centred activations become codes: one function an encoder, reading the dictionary's own tensors alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .nnls import nnls
from .pursuit import pursuit

if TYPE_CHECKING:
    from .dictionary import Dictionary

Entries = tuple[Tensor, Tensor]
"""Values and indices, (n, entries)."""


def _identity(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return centred


def _linear(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return centred @ dictionary.parameters["filters"].T


def _nnls(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return nnls(centred, dictionary.atoms)


def _nearest_entries(centred: Tensor, dictionary: Dictionary) -> Entries:
    centroids = dictionary.parameters["centroids"]
    lengths = centroids.norm(dim=1)
    chosen = (centred @ centroids.T - 0.5 * lengths.square()).argmax(dim=1, keepdim=True)
    return lengths[chosen], chosen


def _nearest(centred: Tensor, dictionary: Dictionary) -> Tensor:
    """Give the nearest centroid its length as the code, so that decoding returns the centroid."""
    return _spread(_nearest_entries(centred, dictionary), dictionary.k)


def _affine(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return torch.addmm(dictionary.parameters["bias"], centred, dictionary.parameters["filters"].T)


def _relu(centred: Tensor, dictionary: Dictionary) -> Tensor:
    return _affine(centred, dictionary).relu()


def _topk_entries(centred: Tensor, dictionary: Dictionary) -> Entries:
    answers = _affine(centred, dictionary).relu()
    values, indices = answers.topk(int(dictionary.parameters["active"]), dim=1)
    return values * dictionary.parameters["gain"][indices], indices


def _topk(centred: Tensor, dictionary: Dictionary) -> Tensor:
    """Keep the `active` largest positive answers of the filters; `gain` carries them to the units of unit atoms."""
    return _spread(_topk_entries(centred, dictionary), dictionary.k)


def _pursuit_entries(centred: Tensor, dictionary: Dictionary) -> Entries:
    scaled = centred / dictionary.parameters["scale"]
    values, indices = pursuit(scaled, dictionary.parameters["filters"], int(dictionary.parameters["active"]))
    return values * dictionary.parameters["gain"][indices], indices


def _pursuit(centred: Tensor, dictionary: Dictionary) -> Tensor:
    """Take `active` filters one after the other, each the one that explains most of what is left, in units of `scale`."""
    return _spread(_pursuit_entries(centred, dictionary), dictionary.k)


def _spread(entries: Entries, k: int) -> Tensor:
    values, indices = entries
    return values.new_zeros(len(values), k).scatter_add(1, indices, values)


def _shared_topk_entries(centred: Tensor, dictionary: Dictionary) -> Entries:
    parameters = dictionary.parameters
    count = len(parameters["widths"])
    answers = (parameters["biases"].mean(dim=0) + centred @ parameters["filters"].T / count).relu()
    values, indices = answers.topk(int(parameters["active"]), dim=1)
    return values * parameters["gain"][indices], indices


def _shared_topk(centred: Tensor, dictionary: Dictionary) -> Tensor:
    """Average the answers of several networks' filters, side by side in one row, and keep the `active` largest."""
    return _spread(_shared_topk_entries(centred, dictionary), dictionary.k)


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
    "shared_topk": (_shared_topk, ("filters", "biases", "gain", "active", "widths")),
    "threshold": (_threshold, ("filters", "bias", "gain", "threshold")),
    "pursuit": (_pursuit, ("filters", "gain", "scale", "active")),
}
"""How centred activations (n, d) become codes (n, k): a function and the names of the tensors it reads.

`filters` (k, d), `bias`, `gain`, `threshold` (k,), `centroids` (k, d), `scale` (d,), `active` () a count; of M networks
side by side `biases` (M, k) and `widths` (M,), how many of the d features are each one's.
"""

ENTRIES: Mapping[str, Callable[[Tensor, Dictionary], Entries]] = {
    "nearest": _nearest_entries,
    "topk": _topk_entries,
    "shared_topk": _shared_topk_entries,
    "pursuit": _pursuit_entries,
}
"""The encoders whose rows all have the same number of entries: values and indices (n, entries) of the same codes."""
