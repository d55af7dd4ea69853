"""What a piece of work cost: images forwarded and back-propagated, seconds, peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Cost:
    """Cost of the work done while a meter ran.

    Attributes
    ----------
    forwards, backwards : int
        Images that went through the network (or its head) and back; answers from the cache cost nothing.
    seconds : float
        Wall-clock time.
    peak_bytes : int
        On CUDA the most memory allocated meanwhile; on a CPU the high-water mark of the process so far.
    """

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0


class Meters:
    """The meters running now; work counts in each of them, so that meters nest."""

    def __init__(self, device: torch.device) -> None:
        self.passes = 0
        self._device = device
        self._running: list[Cost] = []

    def count(self, *, forwards: int = 0, backwards: int = 0) -> None:
        """Add work to every meter that runs, and to the passes of all time."""
        self.passes += forwards + backwards
        for cost in self._running:
            cost.forwards += forwards
            cost.backwards += backwards

    @contextmanager
    def run(self) -> Iterator[Cost]:
        """Meter the work done inside the context."""
        self._mark()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        cost = Cost()
        self._running.append(cost)
        start = time.perf_counter()
        try:
            yield cost
        finally:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            cost.seconds = time.perf_counter() - start
            self._mark()
            # By identity: two meters with equal counts compare equal.
            self._running = [running for running in self._running if running is not cost]

    def _mark(self) -> None:
        peak = _peak_bytes(self._device) if self._running else 0
        for cost in self._running:
            cost.peak_bytes = max(cost.peak_bytes, peak)


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
