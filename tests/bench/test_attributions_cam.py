"""Class activation maps: each from its formula, on a small network and on activations chosen by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bench.api import explain
from bench.attributions._cam import unit
from bench.attributions.grad_cam_pp import channel_weights
from bench.engine import Engine
from bench.registry import LimenError

CAMS = ("grad_cam", "grad_cam_pp", "fem", "score_cam")


def upsampled(cam: Tensor, mode: str = "bilinear") -> Tensor:
    corners = None if mode == "nearest" else False
    return interpolate(cam, size=(16, 16), mode=mode, align_corners=corners)


def tapped(engine: Engine, images: Tensor, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations of `stage` and the gradient of the logit there, float64, by autograd alone."""
    module = engine.network.module
    values = module.stage(module.stem(images)).detach().requires_grad_()
    module.fc(module.pool(values).flatten(1))[:, target].sum().backward()
    return values.detach().double().numpy(), values.grad.double().numpy()


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_grad_cam_pp_equals_equation_19(engine: Engine, images: Tensor, pooling: str) -> None:
    activations, gradients = tapped(engine, images, 4)
    cams = np.zeros((4, 1, 8, 8))
    for image in range(4):
        for channel in range(12):
            values, slopes = activations[image, channel], gradients[image, channel]
            total = values.sum() if pooling == "sum" else values.mean()
            weight = 0.0
            for slope in slopes.ravel():
                alpha = slope**2 / (2 * slope**2 + total * slope**3) if slope else 0.0
                weight += alpha * max(slope, 0)
            cams[image, 0] += (weight if pooling == "sum" else weight / slopes.size) * values
    expected = upsampled(torch.from_numpy(cams).clamp(min=0).float())
    torch.testing.assert_close(
        explain("grad_cam_pp", engine, images, 4, pooling=pooling), expected, rtol=1e-3, atol=1e-7
    )


def test_grad_cam_pp_weighs_by_hand() -> None:
    activations = torch.tensor([[[[1.0, 3.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]]])
    gradients = torch.tensor([[[[0.5, 0.0], [-1.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]]])
    # Channel 0: S = 4, alpha = 1 / (2 + 4 * .5) at g = .5; the negative gradient is rectified away.
    # Channel 1: S = 2, alpha = 1 / 4 at both places with g = 1.
    assert channel_weights(activations, gradients).flatten().tolist() == [0.125, 0.5]


def test_grad_cam_pp_halves_every_positive_gradient_of_a_silent_layer() -> None:
    single = channel_weights(torch.zeros(1, 2, 2, 2), torch.tensor([2.0, -1.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2))
    # Without activations alpha is 1/2 where there is a gradient at all.
    assert single.flatten().tolist() == [4.0, 0.0]


def test_fem_equals_its_definition(engine: Engine, images: Tensor) -> None:
    activations, _ = tapped(engine, images, 0)
    masks, channels = np.zeros((4, 1, 8, 8)), np.zeros((4, 1, 8, 8))
    for image in range(4):
        for values in activations[image]:
            rare = values >= values.mean() + 2 * values.std()
            masks[image, 0] += values.mean() * rare
            channels[image, 0] += rare.mean() * values
    found = explain("fem", engine, images, 0)
    torch.testing.assert_close(found, upsampled(torch.from_numpy(masks).float()), rtol=1e-4, atol=1e-6)
    other = explain("fem", engine, images, 0, sums="activations")
    torch.testing.assert_close(other, upsampled(torch.from_numpy(channels).float()), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, other)


def test_fem_takes_no_gradient_and_no_class(engine: Engine, images: Tensor) -> None:
    targets = engine.targets(images)
    with engine.meter() as cost:
        maps = explain("fem", engine, images, targets)
    assert cost.backwards == 0
    assert torch.equal(maps, explain("fem", engine, images, (targets + 1) % 5))


def test_score_cam_equals_its_loop(engine: Engine, images: Tensor) -> None:
    activations, _ = tapped(engine, images, 1)
    module = engine.network.module
    expected = []
    for image, channels in zip(images, torch.from_numpy(activations).float(), strict=True):
        scores = []
        for channel in channels:
            mask = upsampled(channel[None, None])[0, 0]
            mask = (mask - mask.min()) / (mask.max() - mask.min()) if mask.max() > mask.min() else 0 * mask
            with torch.no_grad():
                scores.append(float(module((image * mask)[None])[0, 1]))
        weights = torch.tensor(scores).softmax(0)
        expected.append((weights[:, None, None] * channels).sum(0).relu())
    found = explain("score_cam", engine, images, 1)
    torch.testing.assert_close(found, upsampled(torch.stack(expected).unsqueeze(1)), rtol=1e-4, atol=1e-6)


def test_score_cam_runs_a_forward_a_channel(engine: Engine, images: Tensor) -> None:
    targets = engine.targets(images)
    with engine.meter() as cost:
        explain("score_cam", engine, images, targets)
    assert (cost.forwards, cost.backwards) == (4 * (12 + 1), 0)


def test_a_map_is_scaled_to_the_unit_interval_by_itself() -> None:
    maps = torch.tensor([[[[1.0, 3.0], [2.0, 5.0]]], [[[7.0, 7.0], [7.0, 7.0]]]])
    assert unit(maps)[0].flatten().tolist() == [0, 0.5, 0.25, 1]
    assert unit(maps)[1].flatten().tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", CAMS)
def test_pytorch_grad_cams_preset_is_scaled_to_the_unit_interval(engine: Engine, images: Tensor, name: str) -> None:
    maps = explain(name, engine, images, 4, preset="grad-cam")
    assert maps.flatten(1).amin(1).tolist() == [0, 0, 0, 0]
    assert maps.flatten(1).amax(1) == pytest.approx(torch.ones(4))
    options = {"sums": "activations", "relu": True} if name == "fem" else {}
    torch.testing.assert_close(maps, unit(explain(name, engine, images, 4, **options)))


@pytest.mark.parametrize("name", CAMS[:3])
def test_xpliques_preset_is_bicubic(engine: Engine, images: Tensor, name: str) -> None:
    activations, gradients = (torch.from_numpy(part).float() for part in tapped(engine, images, 4))
    if name == "fem":
        mean, spread = activations.mean((2, 3), True), activations.var((2, 3), keepdim=True, correction=0).sqrt()
        rare = activations >= mean + 2 * spread
        cam = (mean * rare).sum(1, keepdim=True)
    elif name == "grad_cam":
        cam = (gradients.mean((2, 3), True) * activations).sum(1, keepdim=True).relu()
    else:
        cam = (channel_weights(activations, gradients, "mean") * activations).sum(1, keepdim=True).relu()
    found = explain(name, engine, images, 4, preset="xplique")
    torch.testing.assert_close(found, upsampled(cam, "bicubic"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CAMS)
def test_a_cam_of_another_layer_is_another_map(engine: Engine, images: Tensor, name: str) -> None:
    assert not torch.allclose(explain(name, engine, images, 4), explain(name, engine, images, 4, layer="stem"))


@pytest.mark.parametrize("name", CAMS)
def test_a_cam_refuses_a_layer_without_places(engine: Engine, images: Tensor, name: str) -> None:
    with pytest.raises(LimenError, match=rf"attribution '{name}', layer 'fc': given activations of shape \(5,\)"):
        explain(name, engine, images, 0, layer="fc")


def test_cams_of_a_rectangular_image_have_its_size(images: Tensor) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    engine = Engine(module, device="cpu", precision="fp32")
    for name in CAMS:
        assert explain(name, engine, images[..., :11], 1).shape == (4, 1, 16, 11)
