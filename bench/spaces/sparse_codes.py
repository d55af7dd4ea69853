"""Codes that are mostly zero, kept as their entries: what a large dictionary says of many rows fits in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..registry import LimenError
from .encoders import ENCODERS, ENTRIES, Parameters


@dataclass(frozen=True, eq=False)
class SparseCodes:
    """Codes (n, k) as the entries that are not zero.

    Attributes
    ----------
    indices : int64 (n, entries)
        The atom of each entry. One that a row names twice has the sum of its values.
    values : float32 (n, entries)
        0 where a row has fewer entries than another.
    k : int
        Number of atoms.

    Raises
    ------
    LimenError
        If shapes disagree or an index is no atom.
    """

    indices: Tensor
    values: Tensor
    k: int

    def __post_init__(self) -> None:
        given = tuple(self.indices.shape)
        if self.indices.ndim != 2 or given != tuple(self.values.shape) or self.indices.dtype != torch.int64:
            raise LimenError(
                f"sparse codes: given {self.indices.dtype} indices {given} and values {tuple(self.values.shape)}, "
                "allowed are int64 (n, entries) and as many values."
            )
        if self.indices.numel() and not 0 <= int(self.indices.min()) <= int(self.indices.max()) < self.k:
            raise LimenError(
                f"sparse codes: given indices from {int(self.indices.min())} to {int(self.indices.max())}, allowed are "
                f"0 to {self.k - 1}."
            )

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and atoms."""
        return len(self.indices), self.k

    def dense(self) -> Tensor:
        """Return all codes, zeros included, float32 (n, k)."""
        return self.values.new_zeros(self.shape).scatter_add(1, self.indices, self.values)

    def times(self, atoms: Tensor) -> Tensor:
        """Return codes @ atoms, (n, d), from the entries alone."""
        if not self.indices.numel():
            return atoms.new_zeros(len(self), atoms.shape[1])
        return functional.embedding_bag(self.indices, atoms, mode="sum", per_sample_weights=self.values)

    def active(self) -> Tensor:
        """Return how many atoms each row uses, int64 (n,)."""
        atoms, order = self.indices.sort(dim=1, stable=True)
        used = self.values.gather(1, order) != 0
        # Of the entries of one atom in a row the last used one counts: those after it are fillings.
        counted = used.clone()
        for entry in range(atoms.shape[1] - 1):
            again = ((atoms[:, entry + 1 :] == atoms[:, entry : entry + 1]) & used[:, entry + 1 :]).any(dim=1)
            counted[:, entry] &= ~again
        return counted.sum(dim=1)

    @staticmethod
    def joined(parts: Sequence[SparseCodes]) -> SparseCodes:
        """Put the rows of several codes, of the same atoms, below each other."""
        width = max(part.indices.shape[1] for part in parts)
        indices = [functional.pad(part.indices, (0, width - part.indices.shape[1])) for part in parts]
        values = [functional.pad(part.values, (0, width - part.values.shape[1])) for part in parts]
        return SparseCodes(torch.cat(indices), torch.cat(values), parts[0].k)


def entries_of(centred: Tensor, encoder: str, atoms: Tensor, parameters: Parameters) -> SparseCodes:
    """Code centred rows (n, d) in atoms (k, d); the same codes as the dense encoder's."""
    if encoder in ENTRIES:
        values, indices = ENTRIES[encoder](centred, atoms, parameters)
        return SparseCodes(indices, values, len(atoms))
    codes = ENCODERS[encoder][0](centred, atoms, parameters)
    active = codes != 0
    width = int(active.sum(dim=1).max()) if len(codes) else 0
    # The largest in magnitude are the ones that are not zero; filling entries point at atoms whose code is 0.
    indices = codes.abs().topk(width, dim=1).indices
    return SparseCodes(indices, codes.gather(1, indices), len(atoms))
