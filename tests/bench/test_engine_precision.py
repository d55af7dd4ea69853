"""bfloat16 is used where the hardware has it and an audit allows it; gradients never leave float32."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from bench.engine import Engine, Masks, Network
from bench.engine.precision import memory_format
from bench.spaces import Pixels


@pytest.fixture
def with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU pass for one that multiplies matrices in bfloat16 (any CPU does, most of them slowly)."""
    monkeypatch.setattr("bench.engine.forward.has_bfloat16_units", lambda device: True)


class Fine(nn.Module):
    """Logits that differ by less than bfloat16 can tell."""

    def __init__(self, step: float = 1e-3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((6, 48), 0.01))
        self.bias = nn.Parameter(100 + torch.arange(6) * step)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.linear(images.flatten(1), self.weight, self.bias)


def tiny(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_float32_needs_no_audit(conv_network: Network, images: Tensor) -> None:
    engine = Engine(conv_network, device="cpu", precision="fp32")
    engine.scores(images)
    assert engine.audit == {"requested": "fp32", "used": "fp32"}


def test_auto_stays_in_float32_without_the_units(
    conv_network: Network, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.engine.forward.has_bfloat16_units", lambda device: False)
    engine = Engine(conv_network, device="cpu")
    engine.scores(images)
    assert engine.audit == {"requested": "auto", "used": "fp32"}


def test_auto_takes_bfloat16_after_the_audit(conv_network: Network, images: Tensor, with_units: None) -> None:
    engine, exact = Engine(conv_network, device="cpu"), Engine(conv_network, device="cpu", precision="fp32")
    found, expected = engine.scores(images), exact.scores(images)
    assert engine.audit["used"] == "bf16"
    assert 0.99 <= engine.audit["spearman"] <= 1
    assert engine.audit["images"] == 4
    assert 0 < engine.audit["largest_difference"] < 0.05
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("step", [1e-3, 0.15], ids=["no rank is left", "ranks differ"])
def test_auto_falls_back_where_the_ranks_differ(with_units: None, step: float) -> None:
    engine = Engine(Fine(step), device="cpu")
    scores = engine.scores(tiny())
    assert engine.audit["used"] == "fp32"
    if step > 0.01:
        assert 0 < engine.audit["spearman"] < 0.99
    else:
        assert engine.audit["spearman"] is None
    assert torch.equal(scores, Engine(Fine(step), device="cpu", precision="fp32").scores(tiny()))


def test_bfloat16_on_demand_is_audited_but_kept() -> None:
    engine = Engine(Fine(), device="cpu", precision="bf16")
    engine.scores(tiny())
    assert engine.audit["used"] == "bf16"
    assert engine.audit["largest_difference"] > 0


def test_the_audit_is_made_once_and_counted(conv_network: Network, images: Tensor, with_units: None) -> None:
    engine = Engine(conv_network, device="cpu")
    with engine.meter() as cost:
        engine.scores(images)
    assert cost.forwards == 4 + 2 * 16
    first = dict(engine.audit)
    engine.perturbed_scores(images + 1, Masks.shared(torch.ones(1, 1)), None, space=Pixels())
    assert engine.audit == first


def test_the_audit_can_be_written_to_a_manifest(conv_network: Network, images: Tensor, with_units: None) -> None:
    engine = Engine(conv_network, device="cpu")
    engine.scores(images)
    assert json.loads(json.dumps(engine.audit, allow_nan=False)) == engine.audit


def test_perturbed_scores_are_close_in_both_precisions(conv_network: Network, images: Tensor, with_units: None) -> None:
    masks = Masks.shared(torch.rand(20, 16, generator=torch.Generator().manual_seed(0)))
    low, high = (
        Engine(conv_network, device="cpu", precision=precision).perturbed_scores(images, masks, None, space=Pixels())
        for precision in ("auto", "fp32")
    )
    assert not torch.equal(low, high)
    torch.testing.assert_close(low, high, rtol=0.05, atol=0.05)


def test_probabilities_are_computed_in_float32(conv_network: Network, images: Tensor) -> None:
    probabilities = Engine(conv_network, device="cpu", precision="bf16").scores(images, "probability")
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4), rtol=0, atol=1e-6)


def test_the_classifier_head_stays_in_float32(images: Tensor) -> None:
    """A network that is nothing but its head loses nothing; and its layer is left as it was."""
    low, high = (
        Engine(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), device="cpu", precision=precision)
        for precision in ("bf16", "fp32")
    )
    high.network.module.load_state_dict(low.network.module.state_dict())
    torch.testing.assert_close(low.scores(images), high.scores(images))
    assert "forward" not in vars(low.network.module[1])


def test_gradients_and_taps_stay_in_float32(conv_network: Network, images: Tensor) -> None:
    low, high = (Engine(conv_network, device="cpu", precision=precision) for precision in ("bf16", "fp32"))
    targets = torch.tensor([4, 0, 2, 2])
    assert torch.equal(low.gradients(images, targets, space=Pixels()), high.gradients(images, targets, space=Pixels()))
    assert torch.equal(low.tap(images, "stage"), high.tap(images, "stage"))
    for found, expected in zip(
        low.tap_gradients(images, "stage", targets), high.tap_gradients(images, "stage", targets), strict=True
    ):
        assert torch.equal(found, expected)


def test_layout_is_plain_where_channels_last_is_not_safe():
    def block(channels, stride):
        return torch.nn.Sequential(torch.nn.Conv2d(3, channels, 3), torch.nn.Conv2d(channels, 32, 1, stride))

    assert memory_format(block(32, 2)) is torch.channels_last
    assert memory_format(block(8, 1)) is torch.channels_last
    assert memory_format(block(8, 2)) is torch.contiguous_format
    assert memory_format(torch.nn.Linear(3, 2)) is torch.contiguous_format
