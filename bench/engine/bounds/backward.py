"""Backward bounds: linear functions of a layer, carried back to the input or to where intervals are known."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .forms import Form
from .interval import SLACK, Interval
from .steps import Affine, MaxPool, Rectifier, Source
from .trace import Program


class Backward:
    """Upper bounds of linear functions of one slot.

    Parameters
    ----------
    program : Program
    known : interval of each slot that is needed: the input, what a curved step reads and what it writes
    relax : whether ReLUs and max pools are passed by linear bounds; else the functions end at every curved step
    forms : forward linear bounds of the slots where functions end; None takes the intervals there
    """

    def __init__(
        self,
        program: Program,
        known: Mapping[int, Interval],
        *,
        relax: bool,
        forms: Mapping[int, Form] | None = None,
    ) -> None:
        self._program, self._known, self._relax, self._forms = program, known, relax, forms

    def upper(self, slot: int, rows: Tensor) -> Tensor:
        """Return upper bounds (B, R) of `rows . value` for rows (B, R, *S) of functions of a slot."""
        pending = {slot: rows}
        total = rows.new_zeros(rows.shape[:2])
        slopes: Tensor | None = None
        for place in range(slot, -1, -1):
            if place not in pending:
                continue
            here = pending.pop(place)
            step = self._program.steps[place]
            if isinstance(step, Source) and step.value is not None:
                total = total + _dot(here, step.value)
            elif isinstance(step, Affine):
                if step.bias is not None:
                    total = total + _dot(here, step.bias)
                parts = [part.unflatten(0, here.shape[:2]) for part in step.back(here.flatten(0, 1))]
                _send(pending, step.inputs, parts)
            elif self._relax and isinstance(step, Rectifier):
                part, lift = self._rectifier(step, here)
                total = total + lift
                _send(pending, step.inputs, [part])
            elif self._relax and isinstance(step, MaxPool):
                part, lift = self._max_pool(step, place, here)
                total = total + lift
                _send(pending, step.inputs, [part])
            elif self._forms is not None:
                lift, more = _reach_form(here, self._forms[place])
                total, slopes = total + lift, more if slopes is None else slopes + more
            else:
                total = total + _reach(here, self._known[place])
        if slopes is None:
            return total
        steepness = slopes.abs().sum(dim=2)
        return total + steepness + SLACK * steepness

    def _rectifier(self, step: Rectifier, rows: Tensor) -> tuple[Tensor, Tensor]:
        lines = step.lines(self._known[step.inputs[0]])
        above, below = rows.clamp(min=0), rows.clamp(max=0)
        return above * lines.over.unsqueeze(1) + below * lines.under.unsqueeze(1), _dot(above, lines.lift)

    def _max_pool(self, step: MaxPool, place: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Below by the place with the largest lower bound; above by it where it surely wins, else by a constant."""
        best, sure = step.pieces(self._known[step.inputs[0]])
        passed = torch.where(sure.unsqueeze(1), rows, rows.clamp(max=0))
        places = best.unsqueeze(1).expand(*rows.shape[:2], *best.shape[1:])
        sent = step.back(passed.flatten(0, 1), places.flatten(0, 1)).unflatten(0, rows.shape[:2])
        return sent, _dot(rows - passed, self._known[place].high)


def _send(pending: dict[int, Tensor], inputs: tuple[int, ...], parts: list[Tensor]) -> None:
    for slot, part in zip(inputs, parts, strict=True):
        pending[slot] = pending[slot] + part if slot in pending else part


def _dot(rows: Tensor, values: Tensor) -> Tensor:
    """Contract rows (B, R, *S) with values (B or 1, *S) to (B, R)."""
    flat = _flat(values, 1).unsqueeze(2).expand(len(rows), -1, 1)
    return torch.bmm(_flat(rows, 2), flat).squeeze(2)


def _reach(rows: Tensor, interval: Interval) -> Tensor:
    """Return the largest values (B, R) of rows over intervals, with slack."""
    centre, radius = interval.centre, interval.radius
    return _dot(rows, centre) + _dot(rows.abs(), radius + SLACK * (centre.abs() + radius))


def _reach_form(rows: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """Return the constants (B, R) and the slopes (B, R, n) of rows over a form."""
    above, below = rows.clamp(min=0), rows.clamp(max=0)
    size = SLACK * torch.maximum(form.floor.abs(), form.ceiling.abs())
    lift = _dot(above, form.ceiling) + _dot(below, form.floor) + _dot(rows.abs(), size)
    over, under = (_flat(slopes, 2).mT for slopes in (form.over, form.under))
    return lift, torch.bmm(_flat(above, 2), over) + torch.bmm(_flat(below, 2), under)


def _flat(values: Tensor, lead: int) -> Tensor:
    """Flatten what follows the leading dimensions; a single number is a line of one."""
    return values.reshape(*values.shape[:lead], -1)
