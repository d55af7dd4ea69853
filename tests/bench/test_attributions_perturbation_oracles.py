"""Perturbation methods: expectations on linear networks, spaces of any kind, and what they hold in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.api import explain
from bench.engine import Engine, Network
from bench.registry import ATTRIBUTIONS, LimenError
from bench.spaces import Dictionary, Pixels
from bench.spaces.concepts import Concepts
from bench.spaces.wavelets import Wavelets

METHODS = ("occlusion", "rise", "lime", "kernel_shap", "sobol", "hsic")
QUICK: dict[str, dict[str, Any]] = {
    "rise": {"masks": 400},
    "lime": {"side": 4},
    "kernel_shap": {"side": 4, "samples": 100},
    "sobol": {"side": 4, "samples": 8},
    "hsic": {"side": 4, "samples": 128},
}


class Function(nn.Module):
    """Two logits, 0 and f(flattened image)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        value = self.function(images.flatten(1))
        return torch.stack([torch.zeros_like(value), value], dim=1)


class Line:
    """Pixels row after row as one axis of places: images (N, C, H, W) have coordinates (N, C, H W)."""

    name, layer, identity, ordered = "line", None, None, True

    def __init__(self, height: int) -> None:
        self.height = height

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
        return engine.prepare(images).flatten(2)

    def baseline(self, coordinates: Tensor) -> Tensor:
        return torch.zeros_like(coordinates)

    def rebased(self, baseline: str) -> Line:
        return self

    def inputs(self, coordinates: Tensor) -> Tensor:
        return coordinates.unflatten(2, (self.height, -1))

    def cells(self, coordinates: Tensor, side: int | None) -> int:
        return side or coordinates.shape[2]

    def spread(self, weights: Tensor, coordinates: Tensor, side: int | None, mode: str = "nearest") -> Tensor:
        return weights.unsqueeze(1).repeat_interleave(coordinates.shape[2] // weights.shape[1], dim=2)

    def pool(self, credit: Tensor, side: int | None) -> Tensor:
        return credit[:, 0].unflatten(1, (side or credit.shape[2], -1)).sum(dim=2)

    def credit(self, gradients: Tensor) -> Tensor:
        return gradients.sum(dim=1, keepdim=True)

    def map(self, credit: Tensor, size: int | tuple[int, ...]) -> Tensor:
        return self.inputs(credit)


def engine_of(function: Callable[[Tensor], Tensor]) -> Engine:
    return Engine(Function(function), device="cpu", precision="fp32", batch_size=512)


def rise_error(masks: int) -> float:
    """Largest distance of RISE on a linear score from its expectation, under per-pixel Bernoulli masks."""
    p, bias = 0.4, 0.7
    weights = torch.randn(16, generator=torch.Generator().manual_seed(3)) / 4
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    found = explain(
        "rise", engine_of(lambda flat: flat @ weights + bias), image, 1,
        masks=masks, side=None, p=p, smooth=False, score="logit",
    )  # fmt: skip
    parts = weights * image.flatten()
    return float((found.flatten() - (parts + p * (parts.sum() - parts) + bias)).abs().max())


def test_rise_of_a_linear_network_is_an_affine_map_of_its_parts() -> None:
    assert rise_error(20_000) < 0.02


@pytest.mark.long
def test_rise_of_a_linear_network_comes_within_six_thousandths() -> None:
    assert rise_error(200_000) < 6e-3


def test_rise_without_a_side_cannot_be_smooth(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match="option 'side': given None, allowed is a number, or smooth=False"):
        explain("rise", engine, images, 0, side=None)


def test_rise_in_cells_equals_its_loop(engine: Engine, images: Tensor) -> None:
    side, count, target = 4, 30, 2
    found = explain("rise", engine, images[:1], [target], seed=6, smooth=False, side=side, masks=count)
    bits = engine.draws(6, "attribution", "rise").spawn("bits").bernoulli(0.5, count, side * side)
    total, kept = torch.zeros(16, 16), torch.zeros(16, 16)
    for row in bits:
        mask = torch.kron(row.reshape(side, side), torch.ones(4, 4))
        with torch.no_grad():
            total += mask * engine.network.module(images[:1] * mask).softmax(1)[0, target]
        kept += mask
    torch.testing.assert_close(found[0, 0], total / kept)


@pytest.mark.parametrize("name", METHODS)
def test_methods_run_on_places_along_one_axis(name: str, conv_network: Network, images: Tensor) -> None:
    engine = Engine(conv_network, device="cpu", precision="fp32", batch_size=64)
    space, targets = Line(16), torch.tensor([3, 0, 1, 4])
    maps = explain(name, engine, images, targets, space=space, **QUICK.get(name, {}))
    assert maps.shape == (4, 1, 256)
    assert maps.isfinite().all()
    assert (maps.std(dim=2) > 0).all()


@pytest.mark.parametrize("name", ["lime", "kernel_shap", "occlusion"])
def test_along_one_axis_a_linear_network_has_its_contributions(
    name: str, linear_engine: Engine, small_images: Tensor
) -> None:
    options = {"occlusion": {"patch": 4, "stride": 4}, "lime": {"side": 16, "alpha": 0.0}, "kernel_shap": {"side": 16}}
    maps = explain(name, linear_engine, small_images, 1, space=Line(8), **options[name])
    weights = linear_engine.network.module.fc.weight[1].reshape(3, 64)
    parts = (weights * small_images.flatten(2)).sum(1).unflatten(1, (16, 4)).sum(2)
    torch.testing.assert_close(maps[:, 0, ::4], parts.detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_methods_run_on_wavelet_coefficients(name: str, engine: Engine, images: Tensor) -> None:
    maps = explain(name, engine, images, [3, 0, 1, 4], space=Wavelets(levels=2), **QUICK.get(name, {}))
    assert maps.shape == (4, 1, 16, 16)
    assert maps.isfinite().all()
    assert (maps.flatten(1).std(dim=1) > 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_methods_find_the_concept_that_the_head_reads(name: str, engine: Engine, images: Tensor) -> None:
    dictionary = Dictionary(
        name="axes", atoms=torch.eye(12), mean=torch.zeros(12), encoder="identity", signed=False, parameters={}
    )
    maps = explain(name, engine, 3 * images, 2, space=Concepts(dictionary, "stage"), **QUICK.get(name, {}))
    assert maps.shape == (4, 1, 12)
    # A mean over places and a linear layer follow the atoms, so each has w times its mean code.
    parts = engine.network.module.fc.weight[2] * engine.tap(3 * images, "stage").mean(dim=(2, 3))
    for credit, part in zip(maps[:, 0], parts.detach(), strict=True):
        ranked = credit if name in ("sobol", "hsic") else credit * part.sign()
        assert int(ranked.argmax()) in part.abs().topk(2).indices.tolist()


@pytest.mark.parametrize("name", ["occlusion", "lime", "kernel_shap"])
def test_concepts_of_a_linear_head_have_its_contributions(name: str, engine: Engine, images: Tensor) -> None:
    dictionary = Dictionary(
        name="axes", atoms=torch.eye(12), mean=torch.zeros(12), encoder="identity", signed=False, parameters={}
    )
    options = {"lime": {"alpha": 0.0}}.get(name, {})
    maps = explain(name, engine, images, 2, space=Concepts(dictionary, "stage"), **options)
    parts = engine.network.module.fc.weight[2] * engine.tap(images, "stage").mean(dim=(2, 3))
    torch.testing.assert_close(maps[:, 0], parts.detach(), atol=1e-5, rtol=1e-3)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor made meanwhile holds of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.untyped_storage().nbytes() // each.element_size())
        return result


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("occlusion", {"patch": 2}),
        ("rise", {"masks": 3000}),
        ("rise", {"masks": 3000, "smooth": False}),
        ("lime", {"samples": 3000, "side": 4}),
        ("lime", {"samples": 3000, "side": 4, "distance": "cosine", "width": 1.0}),
        ("kernel_shap", {"samples": 3000, "side": 4}),
        ("sobol", {"samples": 256, "side": 4}),
        ("hsic", {"samples": 400, "side": 4}),
    ],
)
def test_no_tensor_holds_all_masks_at_full_size(name: str, options: dict[str, Any]) -> None:
    engine = engine_of(lambda flat: flat[:, :50].square().sum(1))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    targets, batch = torch.tensor([1, 1]), 8
    small = Engine(engine.network, device="cpu", precision="fp32", batch_size=batch)
    with small.meter() as cost, Largest() as largest:
        ATTRIBUTIONS.load(name)(
            small,
            images,
            targets,
            space=Pixels(),
            **({} if name == "occlusion" else {"draws": small.draws(0)}),
            **options,
        )
    masks = cost.forwards // 2
    assert masks > 250
    # A batch of copies, the masks as cells (RISE: its offsets), and for HSIC the kernel of the scores of both images.
    cells = 64
    allowed = max(batch * 3 * 32 * 32, 2 * masks * cells, 2 * 400**2 if name == "hsic" else 0)
    assert largest.numbers <= allowed
    assert masks * 32 * 32 > allowed
