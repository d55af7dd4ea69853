"""Other backward rules of the ReLU, at the operation itself: modules, functions and in-place calls alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..registry import LimenError

ReluRule = Literal["plain", "guided", "deconvnet"]


@contextmanager
def relu_rule(rule: ReluRule, where: str) -> Iterator[None]:
    """Send gradients back through every ReLU by a rule: 'guided' lets positive ones pass where the ReLU was open,
    'deconvnet' wherever they are positive.

    The forward pass must run inside; the backward pass may run later.

    Raises
    ------
    LimenError
        If no ReLU ran.
    """
    if rule == "plain":
        yield
        return
    with _Intercept(rule == "guided") as mode:
        yield
    if not mode.seen:
        raise LimenError(
            f"{where}: its forward pass has no ReLU operation, so the rule '{rule}' would change nothing; allowed is "
            "a network with ReLUs."
        )


class _Ruled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, guided: bool) -> Tensor:
        ctx.save_for_backward(values > 0 if guided else values.new_empty(0))
        ctx.guided = guided
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (open_,) = ctx.saved_tensors
        passed = slopes[0].clamp(min=0)
        return (passed * open_ if ctx.guided else passed), None


_RELUS = (torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, nn.functional.relu, nn.functional.relu_)


class _Intercept(TorchFunctionMode):
    def __init__(self, guided: bool) -> None:
        super().__init__()
        self._guided, self.seen = guided, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func not in _RELUS:
            return func(*args, **given)
        self.seen += 1
        values = args[0] if args else given["input"]
        # The network runs on a copy of its input, so an in-place ReLU may hand back another tensor's memory.
        inplace = func in (torch.relu_, Tensor.relu_, nn.functional.relu_) or bool(
            given.get("inplace", args[1] if len(args) > 1 else False)
        )
        ruled = _Ruled.apply(values, self._guided)
        return values.copy_(ruled) if inplace else ruled
