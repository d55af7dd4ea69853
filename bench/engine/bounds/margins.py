"""Upper bounds of how far another class can rise over the target while the input stays in a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ...registry import LimenError, unknown
from ..cost import Cost
from .backward import Backward
from .forms import Form, is_constant, of_box, of_interval, through
from .interval import Interval
from .steps import Source
from .trace import Program, trace

Relaxation = Literal["ibp", "forward", "crown_ibp", "crown", "combination"]
Bound = Literal["margin", "separate"]
BUDGET = 2**25
"""Numbers of one tensor of linear bounds at most: rows x the widest place of the network."""


class _Pass(NamedTuple):
    """How one pass bounds: intervals always; linear bounds carried forwards; ReLU inputs and margins backwards."""

    forward: bool = False
    inside: bool = False
    outside: bool = False


_PASSES: dict[str, tuple[_Pass, ...]] = {
    "ibp": (_Pass(),),
    "forward": (_Pass(forward=True),),
    "crown_ibp": (_Pass(outside=True),),
    "crown": (_Pass(inside=True, outside=True),),
    "combination": (
        _Pass(forward=True, inside=True, outside=True),
        _Pass(inside=True, outside=True),
        _Pass(forward=True),
        _Pass(outside=True),
    ),
}


class Margins:
    """Bounds the margins of one network.

    Parameters
    ----------
    program : Program
    relaxation : 'ibp' | 'forward' | 'crown_ibp' | 'crown' | 'combination'
        Intervals; linear bounds carried forwards; carried backwards from the logits over intervals; backwards from
        every ReLU's input too; the tightest of all of these. Each is never looser than 'ibp'.
    bound : 'margin' | 'separate'
        Bound differences of logits through the layers after the last curved step, or each logit by itself.
    where : opens the error sentences
    """

    def __init__(self, program: Program, relaxation: Relaxation, bound: Bound, where: str) -> None:
        if relaxation not in get_args(Relaxation):
            raise unknown(f"{where}, bounds, relaxation", relaxation, get_args(Relaxation))
        if bound not in get_args(Bound):
            raise unknown(f"{where}, bounds, bound", bound, get_args(Bound))
        self._program, self._passes, self._bound = program, _PASSES[relaxation], bound
        (self.classes,) = program.steps[-1].shape
        if self.classes < 2:
            raise LimenError(f"{where}, bounds: given a network of one class, allowed are two or more.")

    @classmethod
    def of(
        cls,
        run: Callable[[Tensor], Tensor],
        inputs: Tensor,
        expected: Tensor,
        *,
        relaxation: Relaxation,
        bound: Bound,
        where: str,
    ) -> Margins:
        """Trace a network and check the trace: on inputs (B, *S) it must answer as expected (B, K).

        Raises
        ------
        LimenError
            If the network cannot be traced, or decides by the values that go through it which operations run.
        """
        program = trace(run, inputs.shape[1:], inputs, where)
        found = program(inputs)
        if not inputs.is_meta and not torch.allclose(
            found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
        ):
            raise LimenError(
                f"{where}, bounds: given a network whose traced operations answer otherwise than itself, allowed is one "
                "whose operations do not depend on the values that go through it."
            )
        return cls(program, relaxation, bound, where)

    @property
    def most(self) -> int:
        """Boxes at once that the linear bounds leave room for."""
        if not any(one.forward for one in self._passes):
            return max(1, BUDGET // self._program.widest)
        inputs = torch.Size(self._program.steps[0].shape).numel()
        return max(1, BUDGET // (inputs * self._program.widest))

    def overlap(self, box: Interval, targets: Tensor, rivals: Tensor | None, cost: Cost) -> Tensor:
        """Return upper bounds (B,) of `max_k f_k - f_target` over the other classes, or over the rival alone.

        Parameters
        ----------
        box : Interval (B, *S)
        targets : int64 (B,)
        rivals : int64 (B,) or None
        cost : what the work is added to: interval passes as two forwards a box, rows carried as forwards or backwards
        """
        others = _others(targets, self.classes) if rivals is None else rivals[:, None]
        rows = torch.nn.functional.one_hot(others, self.classes).type_as(box.low)
        target = torch.nn.functional.one_hot(targets, self.classes).type_as(box.low)[:, None]
        sweeps = [_Sweep(self._program, box, one, cost) for one in self._passes]
        if self._bound == "margin":
            return _largest(sweeps, rows - target)
        return _largest(sweeps, rows) + _largest(sweeps, -target)


def _largest(sweeps: Sequence[_Sweep], rows: Tensor) -> Tensor:
    """Return the largest (B,) over rows (B, R, K) of the tightest bounds.

    Rows are carried back in the order of their cheap bounds; once these are below what is reached, the rest cannot
    matter.
    """
    cheap = torch.stack([sweep.cheap(rows) for sweep in sweeps]).amin(dim=0)
    if not any(sweep.outside for sweep in sweeps):
        return cheap.amax(dim=1)
    cheap, order = cheap.sort(dim=1, descending=True)
    rows = rows.gather(1, order.unsqueeze(2).expand_as(rows))
    reached, start = torch.full_like(cheap[:, 0], -torch.inf), 0
    while start < rows.shape[1]:
        stop = max(start + 1, min(2 * start, start + sweeps[0].rows))
        tight = torch.stack([sweep.tight(rows[:, start:stop]) for sweep in sweeps if sweep.outside]).amin(dim=0)
        reached = torch.maximum(reached, torch.minimum(cheap[:, start:stop], tight).amax(dim=1))
        start = stop
        if start < rows.shape[1] and not reached.is_meta and bool((cheap[:, start] <= reached).all()):
            break
    return reached


def _others(targets: Tensor, classes: int) -> Tensor:
    """Return the other classes (B, K - 1) of each target."""
    counting = targets.new_ones(classes - 1).cumsum(0) - 1
    return counting + (counting >= targets[:, None]).type_as(targets)


class _Sweep:
    """One pass over one batch of boxes: intervals of what will be needed, then bounds of linear functions."""

    def __init__(self, program: Program, box: Interval, how: _Pass, cost: Cost) -> None:
        self._program, self._how, self._cost = program, how, cost
        self._boxes, self._inputs = len(box.low), box.low[0].numel()
        self._known: dict[int, Interval] = {}
        self._forms: dict[int, Form] = {}
        self.rows = max(1, BUDGET // program.widest // self._boxes)
        """Rows a box that are carried back at once."""
        cost.forwards += 2 * self._boxes * (1 + self._inputs * how.forward)
        for slot, step in enumerate(program.steps):
            self._visit(slot, box)
            self._forget(slot, step.inputs)

    @property
    def outside(self) -> bool:
        """Whether this pass carries rows back to the input."""
        return self._how.outside

    def cheap(self, rows: Tensor) -> Tensor:
        """Return upper bounds (B, R) of linear functions (B, R, K) of the logits by what is known of the last layers."""
        ways = [Backward(self._program, self._known, relax=False)]
        if self._how.forward:
            ways.append(Backward(self._program, self._known, relax=False, forms=self._forms))
        parts = [self._least(ways, part) for part in rows.split(self.rows, 1)]
        return torch.cat(parts, dim=1)

    def tight(self, rows: Tensor) -> Tensor:
        """Return upper bounds (B, R) of linear functions (B, R, K) of the logits, carried back to the input."""
        self._cost.backwards += rows.shape[0] * rows.shape[1]
        return self._least([Backward(self._program, self._known, relax=True)], rows)

    def _least(self, ways: Sequence[Backward], rows: Tensor) -> Tensor:
        last = len(self._program.steps) - 1
        return torch.stack([way.upper(last, rows) for way in ways]).amin(dim=0)

    def _visit(self, slot: int, box: Interval) -> None:
        step = self._program.steps[slot]
        before = [self._known[one] for one in step.inputs]
        if isinstance(step, Source):
            value = None if step.value is None else step.value.expand(self._boxes, *step.shape)
            known = box if value is None else Interval(value, value)
        else:
            known = step.interval(*before)
        if self._how.forward:
            given = [self._forms[one] for one in step.inputs]
            form = (
                self._first(known, is_constant(step))
                if isinstance(step, Source)
                else through(step, given, before, known)
            )
            self._forms[slot] = form
            known = known if self._program.exact[slot] else known.meet(form.interval())
        self._known[slot] = known
        if self._how.inside and slot in self._program.rectified and not self._program.exact[slot]:
            self._known[slot] = known.meet(self._refined(slot, known))

    def _first(self, known: Interval, fixed: bool) -> Form:
        return of_interval(known, self._inputs) if fixed else of_box(known)

    def _refined(self, slot: int, known: Interval) -> Interval:
        """Bound the values of a slot backwards where a ReLU after it may be open or shut."""
        way = Backward(self._program, self._known, relax=True)
        low, high = (ends.reshape(self._boxes, -1).clone() for ends in known)
        loose = (low < 0) & (high > 0)
        places = torch.arange(low.shape[1], device=low.device)
        places = places if low.is_meta else places[loose.any(dim=0)]
        for some in places.split(max(1, self.rows // 2)) if len(places) else ():
            rows = torch.nn.functional.one_hot(some, low.shape[1]).type_as(low)
            rows = rows.expand(self._boxes, *rows.shape).reshape(self._boxes, -1, *known.low.shape[1:])
            # A place that is settled in its own box keeps its interval, whatever its batch mates need.
            high[:, some] = torch.where(loose[:, some], way.upper(slot, rows), high[:, some])
            low[:, some] = torch.where(loose[:, some], -way.upper(slot, -rows), low[:, some])
            self._cost.backwards += 2 * self._boxes * len(some)
        return Interval(low.reshape(known.low.shape), high.reshape(known.low.shape))

    def _forget(self, slot: int, inputs: tuple[int, ...]) -> None:
        """Drop what nothing after this slot reads and no backward pass ends at."""
        program = self._program
        for one in inputs:
            if max(program.readers[one]) <= slot:
                if one not in program.kept:
                    del self._known[one]
                if one not in program.ends:
                    self._forms.pop(one, None)
