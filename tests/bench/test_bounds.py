"""Verified bounds: sound on samples and corners, exact where theory says so, tighter in the order theory says."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from bench.engine import Engine, Network
from bench.engine.bounds import Boxes, Relaxation
from bench.registry import LimenError
from bench.spaces import Pixels
from bench.zoo.resnet import ResidualNetwork

RELAXATIONS = get_args(Relaxation)


class Forms(nn.Module):
    """Modules, functions and in-place calls; pools, constants, products and smooth functions; two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.linspace(-1, 1, 36).reshape(1, 1, 6, 6))
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.fc = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.drop(self.relu(self.conv(images * self.window)))
        features += 0.25
        features = nn.functional.adaptive_avg_pool2d(nn.functional.relu6(self.pool(features)), 2)
        flat = features.view(features.size(0), -1)
        total = flat.mean(-1)
        logits = self.fc(nn.functional.gelu(flat)) / 2 - torch.tensor([0.1, 0.0, -0.1])
        extra = torch.stack([torch.zeros_like(total), 2 * (total - 0.2), -total], dim=1)
        return logits + extra + torch.cat([*logits.split(1, dim=1)], dim=1) * logits.sigmoid()


class Pooled(nn.Module):
    """Max pooling before and after a ReLU, its size rounded up, and a leaky ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3)
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu(self.pool(self.first(images)))
        return self.fc(nn.functional.leaky_relu(nn.functional.max_pool2d(self.second(features), 2), 0.1).flatten(1))


class Perceptron(nn.Sequential):
    """Two hidden layers on 12 numbers."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


class Residual(ResidualNetwork):
    """The zoo's architecture, narrow, with statistics that are not those of a fresh network."""

    def __init__(self) -> None:
        super().__init__(4, (3, 4, 5, 6), (1, 2, 1, 2, 1))
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                for values in (part.running_mean, part.weight.data, part.bias.data):
                    values.normal_(0.3)
                part.running_var.uniform_(0.5, 2)


SIZES = {Forms: 6, Pooled: 6, Perceptron: 2, Residual: 6}


def engine_of(build: type[nn.Module], seed: int = 0, batch_size: int = 64) -> Engine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
    return Engine(Network(name=build.__name__, module=module), device="cpu", precision="fp32", batch_size=batch_size)


