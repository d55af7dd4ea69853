"""The gradient family: noise, presets, channels, and any explainer under noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import explain
from bench.attributions._moments import Noise
from bench.engine import TOLERANCE, Engine, Network
from bench.registry import ATTRIBUTIONS, LimenError, resolve_options
from bench.spaces import Pixels, Wavelets

FAMILY = ("smoothgrad", "squaregrad", "vargrad")


class Quadratic(nn.Module):
    """Two logits, 0 and the sum of squares: the gradient is 2 x."""

    def forward(self, images: Tensor) -> Tensor:
        value = images.flatten(1).square().sum(dim=1)
        return torch.stack([torch.zeros_like(value), value], dim=1)


@pytest.fixture
def quadratic() -> Engine:
    return Engine(Quadratic(), device="cpu", precision="fp32", batch_size=512)


@pytest.fixture
def image() -> Tensor:
    return torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]])


def noisy_gradients(engine: Engine, images: Tensor, target: int, noise: Noise, seed: int, name: str) -> Tensor:
    """Return (copies, N, C, H, W): the gradient at each noisy copy, one by one with autograd alone."""
    copies = noise.on(images, engine.draws(seed, "attribution", name))
    found = []
    for number in range(noise.samples):
        rows = []
        for index in range(len(images)):
            copy = copies.build(torch.tensor([index]), torch.tensor([number])).requires_grad_()
            engine.network.module(copy)[0, target].backward()
            rows.append(copy.grad[0])
        found.append(torch.stack(rows))
    return torch.stack(found).double()


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("smoothgrad", lambda slopes: slopes.mean(0)),
        ("squaregrad", lambda slopes: slopes.square().mean(0)),
        ("vargrad", lambda slopes: slopes.var(0, correction=1)),
    ],
)
@pytest.mark.parametrize("last_clean", [False, True])
def test_the_family_equals_its_loop(
    engine: Engine, images: Tensor, name: str, statistic: Callable[[Tensor], Tensor], last_clean: bool
) -> None:
    noise = Noise(samples=5, sigma=0.3, relative=True, last_clean=last_clean)
    slopes = noisy_gradients(engine, images, 2, noise, 4, name)
    found = explain(name, engine, images, 2, seed=4, samples=5, sigma=0.3, last_clean=last_clean)
    expected = statistic(slopes).sum(1, keepdim=True).float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("name", "power"), [("smoothgrad", 1), ("squaregrad", 2), ("vargrad", None)])
def test_the_family_of_a_linear_network_is_its_weights(
    linear_engine: Engine, small_images: Tensor, name: str, power: int | None
) -> None:
    weights = linear_engine.network.module.fc.weight[1].reshape(1, 3, 8, 8)
    expected = (weights**power if power else 0 * weights).sum(1, keepdim=True)
    maps = explain(name, linear_engine, small_images, 1, samples=5)
    torch.testing.assert_close(maps, expected.expand_as(maps), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("relative", [True, False])
def test_the_family_of_a_quadratic_has_its_closed_forms(quadratic: Engine, image: Tensor, relative: bool) -> None:
    sigma = 0.2 * (5 if relative else 1)
    mean, square, variance = (
        explain(name, quadratic, image, 1, samples=1000, sigma=0.2, relative=relative) for name in FAMILY
    )
    # The gradient is 2 (x + noise): mean 2 x, mean square 4 x^2 + 4 sigma^2, variance 4 sigma^2.
    assert (mean - 2 * image).abs().max() < 5 * 2 * sigma / 1000**0.5
    assert ((square - 4 * image.square() - 4 * sigma**2) / square).abs().max() < 0.2
    assert (variance / (4 * sigma**2) - 1).abs().max() < 0.2


def test_noise_has_the_asked_for_size_and_no_mean(images: Tensor, engine: Engine) -> None:
    noise = Noise(samples=200, sigma=0.25, relative=True, last_clean=False)
    copies = noise.on(images[:1], engine.draws(0))
    drawn = copies.build(torch.zeros(200, dtype=torch.int64), torch.arange(200)) - images[:1]
    spread = 0.25 * float(images[0].max() - images[0].min())
    assert drawn.std().item() == pytest.approx(spread, rel=0.01)
    assert abs(float(drawn.mean())) < 5 * spread / drawn.numel() ** 0.5


def test_the_last_copy_may_be_the_image_itself(images: Tensor, engine: Engine) -> None:
    noise = Noise(samples=3, sigma=0.25, relative=True, last_clean=True)
    copies = noise.on(images, engine.draws(0))
    ones = torch.ones(4, dtype=torch.int64)
    assert torch.equal(copies.build(torch.arange(4), 2 * ones), images)
    assert not torch.equal(copies.build(torch.arange(4), ones), images)


@pytest.mark.parametrize("of", ["gradient", "saliency"])
@pytest.mark.parametrize("name", FAMILY)
def test_noise_is_the_same_for_all_batch_sizes_and_orders(
    conv_network: Network, images: Tensor, name: str, of: str
) -> None:
    maps = []
    for batch_size, order in ((1, [0, 1, 2, 3]), (7, [3, 1, 0, 2]), (64, [2, 3, 1, 0])):
        engine = Engine(conv_network, device="cpu", precision="fp32", batch_size=batch_size)
        found = explain(name, engine, images[order], 1, samples=6, of=of)
        maps.append(found[torch.tensor(order).argsort()])
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], rtol=0, atol=TOLERANCE * float(maps[0].abs().max()))


def test_moments_take_one_pass_of_the_samples(engine: Engine, images: Tensor) -> None:
    targets = engine.targets(images)
    with engine.meter() as cost:
        explain("vargrad", engine, images, targets, samples=6)
    assert (cost.forwards, cost.backwards) == (24, 24)


@pytest.mark.parametrize(("name", "statistic"), [("smoothgrad", "mean"), ("squaregrad", "square"), ("vargrad", "var")])
def test_any_explainer_can_be_averaged_under_noise(engine: Engine, images: Tensor, name: str, statistic: str) -> None:
    noise = Noise(samples=4, sigma=0.15, relative=True, last_clean=False)
    copies = noise.on(images, engine.draws(0, "attribution", name))
    maps = torch.stack(
        [explain("grad_cam", engine, copies.build(torch.arange(4), torch.full((4,), number)), 4) for number in range(4)]
    )
    expected = {"mean": maps.mean(0), "square": maps.square().mean(0), "var": maps.var(0, correction=1)}[statistic]
    assert (expected > 0).any()
    found = explain(name, engine, images, 4, samples=4, of="grad_cam")
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_the_other_explainers_own_randomness_is_the_same_for_every_copy(engine: Engine, images: Tensor) -> None:
    maps = explain("vargrad", engine, images, 4, samples=3, sigma=0, of="rise", of_options={"masks": 20})
    assert maps.abs().max() < 1e-12


def test_smoothgrad_of_an_explainer_takes_its_options(engine: Engine, images: Tensor) -> None:
    signed, rectified = (
        explain("smoothgrad", engine, images, 4, samples=3, of="grad_cam", of_options={"relu": relu})
        for relu in (False, True)
    )
    assert (signed < 0).any()
    assert (rectified >= 0).all()


def test_smoothgrad_of_a_plain_function_averages_it(engine: Engine, images: Tensor) -> None:
    found = explain("smoothgrad", engine, images, 0, samples=400, of=lambda module, inputs, targets: inputs)
    spread = 0.15 * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))
    assert (found - images.sum(1, keepdim=True)).abs().amax((1, 2, 3)).le(6 * spread * (3 / 400) ** 0.5).all()


def test_gradient_under_noise_equals_the_general_way(engine: Engine, images: Tensor) -> None:
    def gradient(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        leaves = inputs.requires_grad_()
        return torch.autograd.grad(module(leaves).gather(1, targets[:, None]).sum(), leaves)[0]

    fast, general = (explain("smoothgrad", engine, images, 1, samples=5, of=of) for of in ("gradient", gradient))
    torch.testing.assert_close(fast, general, rtol=1e-4, atol=1e-6)


def test_the_noise_is_the_images_in_any_space(engine: Engine, images: Tensor) -> None:
    space = Wavelets("haar", levels=2)
    pixels = explain("smoothgrad", engine, images, 1, samples=5)
    coefficients = explain("smoothgrad", engine, images, 1, samples=5, space=space)
    # An orthonormal transform of the mean gradient is the mean gradient of the coefficients.
    torch.testing.assert_close(coefficients, space.transform(pixels), rtol=1e-4, atol=1e-6)


def test_smoothgrad_names_the_nearest_explainer(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match=r"option 'of': unknown name 'salience'; .*did you mean 'saliency'"):
        explain("smoothgrad", engine, images, 0, of="salience")


def test_the_plain_gradient_takes_no_options(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match=r"option 'of_options': given \{'relu': True\}, the plain gradient takes none"):
        explain("smoothgrad", engine, images, 0, of_options={"relu": True})


def test_vargrad_refuses_a_single_sample(linear_engine: Engine, small_images: Tensor) -> None:
    with pytest.raises(LimenError, match=r"option 'samples': given 1, the variance needs at least 2"):
        explain("vargrad", linear_engine, small_images, 0, samples=1)


def test_captums_variance_is_smaller_by_its_divisor(quadratic: Engine, image: Tensor) -> None:
    theirs, ours = (
        explain("vargrad", quadratic, image, 1, preset="captum", unbiased=unbiased) for unbiased in (False, True)
    )
    torch.testing.assert_close(theirs, ours * 4 / 5)
    torch.testing.assert_close(explain("vargrad", quadratic, image, 1, preset="captum"), theirs)


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("xplique", {"samples": 50, "sigma": 0.2, "relative": False, "channels": "mean"}),
        ("captum", {"samples": 5, "sigma": 1.0, "relative": False}),
        ("zennit", {"samples": 20, "sigma": 0.1, "relative": True, "last_clean": True}),
        ("pair", {"samples": 25, "sigma": 0.15, "relative": True}),
        ("wam", {"samples": 25, "sigma": 0.25, "relative": True}),
    ],
)
@pytest.mark.parametrize("name", FAMILY[:2])
def test_a_preset_is_the_peers_noise(
    engine: Engine, images: Tensor, name: str, preset: str, options: dict[str, object]
) -> None:
    assert torch.equal(
        explain(name, engine, images[:1], 1, preset=preset), explain(name, engine, images[:1], 1, **options)
    )


@pytest.mark.parametrize("name", ["saliency", "gradient_input", "integrated_gradients", "guided_backprop", "deconvnet"])
def test_the_mean_over_channels_is_a_third_of_their_sum(engine: Engine, images: Tensor, name: str) -> None:
    total, mean = (explain(name, engine, images, 1, channels=channels) for channels in ("sum", "mean"))
    torch.testing.assert_close(mean, total / 3)


@pytest.mark.parametrize(
    ("preset", "nodes", "weights"),
    [
        ("xplique", np.linspace(0, 1, 50), np.r_[0.5, np.ones(48), 0.5] / 49 / 3),
        ("zennit", np.arange(1, 21) / 20, np.full(20, 1 / 20)),
        ("pair", np.linspace(0, 1, 25), np.full(25, 1 / 25)),
        ("quantus", np.linspace(0, 1, 10), np.r_[0.5, np.ones(8), 0.5] / 9),
    ],
)
def test_integrated_gradients_presets_are_the_peers_points(
    engine: Engine, images: Tensor, preset: str, nodes: np.ndarray, weights: np.ndarray
) -> None:
    expected = torch.zeros_like(images)
    for node, weight in zip(nodes, weights, strict=True):
        slope = engine.gradients(images * float(node), torch.full((4,), 2), space=Pixels())
        expected += float(weight) * slope * images
    found = explain("integrated_gradients", engine, images, 2, preset=preset)
    torch.testing.assert_close(found, expected.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in ATTRIBUTIONS.names() if ATTRIBUTIONS.card(name).presets])
def test_every_preset_names_options_the_method_has(name: str) -> None:
    function = ATTRIBUTIONS.load(name)
    for preset, options in ATTRIBUTIONS.card(name).presets.items():
        resolved = resolve_options(function, {"preset": preset}, name)
        assert {option: resolved[option] for option in options} == dict(options)
