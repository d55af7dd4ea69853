"""Times of several candidates in one process, interleaved, and the bare passes they are held against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from _networks import Subject
from torch import Tensor, nn

Call = Callable[[Tensor, Tensor], Any]
BARE_BATCHES = 3
"""Batches of a bare measurement in each round."""


@dataclass
class Clock:
    """Seconds of a call: wall-clock time on a GPU or with several threads, CPU time of the process with one thread."""

    device: torch.device
    cpu_time: bool

    @property
    def name(self) -> str:
        return "CPU seconds of the process" if self.cpu_time else "wall-clock seconds"

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.cpu_time else time.perf_counter()

    def time(self, call: Callable[[], Any]) -> float:
        start = self.now()
        call()
        return self.now() - start


@dataclass
class Count:
    """Images that went through a peer's module while the context was open."""

    module: nn.Module
    forwards: int = 0
    handle: Any = field(default=None, repr=False)

    def __enter__(self) -> Count:
        self.handle = self.module.register_forward_hook(self._hook)
        return self

    def __exit__(self, *exception: object) -> None:
        self.handle.remove()

    def _hook(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.forwards += len(output)


def bare_passes(subject: Subject, clock: Clock, *, backwards: bool) -> dict[str, Callable[[], float]]:
    """Return measurements of seconds per image of passes with nothing around them, by name.

    'forward' and 'backward' (a forward and a backward) run as the engine would at its best: its precision, layout,
    batch and, for forwards, compiled graph. 'plain_forward' and 'plain_backward' are float32 NCHW in the same batches.
    """
    engine, forward = subject.engine, subject.engine._sweeps.forward
    size = min(engine._sweeps.batches.size, forward.most(subject.pictures[:1]))
    batch = subject.pictures[torch.arange(size) % len(subject.pictures)].contiguous()
    graph = forward.frozen(forward.plain, batch[:1], 2**31, size)

    def best() -> None:
        with torch.no_grad():
            forward(forward.plain, batch) if graph is None else graph(batch)

    def slope(run: Callable[[Tensor], Tensor]) -> None:
        with torch.enable_grad():
            leaves = batch.detach().requires_grad_()
            torch.autograd.grad(run(leaves).amax(dim=1).sum(), leaves)

    def plain() -> None:
        with torch.no_grad():
            subject.module(batch)

    calls: dict[str, Callable[[], Any]] = {"forward": best, "plain_forward": plain}
    if backwards:
        calls["backward"] = lambda: slope(lambda leaves: forward(forward.plain, leaves, number="fp32"))
        calls["plain_backward"] = lambda: slope(subject.module)
    for call in calls.values():
        call()

    def seconds(call: Callable[[], Any]) -> float:
        return clock.time(lambda: [call() for _ in range(BARE_BATCHES)]) / (BARE_BATCHES * size)

    return {name: lambda call=call: seconds(call) for name, call in calls.items()}  # type: ignore[misc]


def interleave(
    subject: Subject, clock: Clock, ours: Call, peers: Mapping[str, Call], *, images: int, rounds: int, backwards: bool
) -> dict[str, Any]:
    """Run ours, the bare passes and the peers in turn, `rounds` times, each round on images of its own.

    Returns
    -------
    dict
        `limen`: seconds of each round, forwards, backwards, `first` (the untimed call with audit and compilation);
        `bare`: seconds an image of each round; `peers`: seconds of each round and forwards, or `failed`.
    """
    first = clock.time(lambda: ours(*subject.batch(images, 0)))
    bare = bare_passes(subject, clock, backwards=backwards)
    found: dict[str, Any] = {
        "images": images,
        "limen": {"seconds": [], "first": first},
        "bare": {name: [] for name in bare},
        "peers": {name: {"seconds": []} for name in peers},
    }
    for turn in range(1, rounds + 1):
        batch = subject.batch(images, turn)
        with subject.engine.meter() as cost:
            found["limen"]["seconds"].append(clock.time(lambda batch=batch: ours(*batch)))  # type: ignore[misc]
        found["limen"] |= {"forwards": cost.forwards, "backwards": cost.backwards}
        for name, measure in bare.items():
            found["bare"][name].append(measure())
        for name, peer in peers.items():
            attempt(subject, clock, peer, batch, found["peers"][name])
    found["audit"] = dict(subject.engine.audit)
    return found


def attempt(subject: Subject, clock: Clock, peer: Call, batch: tuple[Tensor, Tensor], facts: dict[str, Any]) -> None:
    """Time a peer once; what it raises is its result."""
    if "failed" in facts:
        return
    try:
        with Count(subject.module) as counter:
            facts["seconds"].append(clock.time(lambda: peer(*batch)))
        facts["forwards"] = counter.forwards
    except Exception as error:
        facts["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"


def best_setting(clock: Clock, make: Callable[[int], Callable[[], Any]], values: Sequence[int]) -> int:
    """Return the value whose call is fastest: the best of two runs each, after one that warms up."""
    make(values[0])()
    times = {value: min(clock.time(make(value)) for _ in range(2)) for value in values}
    return min(times, key=times.__getitem__)


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median over rounds of paired ratios."""
    return median([up / down for up, down in zip(above, below, strict=False)])
