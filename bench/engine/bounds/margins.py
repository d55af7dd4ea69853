"""Upper bounds of how far another class can rise over the target while the input stays in a box."""

from __future__ import annotations

from collections.abc import Callable
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
        if self._bound == "margin":
            return self._upper(box, rows - target, cost).amax(dim=1)
        bounds = self._upper(box, torch.cat([rows, -target], dim=1), cost)
        return bounds[:, :-1].amax(dim=1) + bounds[:, -1]

    def _upper(self, box: Interval, rows: Tensor, cost: Cost) -> Tensor:
        found = [_Sweep(self._program, box, one, cost).upper(rows) for one in self._passes]
        return torch.stack(found).amin(dim=0)


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
        self._rows = max(1, BUDGET // program.widest // self._boxes)
        """Rows a box that are carried back at once."""
        cost.forwards += 2 * self._boxes * (1 + self._inputs * how.forward)
        for slot, step in enumerate(program.steps):
            self._visit(slot, box)
            self._forget(slot, step.inputs)

    def upper(self, rows: Tensor) -> Tensor:
        """Return upper bounds (B, R) of linear functions (B, R, K) of the logits, the tightest this pass knows."""
        last = len(self._program.steps) - 1
        ways = [Backward(self._program, self._known, relax=False)]
        if self._how.forward:
            ways.append(Backward(self._program, self._known, relax=False, forms=self._forms))
        if self._how.outside:
            ways.append(Backward(self._program, self._known, relax=True))
            self._cost.backwards += rows.shape[0] * rows.shape[1]
        parts = [torch.stack([way.upper(last, part) for way in ways]).amin(dim=0) for part in rows.split(self._rows, 1)]
        return torch.cat(parts, dim=1)

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
        loose = ((low < 0) & (high > 0)).any(dim=0)
        places = torch.arange(len(loose), device=low.device)
        places = places if low.is_meta else places[loose]
        for some in places.split(max(1, self._rows // 2)) if len(places) else ():
            rows = torch.nn.functional.one_hot(some, low.shape[1]).type_as(low)
            rows = rows.expand(self._boxes, *rows.shape).reshape(self._boxes, -1, *known.low.shape[1:])
            high[:, some] = way.upper(slot, rows)
            low[:, some] = -way.upper(slot, -rows)
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
