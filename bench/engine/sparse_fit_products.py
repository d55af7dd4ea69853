"""Products with codes that are mostly zero: dense in bfloat16 where that is cheap, else only what a code touches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import embedding_bag

_DENSE_SPEED = {"cpu": 8, "cuda": 256}
"""How many products of a dense matrix product take the time of one product by gathering."""

_GROUP = 16
"""Neighbouring answers that are looked at together when the largest of a batch are sought."""


class Places:
    """Where the codes of a batch are not zero: entry `e` is the code of latent `columns[e]` for row `rows[e]`.

    Attributes
    ----------
    columns : int64 (entries,)
        Sorted by row.
    starts : int64 (n,)
        First entry of each row.
    k : int
        Number of latents.
    """

    def __init__(self, columns: Tensor, starts: Tensor, k: int) -> None:
        self.columns, self.starts, self.k = columns, starts, k

    @classmethod
    def of_rows(cls, indices: Tensor, k: int) -> Places:
        """Take the same number of latents in every row, int64 (n, active)."""
        n, active = indices.shape
        return cls(indices.reshape(-1), torch.arange(n, device=indices.device) * active, k)

    @classmethod
    def of_flat(cls, flat: Tensor, n: int, k: int) -> Places:
        """Take entries of the flattened (n * k) codes, int64 (entries,), in any order."""
        flat = flat.sort().values
        rows = torch.arange(n, device=flat.device) * k
        return cls(flat % k, torch.searchsorted(flat, rows), k)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.starts)

    @cached_property
    def rows(self) -> Tensor:
        """Return the row of each entry, int64 (entries,)."""
        entries = torch.arange(len(self.columns), device=self.columns.device)
        return torch.searchsorted(self.starts, entries, right=True) - 1

    @cached_property
    def flat(self) -> Tensor:
        """Return the place of each entry in the flattened (n * k) codes."""
        return self.rows * self.k + self.columns

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor]:
        """Return the order of the entries by latent, and each latent's first place in that order (k,)."""
        columns, order = self.columns.sort(stable=True)
        latents = torch.arange(self.k, device=columns.device)
        return order, torch.searchsorted(columns, latents)

    @property
    def gathered(self) -> bool:
        """Tell whether products go by gathering: where the codes are sparse enough for the device."""
        speed = _DENSE_SPEED.get(self.columns.device.type, 1)
        return len(self.columns) * speed <= self.n * self.k

    def dense(self, values: Tensor) -> Tensor:
        """Spread one value an entry over zeros, (n, k); entries at one place add up."""
        return values.new_zeros(self.n * self.k).index_add(0, self.flat, values).reshape(self.n, self.k)


def reduced(values: Tensor) -> bool:
    """Tell whether matrix products run in bfloat16 here, as `precision.bfloat16` asks."""
    return torch.is_autocast_enabled(values.device.type)


def multiply(first: Tensor, second: Tensor, low: bool) -> Tensor:
    """Multiply matrices, in bfloat16 where `low`; the answer is float32."""
    if not low:
        return first @ second
    with torch.autocast(first.device.type, enabled=False):
        return (first.bfloat16() @ second.bfloat16()).float()


def largest_in_rows(answers: Tensor, count: int) -> Places:
    """Pick the `count` largest answers of each row."""
    return Places.of_rows(answers.topk(count, dim=1, sorted=False).indices, answers.shape[1])


