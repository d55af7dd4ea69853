"""A short format is used where the hardware has it and an audit allows it; gradients never leave float32."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import explain
from bench.engine import Engine, Masks, Network
from bench.engine.precision import compare_effects, compare_ranks, fast_formats, memory_format, with_cells_hidden
from bench.registry import LimenError
from bench.spaces import Pixels


@pytest.fixture
def with_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU pass for a GPU: float16 and bfloat16 are equally fast, and the former is more precise."""
    monkeypatch.setattr("bench.engine.forward.fast_formats", lambda device: ("fp16", "bf16"))


@pytest.fixture
def with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU pass for one that multiplies matrices in bfloat16 (any CPU does, most of them slowly)."""
    monkeypatch.setattr("bench.engine.forward.fast_formats", lambda device: ("bf16",))


class Fine(nn.Module):
    """One logit that stands still and one whose effects are small beside its size, so that bfloat16's steps swallow them."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 48) * torch.tensor([[0.0], [0.1]]))
        self.bias = nn.Parameter(torch.tensor([0.0, offset]))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.linear(images.flatten(1), self.weight, self.bias)


class Faint(nn.Module):
    """A convolution whose answer to an image is small beside its bias, so that a faint image's is rounded away."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 2, bias=False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.body.weight.copy_(0.05 * torch.randn(self.body.weight.shape, generator=generator))
            self.body.bias.fill_(1.0)
            self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.body(images).relu()).flatten(1))


class Strong(nn.Module):
    """Activations of a few thousand: those of an image 100 times as strong are beyond float16."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.relu, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Linear(8 * 256, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            self.body.weight.mul_(1e4)
            self.head.weight.mul_(1e-3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.relu(self.body(images)).flatten(1))


