"""Compiled graphs answer as the plain forward does, at any count, and give way where they cannot be made."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.engine import Engine, Masks, Network
from bench.engine import forward as forward_module
from bench.engine.frozen import operations
from bench.spaces import Pixels

TARGETS = torch.tensor([3, 0, 1, 4])


def masks(count: int) -> Masks:
    return Masks.shared(torch.rand(count, 16, generator=torch.Generator().manual_seed(0)))


def scored(network: Network, images: Tensor, count: int, **options: Any) -> tuple[Tensor, Engine]:
    engine = Engine(network, device="cpu", batch_size=12, **options)
    return engine.perturbed_scores(images, masks(count), TARGETS, space=Pixels()), engine


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("count", [26, 25], ids=["the last batch is padded", "the last batch runs without the graph"])
def test_a_compiled_graph_gives_the_same_scores(
    conv_network: Network, images: Tensor, precision: Any, count: int
) -> None:
    """Copies of 4 images in batches of 12: 8 or 4 are left over."""
    expected, _ = scored(conv_network, images, count, precision="fp32", graphs="never")
    found, engine = scored(conv_network, images, count, precision=precision, graphs="always")
    assert engine.audit["graphs"] == "compiled"
    json.dumps(engine.audit, allow_nan=False)
    close = 1e-5 if precision == "fp32" else 0.02 * float(expected.std())
    torch.testing.assert_close(found, expected, rtol=0, atol=close)


@pytest.mark.long
def test_many_networks_of_one_class_are_each_compiled(images: Tensor, conv_network: Network) -> None:
    """The compiler's own limit is 8 graphs a function; past it, graphs would go unused without a word."""
    for seed in range(10):
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5))
        for parameter in module.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(seed))
        network = Network(name=f"n{seed}", module=module, size=16)
        found, engine = scored(network, images, 4, precision="fp32", graphs="always")
        assert engine.audit["graphs"] == "compiled"
        expected = scored(network, images, 4, precision="fp32", graphs="never")[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.long
def test_the_weights_are_folded_into_the_graph(conv_network: Network, images: Tensor) -> None:
    """Only then are layers fused and weights laid out for the processor: a graph that asks for them again is slower."""
    before, engine = scored(conv_network, images, 24, precision="fp32", graphs="always")
    with torch.no_grad():
        for part in engine.network.module.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.zero_()
    again = engine.perturbed_scores(images, Masks.lazy(24, masks(24).build), TARGETS, space=Pixels())
    torch.testing.assert_close(again, before)


def test_a_graph_that_cannot_be_made_is_told_and_done_without(
    conv_network: Network, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("no C++ compiler")

    monkeypatch.setattr(forward_module, "Frozen", no_compiler)
    found, engine = scored(conv_network, images, 8, precision="fp32", graphs="always")
    assert engine.audit["graphs"] == "eager, since compiling failed: FileNotFoundError"
    assert torch.equal(found, scored(conv_network, images, 8, precision="fp32", graphs="never")[0])


def test_auto_compiles_from_an_amount_of_work_and_not_before(
    conv_network: Network, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Recorder:
        def __init__(self, run: Any, batch: tuple[Tensor], around: Any, held: tuple[Tensor, ...]) -> None:
            made.append(len(batch[0]))
            self._run = run

        def __call__(self, inputs: Tensor) -> Tensor:
            return self._run(inputs)

    monkeypatch.setattr(forward_module, "Frozen", Recorder)
    work = operations(conv_network.module, images[:1])
    monkeypatch.setitem(forward_module.WORTHWHILE, "cpu", work * 4 * 300)
    scored(conv_network, images, 299, precision="fp32")
    assert made == []
    scored(conv_network, images, 300, precision="fp32")
    assert made == [12]


def test_operations_of_a_forward_are_counted_by_hand() -> None:
    """A 3 x 3 convolution on 6 x 6 places with padding, 2 to 5 channels: two operations a multiplication."""
    convolution = nn.Conv2d(2, 5, 3, padding=1)
    assert operations(convolution, torch.zeros(1, 2, 6, 6)) == 2 * 5 * 2 * 9 * 36


def test_a_wrong_name_is_told(conv_network: Network) -> None:
    with pytest.raises(LookupError, match="engine, graphs: unknown name 'allways'; .* did you mean 'always'"):
        Engine(conv_network, device="cpu", graphs="allways")  # type: ignore[arg-type]
