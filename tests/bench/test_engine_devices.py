"""The same answers on every device; on the meta device, the same shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.engine import TOLERANCE, Draws, Engine, Masks, Network
from bench.spaces import Pixels

CALLS = {
    "scores": lambda engine, images, targets: engine.scores(images, "probability"),
    "perturbed_scores": lambda engine, images, targets: engine.perturbed_scores(
        images, Masks.shared(engine.draws(0).uniform(9, 25)), targets, space=Pixels("blur")
    ),
    "all targets": lambda engine, images, targets: engine.perturbed_scores(
        images, Masks.shared(Draws(0).uniform(9, 16)), None, space=Pixels("mean"), mode="bilinear"
    ),
    "own masks": lambda engine, images, targets: engine.perturbed_scores(
        images, Masks.each(Draws(0).uniform(4, 3, 16)), targets, space=Pixels()
    ),
    "gradients": lambda engine, images, targets: engine.gradients(images, targets, space=Pixels()),
    "path_gradients": lambda engine, images, targets: engine.path_gradients(
        images, [0.1, 0.5, 0.9], [0.3, 0.4, 0.3], targets, space=Pixels()
    ),
    "tap": lambda engine, images, targets: engine.tap(images, "stage"),
    "tap_gradients": lambda engine, images, targets: torch.stack(engine.tap_gradients(images, "stage", targets), 1),
    "head": lambda engine, images, targets: engine.head("stem")(engine.tap(images, "stem")),
    "pool": lambda engine, images, targets: Pixels().pool(
        Pixels().credit(engine.gradients(images, targets, space=Pixels())), 5
    ),
    "map": lambda engine, images, targets: Pixels().map(
        Pixels().credit(engine.gradients(images, targets, space=Pixels())), 20
    ),
}


def answer(network: Network, device: str, call: str, images: Tensor) -> np.ndarray:
    engine = Engine(network, device=device, precision="fp32", batch_size=7)
    found = CALLS[call](engine, engine.prepare(images), engine.targets(images, torch.tensor([4, 0, 2, 2])))
    assert found.device.type == device
    return engine.numpy(found)


@pytest.mark.parametrize("call", CALLS)
def test_the_meta_device_gives_the_shapes(conv_network: Network, images: Tensor, call: str) -> None:
    shapes = answer(conv_network, "meta", call, images).shape
    assert shapes == answer(conv_network, "cpu", call, images).shape


def test_the_meta_device_leaves_the_network_s_weights(conv_network: Network, images: Tensor) -> None:
    Engine(conv_network, device="meta")
    assert Engine(conv_network, device="cpu").scores(images).isfinite().all()


def test_the_meta_device_finds_a_tensor_that_a_method_makes_on_its_own(conv_network: Network, images: Tensor) -> None:
    engine = Engine(conv_network, device="meta")
    with pytest.raises(RuntimeError, match="device"):
        engine.gradients(engine.prepare(images), None, space=Pixels()) + torch.ones(16)


def test_draws_on_the_meta_device_have_shapes(conv_network: Network, images: Tensor) -> None:
    draws = Engine(conv_network, device="meta").draws(0)
    assert draws.subsets(3, 9, 2).device.type == "meta"
    assert len(draws.for_images(images.to("meta"))) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("call", CALLS)
def test_the_gpu_agrees_with_the_cpu(conv_network: Network, images: Tensor, call: str) -> None:
    # On the CPU last: the network follows its engine.
    found = answer(conv_network, "cuda", call, images)
    expected = answer(conv_network, "cpu", call, images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("call", CALLS)
def test_the_gpu_repeats_itself_to_the_bit(conv_network: Network, images: Tensor, call: str) -> None:
    first, second = (answer(conv_network, "cuda", call, images) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_the_gpu_takes_a_short_format_after_an_audit(conv_network: Network, images: Tensor) -> None:
    engine = Engine(conv_network, device="cuda")
    with engine.meter() as cost:
        engine.scores(images)
    assert engine.audit["used"] == "fp16"
    assert engine.audit["formats"]["fp16"]["pearson"] > 0.999
    assert cost.peak_bytes > 0
