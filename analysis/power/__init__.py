"""Power by simulation: studies drawn from stated assumptions, analysed as the report analyses the protocol, and counted."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd

from bench.registry import LimenError

from ..results import NAN, Result
from .assume import Decision, named
from .curve import Curve, Point, detectable
from .data import Assumed, simulate

CHUNK = 5
"""Studies that a worker process simulates at a time."""
ROUNDS = 3
"""Effects tried, beside none and the assumed one, to find the smallest detectable one."""
TARGET = 0.8
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that decides the result of a grid cell; equal tasks give equal results, on any number of processes."""

    assumed: Assumed
    decision: Decision
    participants: int
    items: int
    sims: int
    seed: int
    search: bool = True
    """Whether the smallest detectable effect is looked for."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Power of one size of study.

    Attributes
    ----------
    power, type_i : Point
        At the assumed effect and at none.
    failed : int
        Fits of all simulated studies that gave no p; each counts as no rejection.
    fits : int
        Studies simulated in all.
    detectable, detectable_low, detectable_high : float
        Smallest difference of accuracies with power .8, and its 95 % interval; NaN where the simulation cannot tell.
    """

    task: Task
    power: Point
    type_i: Point
    points: tuple[Point, ...]
    failed: int
    fits: int
    detectable: float
    detectable_low: float
    detectable_high: float

    def record(self) -> dict[str, Any]:
        """Return the cell as one row of identifier-safe columns."""
        shape = self.task.assumed.shape
        row: dict[str, Any] = {"participants": self.task.participants, "items": self.task.items}
        row |= {"people": self.task.participants * shape.groups, "trials": trials_of(shape, self.task.items)}
        for name, point in (("power", self.power), ("type_i", self.type_i)):
            low, high = point.interval()
            row |= {name: point.rate, f"{name}_low": low, f"{name}_high": high, f"{name}_n": point.n}
        row |= {"effect": self.task.assumed.difference(), "failed_share": self.failed / self.fits, "fits": self.fits}
        return row | {
            "detectable": self.detectable,
            "detectable_low": self.detectable_low,
            "detectable_high": self.detectable_high,
        }


