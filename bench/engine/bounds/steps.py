"""The steps of a traced network: each runs, takes intervals to intervals, and may be replaced by linear bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .interval import Interval, around

Run = Callable[..., Tensor]


@dataclass(eq=False, kw_only=True)
class Step:
    """One operation: reads the values of some slots, writes one.

    Attributes
    ----------
    name : the operation, for errors
    inputs : slots it reads
    run : the operation on batches (B, *S)
    shapes : shape (*S) of each input
    shape : shape (*S) of the output
    """

    name: str
    inputs: tuple[int, ...]
    run: Run
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]

    def interval(self, *given: Interval) -> Interval:
        """Bound the output by bounds of the inputs."""
        raise NotImplementedError


@dataclass(eq=False, kw_only=True)
class Source(Step):
    """The input of the network, or a constant that the network makes for each image.

    Attributes
    ----------
    value : Tensor (1, *S), None for the input
    """

    value: Tensor | None = None


@dataclass(eq=False, kw_only=True)
class Affine(Step):
    """`y = W x + b`.

    Attributes
    ----------
    spread : `|W| r` of radii r
    diagonal : each output reads one place of one input
    transposed : rows (R, *shape) to `W^T` rows, one (R, *S) an input; None differentiates `run`
    bias : Tensor (1, *shape), None where it is 0
    """

    spread: Run
    diagonal: bool = False
    transposed: Callable[[Tensor], tuple[Tensor, ...]] | None = None
    bias: Tensor | None = None

    def interval(self, *given: Interval) -> Interval:
        return around(self.run(*(one.centre for one in given)), self.spread(*(one.radius for one in given)))

    def back(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return `W^T` rows, one (R, *S) an input."""
        if self.transposed is not None:
            return self.transposed(rows)
        with torch.enable_grad():
            zeros = [rows.new_zeros(len(rows), *shape).requires_grad_() for shape in self.shapes]
            output = self.run(*zeros)
            return torch.autograd.grad(output, zeros, rows)


@dataclass(frozen=True, eq=False)
class Lines:
    """Linear bounds of an elementwise step: `under x <= y <= over x + lift`, slopes not negative, each (B, *S)."""

    under: Tensor
    over: Tensor
    lift: Tensor


@dataclass(eq=False, kw_only=True)
class Monotone(Step):
    """A step that grows with each of its inputs: sigmoid, clamp, largest of some places."""

    def interval(self, *given: Interval) -> Interval:
        return Interval(self.run(*(one.low for one in given)), self.run(*(one.high for one in given)))


@dataclass(eq=False, kw_only=True)
class Rectifier(Monotone):
    """ReLU, or leaky ReLU with a slope from 0 to 1 below 0."""

    slope: float = 0.0

    def lines(self, given: Interval) -> Lines:
        """Return the chord above, and below it the line through 0 that leaves less area between them."""
        low, high = given
        below, above = high <= 0, low >= 0
        stable = below | above
        steady = torch.where(above, 1.0, self.slope)
        width = torch.where(stable, 1.0, high - low)
        chord = (high - self.slope * low) / width
        over = torch.where(stable, steady, chord)
        under = torch.where(stable, steady, torch.where(high > -low, 1.0, self.slope))
        lift = torch.where(stable, 0.0, (self.slope - chord) * low)
        return Lines(under, over, lift)


@dataclass(eq=False, kw_only=True)
class Valley(Step):
    """A function that falls to one lowest place and grows after it: |x|, GELU, SiLU."""

    bottom: float = 0.0

    def interval(self, *given: Interval) -> Interval:
        ((low, high),) = given
        first, last = self.run(low), self.run(high)
        lowest = self.run(torch.full_like(low, self.bottom))
        inside = (low <= self.bottom) & (high >= self.bottom)
        smaller = torch.minimum(first, last)
        return Interval(torch.where(inside, torch.minimum(lowest, smaller), smaller), torch.maximum(first, last))


@dataclass(eq=False, kw_only=True)
class Product(Step):
    """Two values multiplied place by place."""

    def interval(self, *given: Interval) -> Interval:
        first, second = given[0], given[-1]
        corners = torch.stack(torch.broadcast_tensors(*(one * other for one in first for other in second)))
        return Interval(corners.amin(dim=0), corners.amax(dim=0))


@dataclass(eq=False, kw_only=True)
class MaxPool(Monotone):
    """The largest value of each window of a picture.

    Attributes
    ----------
    window : kernel, stride, padding and dilation, each (rows, columns)
    pick : the place of each window's largest value, row by row over the picture, int64 (B, C, h, w)
    """

    window: tuple[Sequence[int], ...]
    pick: Run

    def pieces(self, given: Interval) -> tuple[Tensor, Tensor]:
        """Return the place of each window's largest lower bound, int64 (B, C, h, w), and whether it is sure to win."""
        best = self.pick(given.low)
        floor = self.run(given.low)
        rivals = self._windows(given.high)
        winner = self._windows(_places(given.low)) == best.unsqueeze(2)
        runner_up = torch.where(winner, -torch.inf, rivals).amax(dim=2)
        return best, floor >= runner_up

    def _windows(self, values: Tensor) -> Tensor:
        """Return the values of each window, (B, C, k, h, w); outside the picture they are minus infinity."""
        kernel, stride, (rows, columns), dilation = self.window
        tall, wide = (step * (size - 1) + 1 for step, size in zip(dilation, kernel, strict=True))
        # One more window at the far ends, for a pool that rounds its size up.
        views = functional.pad(values, (columns, columns + wide, rows, rows + tall), value=-torch.inf)
        views = views.unfold(2, tall, stride[0]).unfold(3, wide, stride[1])
        height, width = self.shape[1:]
        views = views[:, :, :height, :width, :: dilation[0], :: dilation[1]]
        return views.flatten(4).movedim(4, 2)

    def back(self, rows: Tensor, best: Tensor) -> Tensor:
        """Send rows (R, C, h, w) to the places `best` (R, C, h, w) that they stand for."""
        flat = rows.new_zeros(*rows.shape[:2], self.shapes[0][1] * self.shapes[0][2])
        return flat.scatter_add_(2, best.flatten(2), rows.flatten(2)).unflatten(2, self.shapes[0][1:])


def _places(like: Tensor) -> Tensor:
    """Number the places of a picture row by row, as floats (B, C, H, W)."""
    plane = like.new_ones(like.shape[2:]).flatten().cumsum(0).reshape(like.shape[2:]) - 1
    return plane.expand_as(like)


def constant(value: Tensor, name: str) -> Source:
    """Return the step of a constant (1, *S)."""
    return Source(name=name, inputs=(), run=_never, shapes=(), shape=tuple(value.shape[1:]), value=value)


def source(shape: Sequence[int]) -> Source:
    """Return the step of the network's input."""
    return Source(name="input", inputs=(), run=_never, shapes=(), shape=tuple(shape))


def _never(*_: Any) -> Tensor:
    raise AssertionError("a source is read, not run")
