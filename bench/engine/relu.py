"""Other backward rules of the ReLU, at the operation itself: whatever called it, autograd recorded it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from torch import Tensor

from ..registry import LimenError

ReluRule = Literal["plain", "guided", "deconvnet"]
Slopes = tuple[Any, ...]
_OPAQUE = ("CompiledFunction", "CheckpointFunction", "torch::jit")
"""Starts of the names of steps that hide the operations inside them: compiled, checkpointed, scripted."""


def apply_relu_rule(logits: Tensor, rule: ReluRule, where: str) -> None:
    """Send the gradients of logits back through every ReLU by a rule: 'guided' lets positive ones pass where the ReLU
    was open, 'deconvnet' wherever they are positive.

    A rectification at zero counts in any form: `nn.ReLU` and `nn.ReLU6`, functions, methods, in-place calls, clamps.

    Parameters
    ----------
    logits : Tensor
        What a forward pass gave; its recorded graph is changed, so the backward pass must follow.
    rule : {'plain', 'guided', 'deconvnet'}
    where : str
        The network, for errors.

    Raises
    ------
    LimenError
        If no ReLU was recorded, or a step hides its operations.

    References
    ----------
    Springenberg et al. 2015, arXiv:1412.6806; Zeiler and Fergus 2014, arXiv:1311.2901.
    """
    if rule == "plain":
        return
    found = 0
    for step in _steps(logits.grad_fn):
        if step.name().startswith(_OPAQUE):
            raise LimenError(
                f"{where}: its forward pass holds a '{step.name()}', which hides ReLU operations from the rule "
                f"'{rule}'; allowed is a network that is not compiled, scripted or checkpointed."
            )
        if _rectifies(step):
            found += 1
            step.register_hook(_RULES[rule])
    if not found:
        raise LimenError(
            f"{where}: its forward pass has no ReLU operation, so the rule '{rule}' would change nothing; allowed is "
            "a network with ReLUs."
        )


def _guided(inward: Slopes, outward: Slopes) -> Slopes:
    return (None if inward[0] is None else inward[0].clamp(min=0), *inward[1:])


def _deconvnet(inward: Slopes, outward: Slopes) -> Slopes:
    return (None if outward[0] is None else outward[0].clamp(min=0), *inward[1:])


_RULES: dict[str, Callable[[Slopes, Slopes], Slopes]] = {"guided": _guided, "deconvnet": _deconvnet}


def _rectifies(step: Any) -> bool:
    """Tell whether a recorded step cuts off what is below zero, and at most the top as well."""
    name = step.name()
    if name.startswith("ReluBackward"):
        return True
    if name.startswith("HardtanhBackward"):
        return bool(step._saved_min_val == 0)
    if name.startswith("ThresholdBackward"):
        return bool(step._saved_threshold == 0)
    return name.startswith("Clamp") and getattr(step, "_saved_min", None) == 0


def _steps(last: Any) -> Iterator[Any]:
    """Walk the recorded graph back from its last step, each step once."""
    seen, stack = {last}, [last] if last is not None else []
    while stack:
        step = stack.pop()
        yield step
        for before, _ in step.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                stack.append(before)
