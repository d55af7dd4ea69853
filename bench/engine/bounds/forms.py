"""Forward linear bounds: each value of the network between two linear functions of the input's place in its box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .interval import SLACK, Interval
from .steps import Affine, Rectifier, Source, Step


@dataclass(frozen=True, eq=False)
class Form:
    """`under z + floor <= y <= over z + ceiling` for z in [-1, 1]^n, the place of the input in its box.

    Attributes
    ----------
    under, over : Tensor (B, n, *S)
    floor, ceiling : Tensor (B, *S)
    """

    under: Tensor
    over: Tensor
    floor: Tensor
    ceiling: Tensor

    def interval(self) -> Interval:
        """Return the smallest and largest values over the box."""
        down, up = (slopes.abs().sum(dim=1) for slopes in (self.under, self.over))
        low, high = self.floor - down, self.ceiling + up
        return Interval(low - SLACK * (self.floor.abs() + down), high + SLACK * (self.ceiling.abs() + up))


def of_box(box: Interval) -> Form:
    """Return the input itself: its centre and one slope a coordinate."""
    centre, radius = box.centre, box.radius
    slopes = torch.diag_embed(radius.flatten(1)).reshape(len(radius), -1, *radius.shape[1:])
    return Form(slopes, slopes, centre, centre)


def of_interval(interval: Interval, inputs: int) -> Form:
    """Return bounds that do not look at the input."""
    flat = interval.low.new_zeros(()).expand(len(interval.low), inputs, *interval.low.shape[1:])
    return Form(flat, flat, interval.low, interval.high)


def through(step: Step, given: list[Form], before: list[Interval], after: Interval) -> Form:
    """Take forms through a step whose inputs lie in `before` and whose output lies in `after`."""
    inputs = given[0].under.shape[1] if given else 0
    if isinstance(step, Affine):
        return _affine(step, given)
    if isinstance(step, Rectifier):
        lines = step.lines(before[0])
        (form,) = given
        return Form(
            form.under * lines.under.unsqueeze(1),
            form.over * lines.over.unsqueeze(1),
            form.floor * lines.under,
            form.ceiling * lines.over + lines.lift,
        )
    return of_interval(after, inputs)


def _affine(step: Affine, given: list[Form]) -> Form:
    """`W` applied to the middle of the two functions, `|W|` to half their difference."""
    size, inputs = given[0].under.shape[:2]
    middle = step.run(*((form.over + form.under).flatten(0, 1) / 2 for form in given))
    half = step.spread(*((form.over - form.under).flatten(0, 1) / 2 for form in given))
    if step.bias is not None:
        middle = middle - step.bias
    middle, half = (part.unflatten(0, (size, inputs)) for part in (middle, half))
    centre = step.run(*((form.ceiling + form.floor) / 2 for form in given))
    radius = step.spread(*((form.ceiling - form.floor) / 2 for form in given))
    return Form(middle - half, middle + half, centre - radius, centre + radius)


def is_constant(step: Step) -> bool:
    """Tell whether a step makes the same for every input."""
    return isinstance(step, Source) and step.value is not None
