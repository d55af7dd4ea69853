"""Presets of the perturbation methods give the peers' numbers: captum run beside, others transcribed as loops."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bench.api import explain
from bench.engine import Engine, Network
from bench.registry import ATTRIBUTIONS, LimenError, resolve_options
from bench.spaces import Pixels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    captum = pytest.importorskip("captum.attr")
    from captum.testing.helpers.basic_models import BasicModel_MultiLayer

METHODS = ("occlusion", "rise", "lime", "kernel_shap", "sobol", "hsic")
PRESETS = [(name, preset) for name in METHODS for preset in ATTRIBUTIONS.card(name).presets]
QUICK: dict[str, dict[str, Any]] = {
    "rise": {"masks": 50},
    "kernel_shap": {"side": 3},
    "sobol": {"side": 3, "samples": 4},
    "hsic": {"samples": 64},
}
TARGETS = torch.tensor([3, 0, 1, 4])


class Flat(torch.nn.Module):
    """Feeds images (N, 1, 1, 3) to captum's toy network of three features."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = BasicModel_MultiLayer()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.flatten(1))


class Ten(Pixels):
    """Pixels whose baseline is 10."""

    def baseline(self, coordinates: Tensor) -> Tensor:
        return torch.full_like(coordinates, 10.0)


def score_of(engine: Engine, image: Tensor, target: int, *, probability: bool = False) -> float:
    """One forward of one image, without the engine's batches."""
    with torch.no_grad():
        logits = engine.network.module(image.unsqueeze(0))[0]
    return float((logits.softmax(0) if probability else logits)[target])


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_presets_run_and_differ_from_the_default(name: str, preset: str, engine: Engine, images: Tensor) -> None:
    options = QUICK.get(name, {})
    default = explain(name, engine, images, TARGETS, **options)
    found = explain(name, engine, images, TARGETS, preset=preset, **options)
    assert found.shape == default.shape
    assert found.isfinite().all()
    # Windows of any stride fit 16 pixels by default, so that captum's border makes no difference.
    assert (name, preset) == ("occlusion", "captum") or not torch.allclose(found, default)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_options_beside_a_preset_win(name: str, preset: str) -> None:
    card = ATTRIBUTIONS.card(name)
    option, value = next(iter(card.presets[preset].items()))
    function = ATTRIBUTIONS.load(name)
    default = inspect.signature(function).parameters[option].default
    assert resolve_options(function, {"preset": preset}, "here")[option] == value
    assert resolve_options(function, {"preset": preset, option: default}, "here")[option] == default


@pytest.mark.parametrize(
    ("patch", "stride", "space", "expected"),
    [
        (1, 1, Pixels(), [80, 200, 120]),
        (2, 1, Ten(), [200, 220, 240]),
        (2, 2, Pixels(), [280, 280, 120]),
    ],
)
def test_occlusion_captum_gives_captums_published_values(
    patch: int, stride: int, space: Pixels, expected: list[float]
) -> None:
    engine = Engine(Flat(), device="cpu", precision="fp32")
    image = torch.tensor([[[[20.0, 50.0, 30.0]]]])
    maps = explain("occlusion", engine, image, 0, space=space, preset="captum", patch=patch, stride=stride)
    assert maps.flatten().tolist() == expected


@pytest.mark.parametrize(("patch", "stride"), [((5, 5), (3, 3)), ((4, 3), (4, 2)), ((16, 1), (5, 1)), ((7, 6), (2, 6))])
@pytest.mark.parametrize("width", [16, 11])
def test_occlusion_captum_equals_captum_where_windows_are_cut(
    conv_network: Network, images: Tensor, patch: tuple[int, int], stride: tuple[int, int], width: int
) -> None:
    engine, cropped = Engine(conv_network, device="cpu", precision="fp32"), images[..., :width].contiguous()
    theirs = captum.Occlusion(conv_network.module).attribute(
        cropped.clone(), (3, *patch), strides=(3, *stride), target=TARGETS, baselines=0
    )
    found = explain("occlusion", engine, cropped, TARGETS, preset="captum", patch=patch, stride=stride)
    torch.testing.assert_close(found, theirs[:, :1].float(), atol=1e-5, rtol=1e-4)


def test_occlusion_quantus_is_captums_of_4_by_4_with_stride_1(engine: Engine, images: Tensor) -> None:
    theirs = captum.Occlusion(engine.network.module).attribute(
        images.clone(), (3, 4, 4), strides=(3, 1, 1), target=TARGETS, baselines=0
    )
    found = explain("occlusion", engine, images, TARGETS, preset="quantus")
    torch.testing.assert_close(found, theirs[:, :1].float(), atol=1e-5, rtol=1e-4)


def test_occlusion_xplique_sums_whole_windows_and_leaves_the_last_rows_without_credit(
    engine: Engine, images: Tensor
) -> None:
    with engine.meter() as cost:
        found = explain("occlusion", engine, images[:1], TARGETS[:1], preset="xplique")
    # The windows, the image with nothing hidden, and the image whose maps the windows are read from.
    assert cost.forwards == 5 * 5 + 1 + 1
    clean = score_of(engine, images[0], 3)
    expected = torch.zeros(16, 16)
    for top in range(0, 14, 3):
        for left in range(0, 14, 3):
            hidden = images[0].clone()
            hidden[:, top : top + 3, left : left + 3] = 0
            expected[top : top + 3, left : left + 3] += clean - score_of(engine, hidden, 3)
    torch.testing.assert_close(found[0, 0], expected, atol=1e-5, rtol=1e-4)
    assert found[..., 15:, :].abs().max() == 0
    assert found[..., :15, :15].abs().min() > 0