def largest(answers: Tensor, count: int) -> Places:
    """Pick the `count` largest of all answers (n, k) together.

    Where they are few, only groups of neighbours that hold one of the largest are looked into: the `count` largest lie
    in the `count` groups of largest maximum.
    """
    n, k = answers.shape
    flat = answers.reshape(-1)
    if len(flat) % _GROUP or count * _GROUP * 4 > len(flat):
        return Places.of_flat(flat.topk(count, sorted=False).indices, n, k)
    groups = flat.reshape(-1, _GROUP)
    chosen = groups.amax(dim=1).topk(count, sorted=False).indices
    within = groups[chosen].reshape(-1).topk(count, sorted=False).indices
    return Places.of_flat(chosen[within // _GROUP] * _GROUP + within % _GROUP, n, k)


def answers(rows: Tensor, shift: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
    """Return what every latent answers, `(rows - shift) @ filters.T + bias`, float32 (n, k); differentiable."""
    return torch.nn.functional.linear(rows - shift, filters, bias).float()


def chosen_answers(
    rows: Tensor, shift: Tensor, filters: Tensor, bias: Tensor, choose: Callable[[Tensor], Places]
) -> tuple[Tensor, Places]:
    """Return the answers of the latents that `choose` picks from all of them; differentiable at these alone.

    The choice may be made in bfloat16; by gathering, the values are float32 all the same.

    Parameters
    ----------
    rows : float (n, d)
        No gradient reaches them.
    shift : float (d,)
    filters : float (k, d)
    bias : float (k,)
    choose : from the answers (n, k) to places

    Returns
    -------
    values : float32 (entries,)
    places : Places
    """
    low = reduced(rows)
    with torch.no_grad():
        centred = rows - shift
        if low:
            with torch.autocast(rows.device.type, enabled=False):
                pre = torch.addmm(bias.bfloat16(), centred.bfloat16(), filters.bfloat16().T)
        else:
            pre = torch.addmm(bias, centred, filters.T)
        places = choose(pre)
        values = dots(centred, filters, places) + bias[places.columns] if places.gathered else None
        if values is None:
            values = pre.reshape(-1)[places.flat].float()
    return _Chosen.apply(values, centred, shift, filters, bias, places, low), places


def decoded(values: Tensor, places: Places, atoms: Tensor) -> Tensor:
    """Return codes @ atoms, float32 (n, d), for codes that are `values` at `places`; differentiable in both."""
    return _Decoded.apply(values, atoms, places, reduced(values))


def dots(vectors: Tensor, atoms: Tensor, places: Places) -> Tensor:
    """Return <vectors[row], atoms[column]> of each entry, (entries,)."""
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(
        vectors.contiguous(), atoms.contiguous(), places.columns, places.starts, places.rows, 0
    )


def summed(values: Tensor, places: Places, atoms: Tensor) -> Tensor:
    """Return, for each row, the atoms of its entries times their values, (n, d)."""
    return embedding_bag(places.columns, atoms, places.starts, mode="sum", per_sample_weights=values)


def summed_by_column(values: Tensor, places: Places, vectors: Tensor) -> Tensor:
    """Return, for each latent, the rows' vectors times the values of its entries, (k, d).

    A gather over entries sorted by latent: no two writes meet, so the sum has one order on every device.
    """
    order, starts = places.by_column
    return embedding_bag(places.rows[order], vectors, starts, mode="sum", per_sample_weights=values[order])


class _Chosen(Function):
    """Values at places of `centred @ filters.T + bias`, computed already; this adds their gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        centred: Tensor,
        shift: Tensor,
        filters: Tensor,
        bias: Tensor,
        places: Places,
        low: bool,
    ) -> Tensor:
        ctx.save_for_backward(centred, filters)
        ctx.places, ctx.low = places, low
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        centred, filters = ctx.saved_tensors
        places: Places = ctx.places
        if places.gathered:
            of_filters = summed_by_column(gradient, places, centred)
        else:
            of_filters = multiply(places.dense(gradient).T, centred, ctx.low)
        of_bias = gradient.new_zeros(places.k).index_add(0, places.columns, gradient)
        of_shift = -(of_bias @ filters) if ctx.needs_input_grad[2] else None
        return None, None, of_shift, of_filters, of_bias, None, None


class _Decoded(Function):
    """Codes times atoms, and the gradients of both."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, atoms: Tensor, places: Places, low: bool) -> Tensor:
        ctx.save_for_backward(values, atoms)
        ctx.places, ctx.low = places, low
        if places.gathered:
            return summed(values, places, atoms)
        return multiply(places.dense(values), atoms, low)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, atoms = ctx.saved_tensors
        places: Places = ctx.places
        of_values = of_atoms = None
        if places.gathered:
            gradient = gradient.contiguous()
            if ctx.needs_input_grad[0]:
                of_values = dots(gradient, atoms, places)
            if ctx.needs_input_grad[1]:
                of_atoms = summed_by_column(values, places, gradient)
            return of_values, of_atoms, None, None
        if ctx.needs_input_grad[0]:
            of_values = multiply(gradient, atoms.T, ctx.low).reshape(-1)[places.flat]
        if ctx.needs_input_grad[1]:
            of_atoms = multiply(places.dense(values).T, gradient, ctx.low)
        return of_values, of_atoms, None, None
