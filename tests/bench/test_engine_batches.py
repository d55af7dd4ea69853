"""Batch size, order, batch mates and lack of memory never change an answer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from torch import Tensor, nn

from bench.engine import TOLERANCE, Engine, Masks, Network
from bench.registry import LimenError
from bench.spaces import Pixels

TARGETS = torch.tensor([4, 0, 2, 2])
CALLS = {
    "scores": lambda engine, images, targets: engine.scores(images),
    "perturbed_scores": lambda engine, images, targets: engine.perturbed_scores(
        images, Masks.shared(engine.draws(0).uniform(9, 16)), targets, space=Pixels("blur"), mode="bilinear"
    ),
    "gradients": lambda engine, images, targets: engine.gradients(images, targets, space=Pixels()),
    "path_gradients": lambda engine, images, targets: engine.path_gradients(
        images, [0.1, 0.5, 0.9], [0.3, 0.4, 0.3], targets, space=Pixels()
    ),
    "tap": lambda engine, images, targets: engine.tap(images, "stage"),
    "tap_gradients": lambda engine, images, targets: torch.stack(engine.tap_gradients(images, "stage", targets), 1),
    "head_scores": lambda engine, images, targets: engine.head_scores(engine.tap(images, "stem"), "stem"),
}


class Cramped(nn.Module):
    """Runs out of memory above a number of images."""

    def __init__(self, module: nn.Module, limit: int, error: Exception) -> None:
        super().__init__()
        self.stem, self.stage, self.pool, self.fc = module.stem, module.stage, module.pool, module.fc
        self._limit, self._error = limit, error
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        if len(images) > self._limit:
            raise self._error
        return self.fc(self.pool(self.stage(self.stem(images))).flatten(1))


def on(network: Network | nn.Module, batch_size: int) -> Engine:
    return Engine(network, device="cpu", precision="fp32", batch_size=batch_size)


def assert_close(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("call", CALLS)
def test_the_same_call_gives_the_same_bits(conv_network: Network, images: Tensor, call: str) -> None:
    first, second = (CALLS[call](on(conv_network, 5), images, TARGETS) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("call", CALLS)
@settings(deadline=None, max_examples=8, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=some.integers(1, 40), order=some.permutations(range(4)))
def test_batch_size_and_order_change_nothing(
    conv_network: Network, images: Tensor, call: str, batch_size: int, order: list[int]
) -> None:
    expected = CALLS[call](on(conv_network, 64), images, TARGETS)
    found = CALLS[call](on(conv_network, batch_size), images[order], TARGETS[order])
    assert_close(found, expected[order])


@pytest.mark.parametrize("call", CALLS)
def test_batch_mates_change_nothing(conv_network: Network, images: Tensor, call: str) -> None:
    together = CALLS[call](on(conv_network, 7), images, TARGETS)
    wild = torch.cat([images[:1], images[1:] * 100])
    assert_close(CALLS[call](on(conv_network, 7), images[:1], TARGETS[:1]), together[:1])
    assert_close(CALLS[call](on(conv_network, 7), wild, TARGETS)[:1], together[:1])


@pytest.mark.parametrize("call", [name for name in CALLS if name != "head_scores"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["torch", "cuda", "cpu", "python"],
)
def test_batches_are_halved_when_memory_runs_out(
    conv_network: Network, images: Tensor, call: str, error: Exception
) -> None:
    cramped = Cramped(conv_network.module, 2, error)
    found = CALLS[call](on(cramped, 16), images, TARGETS)
    assert_close(found, CALLS[call](on(conv_network, 16), images, TARGETS))
    assert max(cramped.sizes) > 2


def test_the_smaller_batch_is_kept(conv_network: Network, images: Tensor) -> None:
    cramped = Cramped(conv_network.module, 3, MemoryError())
    engine = on(cramped, 8)
    engine.perturbed_scores(images, Masks.shared(torch.ones(4, 1)), None, space=Pixels())
    assert cramped.sizes == [8, 4, *[2] * 8]


def test_only_work_that_was_done_is_counted(conv_network: Network, images: Tensor) -> None:
    engine = on(Cramped(conv_network.module, 3, MemoryError()), 8)
    with engine.meter() as cost:
        engine.perturbed_scores(images, Masks.shared(torch.ones(4, 1)), None, space=Pixels())
    assert cost.forwards == 16


@pytest.mark.parametrize("call", ["scores", "gradients"])
def test_a_single_image_that_does_not_fit_is_told(conv_network: Network, images: Tensor, call: str) -> None:
    engine = on(Network(name="big", module=Cramped(conv_network.module, 0, MemoryError())), 8)
    with pytest.raises(LimenError, match="network 'big' on cpu: memory ran out at a batch of 1 image"):
        CALLS[call](engine, images, None)


def test_another_error_of_the_network_is_passed_on(conv_network: Network, images: Tensor) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be"):
        on(Cramped(conv_network.module, 0, RuntimeError("shapes cannot be multiplied")), 8).scores(images)
