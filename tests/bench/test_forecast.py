"""A forecast is what a run then does, or a little more: passes by method and metric, counted on one image without numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench import api, zoo
from bench.engine import Cost, Engine, Network
from bench.forecast import Forecast, Rates, Rehearsal, Work, duration, forecast, measured, print_forecast
from bench.plan import Plan, expand, expand_metrics
from bench.registry import ATTRIBUTIONS, METRICS, LimenError, MetricCard
from bench.runner import Progress, Runner
from bench.store import Store

N = 3
RATES = Rates(forward=0.01, gradient=0.03)
SMALL: dict[str, dict[str, Any]] = {
    "rise": {"masks": 100},
    "sobol": {"side": 4, "samples": 4},
    "wcam": {"side": 8, "samples": 2},
    "eva": {"side": 4},
    "mu_fidelity": {"subsets": 30},
    "monotonicity_correlation": {"samples": 3},
    "smooth_parameter_randomization": {"samples": 3},
    "sensitivity_n": {"sizes": 4, "subsets": 20},
    "irof": {"segments": 16},
}
FEWER = {"eva": 0.0, "irof": 0.5}
"""Least share of the forecast that a run may need: bounds that need no second look, pictures with fewer pieces."""


def _of_maps(name: str) -> bool:
    card = METRICS.card(name)
    assert isinstance(card, MetricCard)
    asked = inspect.signature(METRICS.load(name)).parameters
    return card.of == "maps" and not {"folds", "human"} & set(asked)


def planned(**keys: Any) -> Plan:
    return Plan.model_validate(
        {"name": "small", "network": "tiny", "images": {"set": "scenes", "n": N, "options": {"size": 16}}, **keys}
    )


def convolutions(width: int) -> nn.Module:
    """Two convolutions of a width, and as many classes as the pictures' set has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 8))


@pytest.fixture
def tiny(conv_network: Network) -> Engine:
    return Engine(conv_network, device="cpu", precision="fp32")


@pytest.mark.parametrize("name", ATTRIBUTIONS.names())
def test_a_method_makes_as_many_passes_as_forecast(name: str, tiny: Engine) -> None:
    plan = planned(attributions=[{name: SMALL.get(name, {})}])
    images = zoo.load_images("scenes", "test", N, 0, size=16)
    (method,) = expand(plan.attributions, ATTRIBUTIONS, "attributions")
    inputs = tiny.inputs(images.pictures)
    told = Rehearsal(tiny, inputs[:1], plan, {}).explained(method) * N
    with tiny.meter() as cost:
        api.explain(name, tiny, inputs, 0, **method.options)
    assert cost.forwards <= told.forwards + N, "the maps that windows are read from are one more pass an image"
    assert cost.forwards >= FEWER.get(name, 1.0) * told.forwards - N, "one answer an image may be known already"
    assert cost.backwards <= told.backwards
    assert cost.backwards >= FEWER.get(name, 1.0) * told.backwards


@pytest.mark.parametrize("name", [name for name in METRICS.names() if _of_maps(name)])
def test_a_metric_makes_as_many_passes_as_forecast(name: str, tiny: Engine) -> None:
    plan = planned(attributions=[{"integrated_gradients": {"steps": 5}}], metrics=[{name: SMALL.get(name, {})}])
    images = zoo.load_images("scenes", "test", N, 0, size=16)
    (method,) = expand(plan.attributions, ATTRIBUTIONS, "attributions")
    (metric,) = expand_metrics(plan.metrics, "maps", "metrics")
    inputs = tiny.inputs(images.pictures)
    told = Rehearsal(tiny, inputs[:1], plan, images.masks).scored(metric, method) * N
    maps = api.explain(method.name, tiny, inputs, 0, **method.options)
    # An engine that remembers no answers.
    fresh = Engine(tiny.network, device="cpu", precision="fp32")
    explainer = api.explainer(method.name, fresh, **method.options)
    with fresh.meter() as cost:
        api.score(
            name, fresh, inputs, maps, 0, null=torch.zeros(N).numpy(), masks=images.masks, explainer=explainer, **metric.options
        )  # fmt: skip
    assert cost.forwards <= 1.02 * told.forwards + N, "the maps that windows are read from are a pass more"
    assert cost.forwards >= FEWER.get(name, 0.8) * told.forwards - N, "answers may be known already"
    assert cost.backwards == told.backwards


def test_a_run_makes_what_was_forecast(tmp_path: Path) -> None:
    network = Network(name="tiny", module=convolutions(8), classes=(), size=16)
    plan = planned(
        attributions=["random", {"rise": {"masks": 100}}, {"integrated_gradients": {"steps": 5}}],
        metrics=["deletion", {"max_sensitivity": {"samples": 3}}, {"energy_in_mask": {"mask": "object"}}],
        null_draws=2,
        explained_classes=2,
    )
    begun: list[str] = []
    (told,) = forecast(plan, {"tiny": Engine(network, device="cpu", precision="fp32")}, begun.append)
    assert begun == ["random", "rise", "integrated_gradients", "rates", "deletion", "max_sensitivity"]
    fresh = Engine(network, device="cpu", precision="fp32")
    with fresh.meter() as cost:
        Runner(plan, Store(tmp_path), {"tiny": fresh}, Progress()).run()
    assert 0.95 * told.total.forwards <= cost.forwards <= 1.02 * told.total.forwards
    assert told.total.backwards == cost.backwards
    assert fresh.passes == cost.forwards + cost.backwards
    assert told.images == N
    # 100 masks, of 2 classes, and once more of the predicted one.
    assert told.explain["rise"] == Work(forwards=100 * N * 3)
    assert told.null["max_sensitivity"] == Work()
    assert told.score["integrated_gradients", "max_sensitivity"].backwards == N * 3 * 5
    assert told.score["rise", "deletion"] == told.score["random", "deletion"]
    assert told.of_method("rise") == told.score["rise", "deletion"] + told.score["rise", "max_sensitivity"]
    assert 0 < told.rates.forward < told.rates.gradient


