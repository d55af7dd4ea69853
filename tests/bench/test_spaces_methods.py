"""One method file, three spaces: what runs where, and Sobol indices against their closed form in each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import spaces
from bench.api import explain, fit_dictionary, score
from bench.engine import Engine, Network
from bench.registry import METRICS, LimenError
from bench.spaces import Concepts, Pixels, Space, Wavelets

TARGETS = torch.tensor([3, 0, 1, 4])
QUICK: dict[str, dict[str, Any]] = {
    "kernel_shap": {"samples": 200},
    "lime": {"samples": 200},
    "hsic": {"samples": 64},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"patch": 1},
    "rise": {"masks": 40},
    "smoothgrad": {"samples": 3},
    "sobol": {"samples": 4},
    "squaregrad": {"samples": 3},
    "vargrad": {"samples": 3},
}
ANYWHERE = ["gradient_input", "random", "saliency", *(name for name in QUICK)]
"""Methods whose definition asks for coordinates and a baseline, and nothing else."""
IMAGES_ALONE = ("fem", "grad_cam", "grad_cam_pp", "image_gradient", "score_cam")
"""Methods whose maps are of pixels."""
METRICS_ANYWHERE = (
    "deletion",
    "insertion",
    "insertion_deletion",
    "mu_fidelity",
    "faithfulness_correlation",
    "sparseness",
)


@pytest.fixture
def engine(conv_network: Network) -> Engine:
    return Engine(conv_network, device="cpu", precision="fp32", batch_size=256)


@pytest.fixture(params=["wavelets", "concepts"])
def space(request: pytest.FixtureRequest, engine: Engine, images: Tensor) -> Space:
    if request.param == "wavelets":
        return Wavelets("haar", 2)
    return Concepts(fit_dictionary("pca", engine.tap(images, "stage"), 6), "stage")


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_method_of_coordinates_runs_in_every_space(name: str, engine: Engine, images: Tensor, space: Space) -> None:
    options = QUICK.get(name, {}) if not (name == "occlusion" and space.ordered) else {"patch": 4}
    found = explain(name, engine, images, TARGETS, space=space, **options)
    places = space.coordinates(engine, images).shape[2:]
    assert found.shape == (4, 1, *places)
    assert found.isfinite().all()
    # The head after the concepts is linear: its gradient does not vary.
    assert (found.std() > 0) or (name == "vargrad" and not space.ordered)


@pytest.mark.parametrize("name", IMAGES_ALONE)
def test_a_method_of_pixels_refuses_other_spaces(name: str, engine: Engine, images: Tensor, space: Space) -> None:
    with pytest.raises(
        LimenError, match=rf"attribution '{name}'.* given .*'{space.name.split()[0]} .*allowed is pixels"
    ):
        explain(name, engine, images, TARGETS, space=space)


@pytest.mark.parametrize("name", METRICS_ANYWHERE)
def test_a_metric_of_coordinates_runs_in_every_space(name: str, engine: Engine, images: Tensor, space: Space) -> None:
    assert METRICS.card(name).of == "maps"
    maps = explain("gradient_input", engine, images, TARGETS, space=space)
    found = score(name, engine, images, maps, TARGETS, space=space, null_draws=1)
    assert found.n == 4


def linear_engine_of(weights: Tensor, count: int) -> Engine:
    module = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2, bias=False))
    module[1].weight.data.copy_(torch.stack([torch.zeros(weights.numel()), weights.flatten()]))
    return Engine(module, device="cpu", precision="fp32", batch_size=count)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@pytest.mark.parametrize("kind", ["pixels", "wavelets"])
def test_sobol_of_a_linear_network_is_the_squared_share_of_each_coordinate(kind: str, wavelet: str) -> None:
    draws = torch.Generator().manual_seed(0)
    weights, image = (torch.randn(1, 2, 4, 4, generator=draws) for _ in range(2))
    engine = linear_engine_of(weights, 2048)
    space: Any = Pixels() if kind == "pixels" else Wavelets(wavelet, 2)
    found = explain("sobol", engine, image, 1, space=space, side=4, samples=1024, upsampling="nearest")
    # In an orthonormal basis the score is the product of coefficients with the weights' coefficients.
    in_basis = (lambda values: values) if kind == "pixels" else space.transform
    squares = space.credit(in_basis(weights) * in_basis(image)).square()
    torch.testing.assert_close(found, squares / squares.sum(), atol=5e-3, rtol=0.03)


def test_sobol_of_concepts_is_the_squared_share_of_each_contribution(engine: Engine, images: Tensor) -> None:
    space = Concepts(fit_dictionary("pca", engine.tap(images, "stage"), 6), "stage")
    found = explain("sobol", engine, images, TARGETS, space=space, samples=1024)
    parts = explain("gradient_input", engine, images, TARGETS, space=space).square()
    torch.testing.assert_close(found, parts / parts.sum(dim=2, keepdim=True), atol=5e-3, rtol=0.03)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("pixels", "Pixels(baseline='zero')"),
        ("pixels:blur", "Pixels(baseline='blur')"),
        ("wavelets", "Wavelets('haar', levels=3, baseline='zero')"),
        ("wavelets:db2", "Wavelets('db2', levels=3, baseline='zero')"),
        ("wavelets:haar:2", "Wavelets('haar', levels=2, baseline='zero')"),
        ("wavelets::2:mean", "Wavelets('haar', levels=2, baseline='mean')"),
    ],
)
def test_a_space_is_made_from_its_name(spec: str, expected: str) -> None:
    assert repr(spaces.make(spec)) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pixel", "space: unknown name 'pixel'; allowed are pixels, wavelets; did you mean 'pixels'"),
        ("concepts", "space: unknown name 'concepts'"),
        ("pixels:blurr", "baseline: unknown name 'blurr'; .* did you mean 'blur'"),
        ("pixels:blur:3", r"space: given 'pixels:blur:3', allowed is pixels\[:baseline\]"),
        ("wavelets:haar:x", "space: given 'wavelets:haar:x' with levels 'x'"),
        ("wavelets:haar:0", "levels: given 0, allowed is 1 or more"),
        ("wavelets:harr", "wavelet: unknown name 'harr'; .* did you mean 'haar'"),
        ("wavelets:haar:2:zero:1", "space: given 'wavelets:haar:2:zero:1', allowed is wavelets"),
    ],
)
def test_a_space_that_cannot_be_made_is_told_in_one_sentence(spec: str, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        spaces.make(spec)
