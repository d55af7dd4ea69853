"""A forward pass compiled once for one batch shape: weights folded in, operations fused, short batches padded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
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
    run : callable, inputs (size, ...) to logits (size, K); its weights may not change afterwards
    example : (size, ...) the inputs it is compiled for, in the layout that suits the network
    around : makes the context it runs in (precision)
    """

    def __init__(
        self, run: Callable[[Tensor], Tensor], example: Tensor, around: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.size = len(example)
        self._around = around
        options = {"freezing": True, "compile_threads": 1}
        if example.device.type == "cuda":
            options["triton.cudagraphs"] = True
        self._graph = torch.compile(_own_code(run), dynamic=False, fullgraph=True, options=options)  # type: ignore[arg-type]
        # One buffer of one layout: the compiler never sees other strides.
        self._inputs = example.clone()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._run()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the logits float32 (n, K) of n <= size inputs."""
        self._inputs[: len(inputs)].copy_(inputs)
        return self._run()[: len(inputs)].float().clone()

    def _run(self) -> Tensor:
        with torch.no_grad(), self._around():
            return self._graph(self._inputs)


def operations(run: Callable[[Tensor], Any], one: Tensor) -> float:
    """Count the floating-point operations of a forward pass of one input."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(one)
    return float(counter.get_total_flops())


def _own_code(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return `run` under a code object of its own: the compiler's limit of graphs counts by code object."""

    def graph(inputs: Tensor) -> Tensor:
        return run(inputs)

    return FunctionType(graph.__code__.replace(), graph.__globals__, "graph", None, graph.__closure__)