def pictures(size: int, count: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def balls(*radii: float) -> Boxes:
    """One box an image and a radius."""

    def build(pixels: Tensor, _: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        reach = torch.tensor(radii)[index].reshape(-1, 1, 1, 1)
        return pixels - reach, pixels + reach

    return Boxes(len(radii), build)


def bounds(engine: Engine, images: Tensor, boxes: Boxes, **options: object) -> Tensor:
    return engine.margin_bounds(images, boxes, engine.targets(images), space=Pixels(), **options)  # type: ignore[arg-type]


def worst(engine: Engine, points: Tensor, targets: Tensor) -> Tensor:
    """Return the largest margin (N,) of another class over points (n, N, ...)."""
    logits = torch.stack([engine.network.module(some) for some in points])
    chosen = targets[None, :, None].expand(len(points), -1, 1)
    return (logits - logits.gather(2, chosen)).scatter(2, chosen, -torch.inf).amax(dim=(0, 2))


@pytest.mark.long
@pytest.mark.parametrize("build", SIZES)
def test_no_sample_and_no_corner_of_the_box_passes_a_bound(build: type[nn.Module]) -> None:
    engine, images, radius = engine_of(build), pictures(SIZES[build]), 0.1
    noise = 2 * torch.rand(100, *images.shape, generator=torch.Generator().manual_seed(2)) - 1
    reached = worst(engine, images + radius * torch.cat([noise, noise.sign()]), engine.targets(images))
    for relaxation, bound in [*zip(RELAXATIONS, ["margin"] * 5, strict=True), ("ibp", "separate")]:
        found = bounds(engine, images, balls(radius), relaxation=relaxation, bound=bound)[:, 0]
        assert (found >= reached).all(), (relaxation, bound)


@pytest.mark.long
@pytest.mark.parametrize("build", SIZES)
def test_the_order_of_tightness_is_the_one_of_theory(build: type[nn.Module]) -> None:
    engine, images = engine_of(build), pictures(SIZES[build])
    found = {
        (relaxation, bound): bounds(engine, images, balls(0.1), relaxation=relaxation, bound=bound)
        for relaxation, bound in [
            ("ibp", "separate"),
            ("crown_ibp", "separate"),
            *((one, "margin") for one in RELAXATIONS),
        ]
    }
    for relaxation in ("ibp", "crown_ibp"):
        assert (found[relaxation, "margin"] <= found[relaxation, "separate"] + 1e-6).all()
    for relaxation in RELAXATIONS:
        assert (found[relaxation, "margin"] <= found["ibp", "margin"]).all()
        assert (found["combination", "margin"] <= found[relaxation, "margin"]).all()
    assert (found["crown", "margin"] < found["ibp", "margin"]).any() or build is Forms


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_a_box_without_width_gives_the_margin_itself(relaxation: Relaxation) -> None:
    engine, images = engine_of(Residual), pictures(6)
    expected = worst(engine, images[None], engine.targets(images))
    found = bounds(engine, images, balls(0.0), relaxation=relaxation)[:, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert (found >= expected - 1e-6).all()


def test_intervals_widen_with_the_box() -> None:
    engine, images = engine_of(Residual), pictures(6)
    found = bounds(engine, images, balls(0.0, 0.01, 0.05, 0.2, 1.0), relaxation="ibp")
    assert (found.diff(dim=1) > 0).all()


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_batches_do_not_change_a_bound(relaxation: Relaxation) -> None:
    images = pictures(2, count=4)
    whole = bounds(engine_of(Perceptron), images, balls(0.05, 0.2, 0.4), relaxation=relaxation)
    for batch_size in (1, 5):
        engine = engine_of(Perceptron, batch_size=batch_size)
        cut = bounds(engine, images, balls(0.05, 0.2, 0.4), relaxation=relaxation)
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)
    alone = bounds(engine_of(Perceptron), images[2:3], balls(0.05, 0.2, 0.4), relaxation=relaxation)
    torch.testing.assert_close(alone, whole[2:3], rtol=1e-5, atol=1e-6)


class Shallow(nn.Sequential):
    """One hidden layer of 6 on 3 numbers: few enough patterns to go through them all."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3))


def exact_margin(module: Shallow, centre: np.ndarray, radius: float, target: int) -> float:
    """Maximise each margin by a linear program for each pattern of open and shut ReLUs."""
    first, bias, last, offset = (
        one.detach().double().numpy() for layer in (module[1], module[3]) for one in (layer.weight, layer.bias)
    )
    box = [(value - radius, value + radius) for value in centre]
    best = -np.inf
    for pattern in itertools.product([0.0, 1.0], repeat=len(first)):
        open_ = np.array(pattern)
        shut = (1 - 2 * open_)[:, None]
        for rival in {0, 1, 2} - {target}:
            row = (last[rival] - last[target]) * open_
            found = linprog(-row @ first, shut * first, -shut[:, 0] * bias, bounds=box, method="highs")
            if found.status == 0:
                best = max(best, -found.fun + row @ bias + offset[rival] - offset[target])
    return best


@pytest.mark.parametrize("seed", [0, 1])
def test_bounds_hold_the_exact_maximum_over_all_activation_patterns(seed: int) -> None:
    engine = engine_of(Shallow, seed)
    images = pictures(1, count=2, seed=seed)
    target = engine.targets(images)
    for image in range(2):
        exact = exact_margin(engine.network.module, images[image].flatten().numpy(), 0.4, int(target[image]))  # type: ignore[arg-type]
        found = {one: float(bounds(engine, images, balls(0.4), relaxation=one)[image]) for one in RELAXATIONS}
        assert all(value >= exact for value in found.values())
        assert found["combination"] - exact <= found["ibp"] - exact


def test_a_rival_is_one_of_the_classes_behind_the_largest_bound() -> None:
    engine, images = engine_of(Perceptron), pictures(2)
    targets = torch.zeros(2, dtype=torch.int64)
    arguments = {"space": Pixels(), "relaxation": "crown"}
    each = [
        engine.margin_bounds(images, balls(0.1), targets, rivals=torch.full((2,), rival), **arguments)  # type: ignore[arg-type]
        for rival in (1, 2)
    ]
    largest = engine.margin_bounds(images, balls(0.1), targets, **arguments)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.stack(each).amax(dim=0), largest)


def test_an_interval_pass_costs_two_forwards_a_box() -> None:
    engine, images = engine_of(Perceptron), pictures(2)
    targets = engine.targets(images)
    with engine.meter() as cost:
        engine.margin_bounds(images, balls(0.1, 0.2), targets, space=Pixels(), relaxation="ibp")
    assert (cost.forwards, cost.backwards) == (2 * 2 * 2, 0)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_bounds_run_on_the_meta_device(relaxation: Relaxation) -> None:
    engine = Engine(Network(name="residual", module=Residual()), device="meta")
    found = engine.margin_bounds(
        engine.prepare(pictures(6)),
        Boxes(2, lambda pixels, *_: (pixels - 1, pixels + 1)),
        torch.zeros(2, dtype=torch.int64),
        space=Pixels(),
        relaxation=relaxation,
    )
    assert found.is_meta
    assert found.shape == (2, 2)


def test_an_operation_that_bounds_cannot_pass_is_named() -> None:
    engine = Engine(nn.Sequential(nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 2)), device="cpu")
    with pytest.raises(LimenError, match="native_layer_norm.*allowed are .*convolution"):
        bounds(engine, pictures(2), balls(0.1))


class Branching(nn.Module):
    """Takes another way for other images."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)[:, :2]
        return flat if float(images.abs().sum()) == 0 else 3 * flat


class Counting(nn.Module):
    """Answers otherwise each time."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.calls * images.flatten(1)[:, :2]


@pytest.mark.parametrize(("build", "fault"), [(Branching, "cannot be traced"), (Counting, "answer otherwise")])
def test_a_network_that_is_not_its_trace_is_refused(build: type[nn.Module], fault: str) -> None:
    engine = engine_of(build)
    targets = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(LimenError, match=fault):
        engine.margin_bounds(pictures(2), balls(0.1), targets, space=Pixels())


@pytest.mark.parametrize("option", ["relaxation", "bound"])
def test_an_unknown_way_to_bound_is_refused(option: str) -> None:
    with pytest.raises(LimenError, match=f"bounds, {option}: unknown name 'marginn'"):
        bounds(engine_of(Perceptron), pictures(2), balls(0.1), **{option: "marginn"})
