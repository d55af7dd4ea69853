"""What every registered attribution owes its caller; a new file is tested without an edit here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bench.api import explain
from bench.engine import TOLERANCE, Engine, Network
from bench.registry import ATTRIBUTIONS

QUICK: dict[str, dict[str, Any]] = {
    "occlusion": {"patch": 4},
    "eva": {"side": 6},
    "forgrad": {"of": "smoothgrad", "of_options": {"samples": 4}},
    "integrated_gradients": {"steps": 8},
    "rise": {"masks": 60},
    "smoothgrad": {"samples": 4},
    "squaregrad": {"samples": 4},
    "vargrad": {"samples": 4},
    "sobol": {"side": 4, "samples": 4},
    "wam": {"samples": 4},
    "wcam": {"side": 8, "samples": 2},
}
"""Fewer samples where the defaults are many; a method that is not named runs at its defaults."""
NAMES = ATTRIBUTIONS.names()
VALUES = ("lrp",)
"""Other libraries read the numbers of the network's own weights, which the meta device does not hold."""
SETTLED = ("eva",)
"""Draws only where an option asks for it."""
TARGETS = torch.tensor([3, 0, 1, 4])


def run(name: str, engine: Engine, images: Tensor, targets: Tensor, seed: int = 0) -> Tensor:
    return explain(name, engine, images, targets, seed=seed, **QUICK.get(name, {}))


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_map_is_one_finite_float_a_pixel(name: str, engine: Engine, images: Tensor) -> None:
    maps = run(name, engine, images, TARGETS)
    assert maps.shape == (4, 1, 16, 16)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert not maps.requires_grad
    assert maps.std() > 0


@pytest.mark.parametrize("name", NAMES)
def test_batch_size_does_not_change_a_map(name: str, conv_network: Network, engine: Engine, images: Tensor) -> None:
    expected = run(name, engine, images, TARGETS)
    for batch_size in (1, 64):
        other = Engine(conv_network, device="cpu", precision="fp32", batch_size=batch_size)
        assert_same(run(name, other, images, TARGETS), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_type_of_images_and_targets_does_not_change_a_map(name: str, engine: Engine, images: Tensor) -> None:
    expected = run(name, engine, images, TARGETS)
    function = ATTRIBUTIONS.load(name)
    wide = explain(function, engine, images.double().numpy(), TARGETS.tolist(), **QUICK.get(name, {}))
    assert wide.dtype == torch.float32
    assert torch.equal(wide, expected)


@pytest.mark.parametrize("name", NAMES)
def test_batch_mates_and_their_order_do_not_change_a_map(name: str, engine: Engine, images: Tensor) -> None:
    expected = run(name, engine, images, TARGETS)
    assert_same(run(name, engine, images[2:3], TARGETS[2:3]), expected[2:3])
    order = torch.tensor([3, 1, 0, 2])
    assert_same(run(name, engine, images[order], TARGETS[order]), expected[order])


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_map_again(name: str, conv_network: Network, images: Tensor) -> None:
    first, second = (Engine(conv_network, device="cpu", precision="fp32", batch_size=7) for _ in range(2))
    assert torch.equal(run(name, first, images, TARGETS, seed=3), run(name, second, images, TARGETS, seed=3))


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "draws" in ATTRIBUTIONS.load(name).__annotations__ and name not in SETTLED]
)
def test_another_seed_gives_another_map(name: str, engine: Engine, images: Tensor) -> None:
    assert not torch.equal(run(name, engine, images, TARGETS, seed=3), run(name, engine, images, TARGETS, seed=4))


@pytest.mark.parametrize("name", NAMES)
def test_explaining_leaves_network_images_and_generators_as_they_were(
    name: str, engine: Engine, images: Tensor
) -> None:
    module = engine.network.module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    given, targets, state = images.clone(), TARGETS.clone(), torch.get_rng_state()
    run(name, engine, images, targets)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert torch.equal(images, given)
    assert torch.equal(targets, TARGETS)
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    for part in module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert not part._backward_hooks
        assert not part.training
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in VALUES])
def test_no_tensor_is_made_beside_the_device(name: str, conv_network: Network, images: Tensor) -> None:
    engine = Engine(conv_network, device="meta", precision="fp32", batch_size=64)
    maps = run(name, engine, images, TARGETS)
    assert maps.is_meta
    assert maps.shape == (4, 1, 16, 16)


@pytest.mark.parametrize("name", NAMES)
def test_card_and_docstring_say_what_a_reader_needs(name: str) -> None:
    card = ATTRIBUTIONS.card(name)
    assert card.citation
    assert card.cost
    assert card.summary.endswith(".")