def tiny(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_float32_needs_no_audit(conv_network: Network, images: Tensor) -> None:
    engine = Engine(conv_network, device="cpu", precision="fp32")
    engine.scores(images)
    assert engine.audit == {"requested": "fp32", "used": "fp32"}


def test_auto_stays_in_float32_without_the_units(
    conv_network: Network, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.engine.forward.fast_formats", lambda device: ())
    engine = Engine(conv_network, device="cpu")
    engine.scores(images)
    assert engine.audit == {"requested": "auto", "used": "fp32"}


def test_auto_takes_bfloat16_after_the_audit(conv_network: Network, images: Tensor, with_units: None) -> None:
    engine, exact = Engine(conv_network, device="cpu"), Engine(conv_network, device="cpu", precision="fp32")
    found, expected = engine.scores(images), exact.scores(images)
    assert engine.audit["used"] == "bf16"
    assert 0.99 <= engine.audit["formats"]["bf16"]["pearson"] <= 1
    assert engine.audit["images"] == 4
    assert 0 < engine.audit["formats"]["bf16"]["largest_difference"] < 0.05
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("offset", [10.0, 100.0], ids=["effects are blurred", "no effect is left"])
def test_auto_falls_back_where_the_effects_of_cells_differ(with_units: None, offset: float) -> None:
    engine = Engine(Fine(offset), device="cpu")
    scores = engine.scores(tiny())
    assert engine.audit["used"] == "fp32"
    assert engine.audit["formats"]["bf16"]["moving"] == 4
    assert 0 <= engine.audit["formats"]["bf16"]["pearson"] < 0.99
    assert torch.equal(scores, Engine(Fine(offset), device="cpu", precision="fp32").scores(tiny()))


def test_one_image_whose_effects_are_lost_is_enough(with_units: None) -> None:
    """Across images the scores agree: what maps are made of is told by copies of one image alone."""
    images = 3 * tiny()
    images[2] *= 0.005
    engine = Engine(Faint(), device="cpu")
    fades = torch.cat([images * fade for fade in (1.0, 0.75, 0.5, 0.25)])
    low, high = (Engine(Faint(), device="cpu", precision=precision).scores(fades) for precision in ("bf16", "fp32"))
    assert compare_ranks(high, low) > 0.99
    engine.scores(images)
    assert engine.audit["used"] == "fp32"
    loud = Engine(Faint(), device="cpu")
    loud.scores(images[:2])
    assert loud.audit["used"] == "bf16"


def test_images_that_no_cell_moves_are_not_judged(with_units: None) -> None:
    images = tiny()
    images[1:] = 0
    engine = Engine(Faint(), device="cpu")
    engine.scores(images)
    assert (engine.audit["used"], engine.audit["images"], engine.audit["formats"]["bf16"]["moving"]) == ("bf16", 4, 1)
    blank = Engine(Faint(), device="cpu")
    blank.scores(images[1:])
    assert (
        blank.audit["used"],
        blank.audit["formats"]["bf16"]["pearson"],
        blank.audit["formats"]["bf16"]["moving"],
    ) == ("fp32", None, 0)


@pytest.mark.parametrize(
    ("shape", "grid", "count"),
    [
        ((3, 32, 32), (8, 8), 16),
        ((3, 20, 9), (8, 8), 16),
        ((1, 2, 5), (2, 5), 10),
        ((1, 64), (64,), 16),
        ((5,), (5,), 5),
        ((2, 8, 12, 4), (4, 4, 4), 16),
    ],
    ids=["image", "odd image", "few places", "sound", "features", "volume"],
)
def test_each_copy_has_one_cell_of_the_grid_hidden(shape: tuple[int, ...], grid: tuple[int, ...], count: int) -> None:
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) + 1
    copies = with_cells_hidden(images)
    assert copies.shape == (2, 1 + count, *shape)
    assert torch.equal(copies[:, 0], images)
    hidden = (copies == 0).all(dim=0)
    assert torch.equal(hidden, (copies == 0).any(dim=0))
    assert int(hidden.sum(dim=0).max()) == 1, "cells do not overlap"
    assert torch.equal(copies, torch.where(hidden, 0.0, images[:, None]))
    places = shape[1:] or shape
    for cell in hidden[1:]:
        spans = [torch.unique(at) for at in (cell if len(shape) == 1 else cell[0]).nonzero(as_tuple=True)]
        for span, size, of in zip(spans, places, grid, strict=True):
            assert size // of <= len(span) <= -(-size // of)
            assert int(span[-1] - span[0]) == len(span) - 1


def test_effects_are_compared_within_the_image_where_they_agree_least() -> None:
    generator = torch.Generator().manual_seed(0)
    high = torch.randn(3, 17, 2, generator=generator)
    high[:, 0, 1] = 9
    low = high.clone()
    low[1, :, 1] += 0.1 * torch.randn(17, generator=generator)
    low[2, :, 0] += 5 * torch.randn(17, generator=generator)
    found = compare_effects(high, low)
    assert found["pearson"] == pytest.approx(np.corrcoef(high[1, :, 1], low[1, :, 1])[0, 1])
    assert (found["moving"], found["compared"]) == (3, 51)
    assert found["largest_difference"] == pytest.approx(float((high - low).abs().max()))
    assert found["same_decision"] == pytest.approx(float((high.argmax(2) == low.argmax(2)).float().mean()))


@pytest.mark.parametrize(
    ("kind", "capability", "flags", "expected"),
    [
        ("cuda", (9, 0), (), ("fp16", "bf16")),
        ("cuda", (7, 5), (), ("fp16",)),
        ("cuda", (6, 1), (), ()),
        ("cpu", None, ("avx512_bf16",), ("bf16",)),
        ("cpu", None, ("amx_bf16", "avx512_fp16"), ("bf16", "fp16")),
        ("cpu", None, ("amx_bf16", "amx_fp16", "avx512_fp16"), ("fp16", "bf16")),
        ("cpu", None, ("avx2",), ()),
        ("meta", None, ("amx_bf16",), ()),
    ],
)
def test_formats_are_tried_the_fastest_first(
    monkeypatch: pytest.MonkeyPatch, kind: str, capability: Any, flags: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr("bench.engine.precision._cpu_has", lambda *wanted: bool({*wanted} & {*flags}))
    assert fast_formats(torch.device(kind)) == expected


def test_of_two_formats_the_first_that_agrees_is_taken(
    conv_network: Network, images: Tensor, with_float16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(conv_network, device="cpu")
    engine.scores(images)
    assert engine.audit["used"] == "fp16"
    assert list(engine.audit["formats"]) == ["fp16"]
    monkeypatch.setattr("bench.engine.forward.fast_formats", lambda device: ("bf16", "fp16"))
    engine = Engine(Fine(10.0), device="cpu")
    engine.scores(tiny())
    assert engine.audit["used"] == "fp16"
    found = [engine.audit["formats"][number]["pearson"] for number in ("bf16", "fp16")]
    assert found[0] < 0.99 < found[1]


def test_float16_is_nearer_than_bfloat16(conv_network: Network, images: Tensor) -> None:
    masks = Masks.shared(torch.rand(20, 16, generator=torch.Generator().manual_seed(0)))
    exact, half, brain = (
        Engine(conv_network, device="cpu", precision=precision).perturbed_scores(images, masks, None, space=Pixels())
        for precision in ("fp32", "fp16", "bf16")
    )
    assert 0 < 4 * (half - exact).std() < (brain - exact).std()


def test_a_network_beyond_float16_runs_in_bfloat16(with_float16: None) -> None:
    images = 100 * torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    engine = Engine(Strong(), device="cpu")
    engine.scores(images)
    assert engine.audit["used"] == "bf16"
    assert engine.audit["formats"]["fp16"] == {"pearson": None, "finite": False}
    assert engine.audit["formats"]["bf16"]["pearson"] > 0.99
    json.dumps(engine.audit, allow_nan=False)


def in_float32(found: Tensor, expected: Tensor) -> Tensor:
    """Tell of which copies the scores are float32's; not to the bit, since sums depend on the size of a batch."""
    return (found - expected).abs().amax(dim=-1) <= 1e-6 * expected.abs().amax(dim=-1)


@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_answers_beyond_float16_are_computed_again_in_float32(with_float16: None, precision: Any) -> None:
    """The audit saw the first images; the tenth is the strong one."""
    images = torch.randn(10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[9] *= 100
    engine, exact = (Engine(Strong(), device="cpu", precision=number) for number in (precision, "fp32"))
    found, expected = engine.scores(images), exact.scores(images)
    assert engine.audit["used"] == "fp16"
    assert in_float32(found, expected).tolist() == [False] * 9 + [True]
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)

    masks = Masks.shared(torch.rand(7, 16, generator=torch.Generator().manual_seed(0)))
    with engine.meter() as cost:
        found = engine.perturbed_scores(images, masks, None, space=Pixels())
    expected = exact.perturbed_scores(images, masks, None, space=Pixels())
    again = in_float32(found, expected)
    assert again[9].any()
    assert not again[:9].any()
    assert cost.forwards == 10 * 7 + int(again.sum())
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("name", ["occlusion", "sobol", "rise"])
def test_maps_of_an_image_beyond_float16_are_those_of_float32(name: str) -> None:
    """By windows and by whole passes, of a chosen class."""
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[1] *= 100
    options = {"occlusion": {"patch": 4, "stride": 4}, "sobol": {"side": 4}, "rise": {"masks": 40}}[name]
    found, exact = (
        explain(name, Engine(Strong(), device="cpu", precision=precision), images, torch.tensor([1, 2]), **options)
        for precision in ("fp16", "fp32")
    )
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.01 * float(other.abs().max()))


def test_what_is_not_finite_in_float32_either_is_refused(with_float16: None) -> None:
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[5] *= 1e38
    engine = Engine(Strong(), device="cpu")
    with pytest.raises(LimenError, match=r"not finite for 1 of 6 images \(index 5\)"):
        engine.scores(images)


def test_bfloat16_on_demand_is_audited_but_kept() -> None:
    engine = Engine(Fine(10.0), device="cpu", precision="bf16")
    engine.scores(tiny())
    assert engine.audit["used"] == "bf16"
    assert engine.audit["formats"]["bf16"]["largest_difference"] > 0


def test_the_audit_is_made_once_and_counted(conv_network: Network, images: Tensor, with_units: None) -> None:
    engine = Engine(conv_network, device="cpu")
    with engine.meter() as cost:
        engine.scores(images)
    assert cost.forwards == 4 + 2 * 4 * 17
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


def test_an_average_over_all_places_stays_in_float32(images: Tensor) -> None:
    """Rounded, it would swallow what one place adds to it; and its layer is left as it was, a caller's own forward too."""

    def module() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))

    torch.manual_seed(0)
    low, high = (Engine(module(), device="cpu", precision=precision) for precision in ("bf16", "fp32"))
    high.network.module.load_state_dict(low.network.module.state_dict())
    torch.testing.assert_close(low.scores(images), high.scores(images))
    assert "forward" not in vars(low.network.module[0])

    mine = Engine(module(), device="cpu", precision="bf16")
    pool = mine.network.module[0]
    pool.forward = double = lambda values: 2 * nn.functional.adaptive_avg_pool2d(values, 1)
    mine.network.module.load_state_dict(low.network.module.state_dict())
    torch.testing.assert_close(mine.scores(images), high.scores(2 * images))
    assert pool.forward is double


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