def test_what_a_forecast_leaves_out_is_named(tiny: Engine, tmp_path: Path) -> None:
    plan = planned(
        attributions=["saliency"],
        metrics=["mege", {"human_alignment": {"human": str(tmp_path / "none")}}],
        craft={"k": 3},
    )
    (told,) = forecast(plan, {"tiny": tiny})
    assert told.left_out == ("mege (explains networks that it trains)", "craft")
    assert told.null == {"human_alignment": Work()}
    assert told.total == Work(forwards=N, backwards=0) + Work(forwards=N, backwards=N)


def test_a_plan_that_would_be_refused_is_refused(tiny: Engine) -> None:
    with pytest.raises(LimenError, match="attribution 'eva', space: given 'wavelets"):
        forecast(planned(attributions=["eva"], space="wavelets:haar:1"), {"tiny": tiny})
    with pytest.raises(LimenError, match="plan 'small', key 'attributions': nothing was given, allowed is a plan with"):
        forecast(planned(), {"tiny": tiny})


@pytest.mark.parametrize(
    ("work", "seconds"),
    [(Work(10, 0), 0.1), (Work(10, 10), 0.3), (Work(10, 4), 0.18), (Work(2, 10), 0.22), (Work(), 0.0)],
)
def test_a_backward_goes_with_a_forward_and_costs_the_difference_alone(work: Work, seconds: float) -> None:
    assert RATES.seconds(work) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.123, "0.12 s"),
        (59.2, "59 s"),
        (60, "1 min"),
        (3599, "60 min"),
        (3 * 3600, "3 h"),
        (47.6 * 3600, "48 h"),
        (9 * 86400, "9 days"),
        (1234.5 * 86400, "1,234 days"),
    ],
)
def test_a_time_is_told_in_a_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_table_tells_methods_metrics_and_the_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = Forecast(
        network="tiny",
        images=20,
        rates=RATES,
        explain={"smoothgrad": Work(1000, 1000), "relative_representation": Work(123456789, 0)},
        null={"deletion": Work(700)},
        score={("smoothgrad", "deletion"): Work(300), ("relative_representation", "deletion"): Work(300)},
        left_out=("craft",),
    )
    print_forecast([told])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["smoothgrad", "1,000", "1,000", "300", "0", "33", "s"] in lines
    assert ["relative_representation", "123,456,789", "0", "300", "0", "14", "days"] in lines
    assert ["deletion", "700", "0", "600", "0", "13", "s"] in lines
    text = " ".join(word for line in lines for word in line)
    assert "tiny · 20 images" in text
    assert (
        "in all 123,459,109 forwards and 1,000 backwards: 14 days at 100 forwards and 33.3 gradients a second" in text
    )
    assert "Not counted: craft." in text


class Clock:
    """An engine whose calls take a fixed time, and a time a copy."""

    def __init__(self, call: float, forward: float, gradient: float) -> None:
        self._call, self._each = call, {"altered_scores": forward, "gradient_moments": gradient}
        self._spent = 0.0

    def targets(self, image: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(image), dtype=torch.int64)

    @contextmanager
    def meter(self) -> Iterator[Cost]:
        cost, start = Cost(), self._spent
        yield cost
        cost.seconds = self._spent - start

    def __getattr__(self, name: str) -> Callable[..., None]:
        def run(image: torch.Tensor, count: int, alter: Callable[..., torch.Tensor], *_: object, **__: object) -> None:
            index = torch.arange(count)
            copies = alter(image[index * 0], index * 0, index).flatten(1)
            assert len(copies.unique(dim=0)) == count
            self._spent += self._call + self._each[name] * count

        return run


@pytest.mark.parametrize(("forward", "gradient"), [(0.002, 0.006), (1e-5, 4e-5), (0.7, 3.0)])
def test_a_rate_is_that_of_many_copies(forward: float, gradient: float) -> None:
    found = measured(Clock(0.01, forward, gradient), torch.rand(1, 3, 8, 8))  # type: ignore[arg-type]
    # Of calls of at most 512 copies, or of the first that takes a second.
    assert found.forward == pytest.approx(forward, rel=0.02, abs=0.01 / 256)
    assert found.gradient == pytest.approx(gradient, rel=0.02, abs=0.01 / 256)


class Branching(nn.Module):
    """Looks at its input's numbers, which there are none of in a rehearsal."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolutions(8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images * 2 if bool((images > 1e9).any()) else images)


def test_a_network_that_branches_by_what_it_sees_is_run_on_one_image() -> None:
    engine = Engine(Network(name="tiny", module=Branching(), size=16), device="cpu", precision="fp32")
    (told,) = forecast(planned(attributions=[{"rise": {"masks": 100}}], metrics=["deletion"]), {"tiny": engine})
    assert 100 * N <= told.explain["rise"].forwards <= 101 * N
    assert told.score["rise", "deletion"].forwards >= 32 * N
