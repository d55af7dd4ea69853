"""What a plan will cost, before it is run: the passes of every cell, and their time at the rates measured here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import Tensor

from . import api, spaces, zoo
from .engine import Engine
from .images import ImageSet
from .plan import Method, Plan, expand, expand_metrics
from .registry import ATTRIBUTIONS, METRICS, LimenError

LEAST = 1.0
"""Seconds of passes behind each rate."""
MOST = 512
"""Copies in one call of that measurement: longer sweeps may be compiled."""
_TARGET = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True)
class Work:
    """Passes through a network."""

    forwards: int = 0
    backwards: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.forwards + other.forwards, self.backwards + other.backwards)

    def __mul__(self, times: int) -> Work:
        return Work(self.forwards * times, self.backwards * times)


@dataclass(frozen=True)
class Rates:
    """Seconds of one image through a network, forwards alone and forwards with the gradient."""

    forward: float
    gradient: float

    def seconds(self, work: Work) -> float:
        """Return how long some work takes, each backward beside a forward of its own as long as there are any."""
        paired = min(work.forwards, work.backwards)
        alone = max(self.gradient - self.forward, 0.0)
        return paired * self.gradient + (work.forwards - paired) * self.forward + (work.backwards - paired) * alone


@dataclass(frozen=True)
class Forecast:
    """What a plan asks of one network.

    Attributes
    ----------
    network : str
    images : int
    rates : Rates, as measured on the first image
    explain : method's label -> Work of its maps of all images and classes
    null : metric's label -> Work of its null on all images
    score : (method's label, metric's label) -> Work of that score on all images
    left_out : what the plan asks for besides, and is not counted
    """

    network: str
    images: int
    rates: Rates
    explain: Mapping[str, Work]
    null: Mapping[str, Work]
    score: Mapping[tuple[str, str], Work]
    left_out: tuple[str, ...]

    @property
    def total(self) -> Work:
        """All of it, with one forward an image that tells what the network answers."""
        return sum((*self.explain.values(), *self.null.values(), *self.score.values()), Work(forwards=self.images))

    def of_method(self, method: str) -> Work:
        """Return the work of scoring one method by all metrics."""
        return sum((work for (one, _), work in self.score.items() if one == method), Work())

    def of_metric(self, metric: str) -> Work:
        """Return the work of scoring all methods by one metric, without its null."""
        return sum((work for (_, one), work in self.score.items() if one == metric), Work())


def forecast(
    plan: Plan, engines: Mapping[str, Engine], begin: Callable[[str], None] = lambda label: None
) -> list[Forecast]:
    """Count what a plan asks of each network it explains: its cells go through the motions on one image, without numbers.

    An upper limit, cell by cell. Answers that one cell finds in the memory of another, passes of a part of the picture
    alone, bounds that need no second look and what the store holds already make a run shorter. What cannot do without
    numbers (other libraries' rules, a network that branches by what it sees) is run on that image.

    Parameters
    ----------
    plan : Plan
    engines : name -> Engine, of the plan's networks
    begin : told what is gone through next

    Raises
    ------
    LimenError
        As a run of the plan would, for what can be told without numbers.
    """
    spec = plan.images
    if spec is None or not plan.attributions:
        raise LimenError(
            f"plan '{plan.name}', key 'attributions': nothing was given, allowed is a plan with attributions; "
            "concepts are not forecast."
        )
    images = zoo.load_images(spec.set, spec.split, spec.n, spec.seed, **spec.options)
    return [_of(engines[name], plan, images, begin) for name in plan.network]


def _of(engine: Engine, plan: Plan, images: ImageSet, begin: Callable[[str], None]) -> Forecast:
    inputs, count = engine.inputs(images.pictures[:1]), len(images)
    masks = {name: mask[:1] for name, mask in images.masks.items()}
    rehearsal = Rehearsal(engine, inputs, plan, masks, begin)
    methods = expand(plan.attributions, ATTRIBUTIONS, "attributions")
    metrics, retrained = list[Method](), list[Method]()
    for metric in expand_metrics(plan.metrics, "maps", "metrics"):
        asked = "folds" in inspect.signature(METRICS.load(metric.name)).parameters
        (retrained if asked else metrics).append(metric)
    maps = {method.label: rehearsal.explained(method) for method in methods}
    begin("rates")
    classes = plan.explained_classes + (plan.explained_classes > 1)
    return Forecast(
        network=engine.network.name,
        images=count,
        rates=measured(engine, inputs),
        explain={label: work * (count * classes) for label, work in maps.items()},
        null={metric.label: rehearsal.null(metric) * (count * plan.null_draws) for metric in metrics},
        score={
            (one.label, metric.label): rehearsal.scored(metric, one) * count for one in methods for metric in metrics
        },
        left_out=(
            *(f"{metric.label} (explains networks that it trains)" for metric in retrained),
            *(name for name, asked in (("craft", plan.craft), ("concepts", plan.concepts)) if asked),
        ),
    )


class Rehearsal:
    """One image of a plan: each cell is gone through without numbers, and its passes counted."""

    def __init__(
        self,
        engine: Engine,
        image: Tensor,
        plan: Plan,
        masks: Mapping[str, np.ndarray],
        begin: Callable[[str], None] = lambda label: None,
    ) -> None:
        self._engine, self._image, self._masks, self._begin = engine, image, masks, begin
        self._blank = engine.rehearsal()
        self._given: dict[str, Any] = {"space": spaces.make(plan.space), "seed": plan.seed}
        self._maps: dict[str, Work] = {}
        self._scores: dict[str, tuple[Work, int]] = {}

    def explained(self, method: Method) -> Work:
        """Count one map by a method."""
        if method.label not in self._maps:
            self._begin(method.label)
            self._maps[method.label] = self._counted(lambda engine: self._map(engine, method.name, method.options))
        return self._maps[method.label]

    def null(self, metric: Method) -> Work:
        """Count the score of one random map."""
        return self._asked(metric)[0]

    def scored(self, metric: Method, method: Method) -> Work:
        """Count the score of one map, and the maps that are made again for it."""
        own, maps = self._asked(metric)
        return own + self.explained(method) * maps if maps else own

    def _asked(self, metric: Method) -> tuple[Work, int]:
        """Return the passes of a metric itself, and how many images it has explained again.

        One of the maps alone, whose card says that it costs none, is not gone through: it may read what only numbers tell.
        """
        if METRICS.card(metric.name).cost == "none":
            return Work(), 0
        if metric.label not in self._scores:
            self._begin(metric.label)
            images: list[int] = []
            work = self._counted(lambda engine: self._score(engine, metric, images))
            self._scores[metric.label] = work, sum(images)
        return self._scores[metric.label]

    def _map(self, engine: Engine, name: str, options: Mapping[str, Any]) -> Tensor:
        return api.explain(name, engine, self._image, _TARGET, **self._given, **options)

    def _score(self, engine: Engine, metric: Method, asked: list[int]) -> None:
        blank = api.explainer(api.CONTROL, engine, **self._given)
        asked.clear()

        def explainer(images: Tensor, targets: Tensor, *, on: Engine | None = None) -> Tensor:
            asked.append(len(images))
            return blank(images, targets, on=on)

        api.score(
            metric.name,
            engine,
            self._image,
            self._map(engine, api.CONTROL, {}),
            _TARGET,
            **self._given,
            null=np.zeros(1),
            masks=self._masks,
            explainer=explainer,
            **metric.options,
        )

    def _counted(self, run: Callable[[Engine], Any]) -> Work:
        """Count what `run` does without numbers; what has to read some is done."""
        try:
            return _work(self._blank, run)
        except RuntimeError:
            return _work(self._engine, run)


def _work(engine: Engine, run: Callable[[Engine], Any]) -> Work:
    with engine.meter() as cost:
        run(engine)
    return Work(cost.forwards, cost.backwards)


def measured(engine: Engine, image: Tensor) -> Rates:
    """Measure copies of one image through a network, at the engine's own precision and batch."""
    targets = engine.targets(image)

    def faded(coordinates: Tensor, _: Tensor, index: Tensor) -> Tensor:
        return coordinates * (1 - index / (2 * MOST)).reshape(-1, *[1] * (coordinates.ndim - 1))

    given: dict[str, Any] = {"space": spaces.make("pixels")}
    return Rates(
        forward=_seconds(engine, lambda count: engine.altered_scores(image, count, faded, targets, **given)),
        gradient=_seconds(engine, lambda count: engine.gradient_moments(image, count, faded, targets, **given)),
    )


def _seconds(engine: Engine, run: Callable[[int], Any]) -> float:
    """Return the seconds of one copy, by more and more copies until they take long enough."""
    run(1)
    copies, spent, count = 0, 0.0, 1
    while spent < LEAST:
        with engine.meter() as cost:
            run(count)
        # What the first, small calls cost beside their passes is not of the passes.
        copies, spent = (count, cost.seconds) if count < MOST else (copies + count, spent + cost.seconds)
        count = min(2 * count, MOST)
    return spent / copies


def print_forecast(found: Sequence[Forecast]) -> None:
    """Print what each network has to do, by method and by metric, and how long all of it takes at most."""
    console = Console()
    for one in found:
        title = f"{one.network} · {one.images:,} images"
        console.print(_table(title, "method", ("explaining", "scoring"), _methods(one), one.rates))
        console.print()
        if one.null:
            console.print(_table("by metric, all methods", "metric", ("null", "scores"), _metrics(one), one.rates))
            console.print()
        total = one.total
        console.print(
            f"in all {total.forwards:,} forwards and {total.backwards:,} backwards: {duration(one.rates.seconds(total))} at "
            f"{1 / one.rates.forward:,.3g} forwards and {1 / one.rates.gradient:,.3g} gradients a second, measured just now.",
            soft_wrap=True,
        )
        if one.left_out:
            console.print(f"Not counted: {', '.join(one.left_out)}.", soft_wrap=True)
    console.print(
        "An upper limit: answers asked for twice are remembered, passes of a part of the picture cost less, and what the "
        "store holds already is not made again.",
        style="dim",
    )


def _methods(one: Forecast) -> dict[str, tuple[Work, Work]]:
    return {name: (work, one.of_method(name)) for name, work in one.explain.items()}


def _metrics(one: Forecast) -> dict[str, tuple[Work, Work]]:
    return {name: (work, one.of_metric(name)) for name, work in one.null.items()}


def _table(
    title: str, first: str, kinds: tuple[str, str], rows: Mapping[str, tuple[Work, Work]], rates: Rates
) -> Table:
    """Lay out two kinds of work a row, and the time of both."""
    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    grid.add_column(first, no_wrap=True)
    for kind in kinds:
        grid.add_column(f"{kind},\nforwards", justify="right")
        grid.add_column("back-\nwards", justify="right")
    grid.add_column("\ntime", justify="right", no_wrap=True)
    for name, works in rows.items():
        numbers = [f"{count:,}" for work in works for count in (work.forwards, work.backwards)]
        grid.add_row(name, *numbers, duration(rates.seconds(works[0] + works[1])))
    return grid


def duration(seconds: float) -> str:
    """Write a time in the unit that it is 1 or more of: '0.4 s', '12 min', '3.1 days'."""
    for unit, size, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86400:,.2g} days" if seconds < 86400 * 100 else f"{seconds / 86400:,.0f} days"