def trials_of(shape: Any, items: int) -> int:
    """Return the answers of one person; nobody sees an item twice at one level."""
    if shape.block:
        return int(min(shape.trials // shape.block, 2 * items) * shape.block)
    k = len(shape.levels) if shape.within and shape.analysis != "preference" else 1
    return int(k * min(max(shape.trials // k, 1), items))


def p_value(frame: pd.DataFrame, assumed: Assumed, decision: Decision) -> float:
    """Analyse one study as its report does, and return the p of the primary contrast in its direction.

    Returns
    -------
    float
        NaN if the fit failed or the contrast was refused.
    """
    result, (quantity, label) = _analysed(frame, assumed), named(assumed.shape, assumed.contrast)
    if decision.direction == "two-sided":
        return _tested(result, quantity, label, decision.correction == "holm")
    p = _tested(result, quantity, label, adjusted=False)
    found = [item for item in result.of(quantity) if item.label == label]
    if math.isnan(p):
        return NAN
    right = (found[0].value > 0) == (decision.direction == "greater")
    return p / 2 if right else 1 - p / 2


def _tested(result: Result, quantity: str, label: str, adjusted: bool) -> float:
    found = [item for item in result.of(quantity) if item.label == label]
    if not found:
        return NAN
    p = found[0].p_adjusted if adjusted and math.isfinite(found[0].p_adjusted) else found[0].p
    return float(p)


def _analysed(frame: pd.DataFrame, assumed: Assumed) -> Result:
    """Run the analysis of the protocol's card as the report does."""
    shape, level, reference = assumed.shape, assumed.contrast.level, assumed.contrast.reference
    if shape.analysis == "utility" and reference is not None:
        from ..models.mixed_model import mixed_model

        return mixed_model(frame, baseline=reference)
    if shape.analysis == "oddone":
        from ..models.oddone import oddone

        # The contrast over rules needs neither the mixed model nor the bootstrap of the curves.
        return oddone(frame, formula=None, chance=shape.chance, draws=1)
    if shape.analysis == "agreement":
        from ..models.agreement import agreement

        return agreement(frame, baseline=reference or level, chance=shape.chance)
    if shape.analysis == "preference":
        from ..models.preference import preference

        return preference(frame, reference=reference)
    from ..models.crossed import crossed

    names = None if reference is None else {shape.factor: reference}
    chance = shape.chance if reference is None else None
    return crossed(frame, formula=shape.formula, chance=chance, references=names)


def simulated_p(task: Task, scale: float, number: int) -> float:
    """Draw study `number` of a cell at a multiple of the assumed effect, and return its p; NaN if the fit failed."""
    key = (task.participants, task.items, round(scale * 1_000_000), number)
    stream = np.random.default_rng(np.random.SeedSequence(task.seed, spawn_key=key))
    frame = simulate(task.assumed, participants=task.participants, items=task.items, scale=scale, stream=stream)
    try:
        return p_value(frame, task.assumed, task.decision)
    except (LimenError, np.linalg.LinAlgError):
        return NAN


def _chunk(task: Task, scale: float, numbers: range) -> list[float]:
    return [simulated_p(task, scale, number) for number in numbers]


Tick = Callable[[int], None]
Run = Callable[[Task, float], Point]


def run_cell(task: Task, run: Run) -> Cell:
    """Simulate one size of study: no effect, the assumed effect, and effects around the smallest detectable one."""
    points = {0.0: run(task, 0.0), 1.0: run(task, 1.0)}
    alpha, sides = task.decision.alpha, 2 if task.decision.direction == "two-sided" else 1
    curve = Curve(sides=sides, alpha=alpha)
    for _ in range(ROUNDS if task.search else 0):
        scale = round(curve.next_scale([*points.values()], TARGET), 3)
        if scale in points:
            break
        points[scale] = run(task, scale)
    found = [*points.values()]
    scales = detectable(found, curve, TARGET) if task.search else (NAN, NAN, NAN)
    value, low, high = sorted_effects(task.assumed, scales)
    return Cell(
        task=task, power=points[1.0], type_i=points[0.0], points=tuple(found), failed=sum(p.failed for p in found),
        fits=sum(p.n for p in found), detectable=value, detectable_low=low, detectable_high=high,
    )  # fmt: skip


def sorted_effects(assumed: Assumed, scales: tuple[float, float, float]) -> tuple[float, float, float]:
    """Turn multiples of the assumed effect into differences of accuracies, the interval's smaller end first."""
    effects = [assumed.difference(one) if math.isfinite(one) else one for one in scales]
    low, high = effects[1:]
    return (effects[0], low, high) if not low > high else (effects[0], high, low)


@contextmanager
def runner(processes: int, tick: Tick = lambda _: None) -> Iterator[Run]:
    """Give a function that simulates the studies of one effect, in this process or in several of one thread each."""
    if processes <= 1:
        yield lambda task, scale: _counted(task, scale, _inline(task, scale, tick))
        return
    with _one_thread(), ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:

        def spread(task: Task, scale: float) -> Point:
            parts = [range(first, min(first + CHUNK, task.sims)) for first in range(0, task.sims, CHUNK)]
            found: list[float] = []
            for part in pool.map(_chunk, [task] * len(parts), [scale] * len(parts), parts):
                found += part
                tick(len(part))
            return _counted(task, scale, found)

        yield spread


def _inline(task: Task, scale: float, tick: Tick) -> list[float]:
    found = []
    for number in range(task.sims):
        found.append(simulated_p(task, scale, number))
        tick(1)
    return found


def _counted(task: Task, scale: float, values: list[float]) -> Point:
    p = np.asarray(values)
    return Point(
        scale=scale, n=len(p), rejected=int((p < task.decision.alpha).sum()), failed=int(np.isnan(p).sum())
    )  # fmt: skip


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let new processes start with one thread of linear algebra each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def grid(
    assumed: Assumed, decision: Decision, sizes: Mapping[str, tuple[int, ...]], *, sims: int, seed: int, search: bool
) -> list[Task]:
    """List the cells of a grid of `participants` x `items`.

    Raises
    ------
    LimenError
        If a size is too small to analyse.
    """
    for name, least in (("participants", 2), ("items", 2)):
        for value in sizes[name]:
            if value < least:
                raise LimenError(f"power, {name}: given {value}; allowed are whole numbers from {least}.")
    if sims < 1:
        raise LimenError(f"power, simulations: given {sims}; allowed are whole numbers from 1.")
    return [
        Task(assumed=assumed, decision=decision, participants=n, items=m, sims=sims, seed=seed, search=search)
        for n in sizes["participants"]
        for m in sizes["items"]
    ]