@pytest.mark.parametrize("size", [16, 13])
def test_occlusion_zennit_credits_the_score_of_what_the_window_lets_through(
    conv_network: Network, images: Tensor, size: int
) -> None:
    engine, image = Engine(conv_network, device="cpu", precision="fp32"), images[:1, :, :size].contiguous()
    found = explain("occlusion", engine, image, TARGETS[:1], preset="zennit")
    root, expected = torch.zeros(size, 16), torch.zeros(size, 16)
    root[:8, :8] = 1
    for top in range(0, size, 8):
        for left in range(0, 16, 8):
            window = root.roll((top, left), (0, 1))
            expected += window * score_of(engine, image[0] * window, 3)
    torch.testing.assert_close(found[0, 0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("preset", "probability"), [("rise", True), ("xplique", False)])
def test_rise_divides_as_the_peer_does(engine: Engine, images: Tensor, preset: str, probability: bool) -> None:
    count, side, target = 60, 4, 3
    found = explain("rise", engine, images[:1], [target], seed=9, preset=preset, masks=count, side=side)
    draws = engine.draws(9, "attribution", "rise")
    bits = draws.spawn("bits").bernoulli(0.5, count, side, side)
    offsets = [draws.spawn("offset", axis).integers(4, count).tolist() for axis in (0, 1)]
    total, kept = torch.zeros(16, 16), torch.zeros(16, 16)
    for coarse, top, left in zip(bits, *offsets, strict=True):
        whole = interpolate(coarse[None, None], size=(20, 20), mode="bilinear", align_corners=False)[0, 0]
        mask = whole[top : top + 16, left : left + 16]
        total += mask * score_of(engine, images[0] * mask, target, probability=probability)
        kept += mask
    expected = total / (count * 0.5) if preset == "rise" else total / kept
    torch.testing.assert_close(found[0, 0], expected, atol=1e-5, rtol=1e-4)


def cell_copies(image: Tensor, masks: Tensor, side: int) -> list[Tensor]:
    step = image.shape[-1] // side
    return [image * torch.kron(mask.reshape(side, side), torch.ones(step, step)) for mask in masks]


def test_sobol_xplique_is_jansen_on_the_plain_sequence(engine: Engine, images: Tensor) -> None:
    side, samples, target = 2, 8, 3
    found = explain(
        "sobol", engine, images[:1], [target], preset="xplique", side=side, samples=samples, upsampling="nearest"
    )
    sequence = torch.quasirandom.SobolEngine(2 * side * side).draw(samples)
    first, second = sequence[:, : side * side], sequence[:, side * side :]
    plain = np.array([score_of(engine, copy, target) for copy in cell_copies(images[0], first, side)])
    for cell, value in enumerate(found[0, 0, ::8, ::8].flatten().tolist()):
        mixed = first.clone()
        mixed[:, cell] = second[:, cell]
        other = np.array([score_of(engine, copy, target) for copy in cell_copies(images[0], mixed, side)])
        assert value == pytest.approx(((plain - other) ** 2).sum() / (2 * samples * plain.var(ddof=1)), rel=1e-3)


def test_hsic_xplique_has_its_width_and_its_divisor(engine: Engine, images: Tensor) -> None:
    side, samples, target = 2, 40, 3
    found = explain(
        "hsic", engine, images[:1], [target], preset="xplique", side=side, samples=samples, upsampling="nearest"
    )
    masks = torch.quasirandom.SobolEngine(side * side).draw(samples).round()
    scores = np.array([score_of(engine, copy, target) for copy in cell_copies(images[0], masks, side)])
    gram = np.exp(-((scores[:, None] - scores[None]) ** 2) / (2 * np.median(scores) ** 2))
    centre = np.eye(samples) - 1 / samples
    for column, value in zip(masks.T.double().numpy(), found[0, 0, ::8, ::8].flatten().tolist(), strict=True):
        inner = 1 + (0.5 - (column[:, None] - column[None]) ** 2)
        assert value == pytest.approx(np.trace(inner @ centre @ gram @ centre) / samples, rel=1e-3)


def test_kernel_shap_captum_counts_its_ends_among_its_samples(linear_engine: Engine, small_images: Tensor) -> None:
    with linear_engine.meter() as cost:
        explain("kernel_shap", linear_engine, small_images, [0, 1, 2, 3], preset="captum")
    assert cost.forwards == 4 * 25


def test_kernel_shap_xplique_does_not_hold_efficiency(engine: Engine, images: Tensor) -> None:
    def gap(**options: Any) -> float:
        maps = explain("kernel_shap", engine, images[:1], [3], side=4, samples=100, **options)
        rise = score_of(engine, images[0], 3) - score_of(engine, 0 * images[0], 3)
        return abs(float(Pixels().pool(maps, 4).sum()) / 16 - rise) / abs(rise)

    assert gap() < 1e-4
    assert gap(preset="xplique") > 1e-3


def test_an_unknown_border_and_a_patch_of_too_many_axes_are_refused(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match="option 'border': given 'clip'"):
        explain("occlusion", engine, images, 0, border="clip")
    with pytest.raises(LimenError, match="option 'patch': given 3 numbers, allowed is one, or one for each of 2 axes"):
        explain("occlusion", engine, images, 0, patch=(3, 4, 4))
