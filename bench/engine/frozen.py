"""A forward pass compiled once for one batch shape: weights folded in, operations fused, short batches padded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import FunctionType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

Graphs = Literal["auto", "always", "never"]
WORTHWHILE = {"cpu": 2e13, "cuda": 2e15}
"""Floating-point operations of one sweep from which compiling pays: it costs 3 to 20 s, and saves a quarter or more."""


class Frozen:
    """A compiled forward at a fixed batch size; a shorter batch leaves the rest as it was, and nothing is compiled twice.

    Parameters
    ----------
    run : callable, tensors to logits (size, K); its weights may not change afterwards
    batch : (size, ...) each, what it is compiled for, in the layout that suits the network
    around : makes the context it runs in (precision)
    held : what `run` takes after the batch: the same from batch to batch, until `hold` changes it
    """

    def __init__(
        self,
        run: Callable[..., Tensor],
        batch: Sequence[Tensor],
        around: Callable[[], AbstractContextManager[Any]],
        held: Sequence[Tensor] = (),
    ) -> None:
        self.size = len(batch[0])
        self._around = around
        options = {"freezing": True, "compile_threads": 1}
        if batch[0].device.type == "cuda":
            options["triton.cudagraphs"] = True
        # Takes two seconds to import, which only those who compile shall wait for.
        from torch._inductor import config as inductor

        self._graph = torch.compile(_own_code(run), dynamic=False, fullgraph=True, options=options)  # type: ignore[arg-type]
        # Buffers of one layout: the compiler never sees other strides.
        self._batch, self._held = [one.clone() for one in batch], [one.clone() for one in held]
        # The tracer takes weights for constants only where this is set for the whole process: the option is read later.
        with warnings.catch_warnings(), inductor.patch(freezing=True):
            warnings.simplefilter("ignore")
            self._run()

    def hold(self, held: Sequence[Tensor]) -> None:
        """Change what stays the same from batch to batch."""
        for kept, one in zip(self._held, held, strict=True):
            kept.copy_(one)

    def __call__(self, *batch: Tensor) -> Tensor:
        """Return the logits float32 (n, K) of n <= size inputs."""
        count = len(batch[0])
        for kept, one in zip(self._batch, batch, strict=True):
            kept[:count].copy_(one)
        return self._run()[:count].float().clone()

    def _run(self) -> Tensor:
        with torch.no_grad(), self._around():
            return self._graph(*self._batch, *self._held)


def operations(run: Callable[[Tensor], Any], one: Tensor) -> float:
    """Count the floating-point operations of a forward pass of one input."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(one)
    return float(counter.get_total_flops())


def _own_code(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `run` under a code object of its own: the compiler's limit of graphs counts by code object."""

    def graph(*given: Tensor) -> Tensor:
        return run(*given)

    return FunctionType(graph.__code__.replace(), graph.__globals__, "graph", None, graph.__closure__)
