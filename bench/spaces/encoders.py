"""How centred activations become codes: one function an encoder, reading a dictionary's own tensors alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .nnls import nnls
from .pursuit import pursuit

Entries = tuple[Tensor, Tensor]
"""Values and indices, (n, entries)."""
Parameters = Mapping[str, Tensor]
Encode = Callable[[Tensor, Tensor, Parameters], Tensor]
"""`encode(centred (n, d), atoms (k, d), parameters) -> codes (n, k)`."""


def _identity(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    return centred


def _linear(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    return centred @ parameters["filters"].T


def _nnls(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    return nnls(centred, atoms)


def _nearest_entries(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Entries:
    centroids = parameters["centroids"]
    lengths = centroids.norm(dim=1)
    chosen = (centred @ centroids.T - 0.5 * lengths.square()).argmax(dim=1, keepdim=True)
    return lengths[chosen], chosen


def _nearest(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    """Give the nearest centroid its length as the code, so that decoding returns the centroid."""
    return _spread(_nearest_entries(centred, atoms, parameters), len(atoms))


def _affine(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    return torch.addmm(parameters["bias"], centred, parameters["filters"].T)


def _relu(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    return _affine(centred, atoms, parameters).relu()


def _topk_entries(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Entries:
    answers = _affine(centred, atoms, parameters).relu()
    values, indices = answers.topk(int(parameters["active"]), dim=1)
    return values * parameters["gain"][indices], indices


def _topk(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    """Keep the `active` largest positive answers of the filters; `gain` carries them to the units of unit atoms."""
    return _spread(_topk_entries(centred, atoms, parameters), len(atoms))


def _pursuit_entries(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Entries:
    scaled = centred / parameters["scale"]
    values, indices = pursuit(scaled, parameters["filters"], int(parameters["active"]))
    return values * parameters["gain"][indices], indices


def _pursuit(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    """Take `active` filters one after the other, each the one that explains most of what is left, in units of `scale`."""
    return _spread(_pursuit_entries(centred, atoms, parameters), len(atoms))


def _spread(entries: Entries, k: int) -> Tensor:
    values, indices = entries
    return values.new_zeros(len(values), k).scatter_add(1, indices, values)


def _shared_topk_entries(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Entries:
    count = len(parameters["widths"])
    answers = (parameters["biases"].mean(dim=0) + centred @ parameters["filters"].T / count).relu()
    values, indices = answers.topk(int(parameters["active"]), dim=1)
    return values * parameters["gain"][indices], indices


def _shared_topk(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    """Average the answers of several networks' filters, side by side in one row, and keep the `active` largest."""
    return _spread(_shared_topk_entries(centred, atoms, parameters), len(atoms))


def _threshold(centred: Tensor, atoms: Tensor, parameters: Parameters) -> Tensor:
    """Keep the answers above each atom's own threshold."""
    answers = _affine(centred, atoms, parameters)
    return answers * (answers > parameters["threshold"]) * parameters["gain"]


ENCODERS: Mapping[str, tuple[Encode, tuple[str, ...]]] = {
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

ENTRIES: Mapping[str, Callable[[Tensor, Tensor, Parameters], Entries]] = {
    "nearest": _nearest_entries,
    "topk": _topk_entries,
    "shared_topk": _shared_topk_entries,
    "pursuit": _pursuit_entries,
}
"""The encoders whose rows all have the same number of entries: values and indices (n, entries) of the same codes."""
