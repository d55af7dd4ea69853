"""What every registered metric of maps owes its caller; a new file is tested without an edit here."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import ScoreResult, explainer, score
from bench.engine import Engine, Network
from bench.registry import METRICS, MetricCard

QUICK: dict[str, dict[str, Any]] = {
    "mu_fidelity": {"subsets": 30},
    "deletion": {"steps": 8},
    "insertion": {"steps": 8},
    "insertion_deletion": {"steps": 8},
    "pixel_flipping": {"steps": 8},
    "region_perturbation": {"patch": 4},
    "selectivity": {"patch": 4},
    "irof": {"segments": 16},
    "faithfulness_correlation": {"subsets": 30},
    "monotonicity_correlation": {"samples": 3},
    "infidelity": {"samples": 16},
    "sensitivity_n": {"sizes": 4, "subsets": 20},
    "sufficiency": {"share": 1.0},
    "consistency": {"side": 1},
    "smooth_parameter_randomization": {"samples": 5},
}
"""Fewer samples where the defaults are many; a metric that is not named runs at its defaults."""
TARGETS = [3, 0, 1, 4]
OF_THE_SET = {"sufficiency", "consistency"}
"""Metrics that compare each image with the others: their value is one of the set, as their docstrings say."""
REGIONS = {name: np.arange(4 * 256).reshape(4, 16, 16) % 256 < 100 for name in ("object", "background")}


def card_of(name: str) -> MetricCard:
    card = METRICS.card(name)
    assert isinstance(card, MetricCard)
    return card


def needs_more(name: str) -> bool:
    """Tell whether a metric compares with retrained networks or with people's maps: those have tests of their own."""
    return bool({"folds", "human"} & set(inspect.signature(METRICS.load(name)).parameters))


NAMES = [name for name in METRICS.names() if card_of(name).of == "maps" and not needs_more(name)]


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(3))


def run(
    name: str,
    engine: Engine,
    images: Tensor | np.ndarray,
    maps: Tensor | np.ndarray,
    index: Any = slice(None),
    seed: int = 0,
) -> ScoreResult:
    """Score the images at `index` alone."""
    targets = np.array(TARGETS)[index]
    masks = {key: mask[index] for key, mask in REGIONS.items()}
    return score(
        name, engine, images[index], maps[index], targets, seed=seed, null=np.zeros(len(targets)), masks=masks,
        explainer=explainer("gradient_input", engine), **QUICK.get(name, {}),
    )  # fmt: skip


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    # Scores that differ by rounding can swap two neighbouring ranks of a rank correlation; ratios have no upper bound.
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_finite_value_an_image_inside_the_bounds(
    name: str, engine: Engine, images: Tensor, maps: Tensor
) -> None:
    found = run(name, engine, images, maps)
    assert found.values.shape == (4,)
    assert np.isfinite(found.values).all()
    low, high = card_of(name).bounds
    assert (found.values >= low).all()
    assert (found.values <= high).all()
    assert found.convention


@pytest.mark.parametrize("name", NAMES)
def test_batch_size_does_not_change_a_value(
    name: str, conv_network: Network, engine: Engine, images: Tensor, maps: Tensor
) -> None:
    expected = run(name, engine, images, maps).values
    for batch_size in (1, 64):
        other = Engine(conv_network, device="cpu", precision="fp32", batch_size=batch_size)
        assert_same(run(name, other, images, maps).values, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_type_of_images_and_maps_does_not_change_a_value(
    name: str, engine: Engine, images: Tensor, maps: Tensor
) -> None:
    wide = run(name, engine, images.double().numpy(), maps.double().numpy()[:, 0])
    assert np.array_equal(wide.values, run(name, engine, images, maps).values)


@pytest.mark.parametrize("name", NAMES)
def test_batch_mates_and_their_order_do_not_change_a_value(
    name: str, engine: Engine, images: Tensor, maps: Tensor
) -> None:
    expected = run(name, engine, images, maps).values
    if name not in OF_THE_SET:
        assert_same(run(name, engine, images, maps, slice(2, 3)).values, expected[2:3])
    order = [3, 1, 0, 2]
    assert_same(run(name, engine, images, maps, order).values, expected[order])


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_value_again(name: str, conv_network: Network, images: Tensor, maps: Tensor) -> None:
    first, second = (Engine(conv_network, device="cpu", precision="fp32", batch_size=7) for _ in range(2))
    left, right = (run(name, one, images, maps, seed=3) for one in (first, second))
    assert np.array_equal(left.values, right.values)
    assert left.value == right.value


@pytest.mark.parametrize("name", NAMES)
def test_scoring_leaves_network_images_and_maps_as_they_were(
    name: str, engine: Engine, images: Tensor, maps: Tensor
) -> None:
    module = engine.network.module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    given, drawn, state = images.clone(), maps.clone(), torch.get_rng_state()
    run(name, engine, images, maps)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert torch.equal(images, given)
    assert torch.equal(maps, drawn)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize("name", NAMES)
def test_no_tensor_is_made_beside_the_device(name: str, conv_network: Network, images: Tensor, maps: Tensor) -> None:
    engine = Engine(conv_network, device="meta", precision="fp32", batch_size=64)
    assert run(name, engine, images, maps).values.shape == (4,)


@pytest.mark.parametrize("name", NAMES)
def test_card_and_docstring_say_what_a_reader_needs(name: str) -> None:
    card = card_of(name)
    assert card.citation
    assert card.cost
    assert card.null
    assert card.summary.endswith(".")
