"""The space of concepts: codes in, activations out, the head alone, and credit that has a closed form."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from bench.api import explain, fit_dictionary, score
from bench.engine import Engine, Network
from bench.registry import LimenError
from bench.spaces import Concepts, Dictionary, Space

TARGETS = torch.tensor([3, 0, 1, 4])
LAYER = "stage"
FITTED: dict[str, Dictionary] = {}


@pytest.fixture
def engine(conv_network: Network) -> Engine:
    """An engine with batches for many masks of a small head."""
    return Engine(conv_network, device="cpu", precision="fp32", batch_size=512)


@pytest.fixture
def activations(engine: Engine, images: Tensor) -> Tensor:
    return engine.tap(images, LAYER)


@pytest.fixture(params=["nmf", "pca"])
def space(request: pytest.FixtureRequest, activations: Tensor) -> Concepts:
    """Six concepts of the last stage: non-negative ones, and signed ones around a mean; fitted once."""
    if request.param not in FITTED:
        FITTED[request.param] = fit_dictionary(request.param, activations, 6)
    return Concepts(FITTED[request.param], LAYER)


def contributions(engine: Engine, images: Tensor, space: Concepts, targets: Tensor = TARGETS) -> Tensor:
    """Return mean_positions(u_k) <D_k, w_c>, (N, k): what each concept adds to the logit of a pooled linear head."""
    codes = space.coordinates(engine, images)
    weights = engine.network.module.fc.weight[targets]
    return codes.mean(dim=1) * (weights @ space.dictionary.atoms.T)


class Tokens(nn.Module):
    """Four patches of an image become tokens (N, 4, 8), whose mean is read by a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 8 * 8, 8)
        self.mix = nn.Identity()
        self.flat = nn.Identity()
        self.fc = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = self.mix(self.embed(patches).relu())
        return self.fc(self.flat(tokens.mean(dim=1)))


@pytest.fixture
def token_engine() -> Engine:
    torch.manual_seed(0)
    return Engine(Network(name="tokens", module=Tokens(), size=16), device="cpu", precision="fp32", batch_size=3)


def test_coordinates_are_the_codes_of_the_layer_by_position(
    engine: Engine, images: Tensor, activations: Tensor, space: Concepts
) -> None:
    codes = space.coordinates(engine, images)
    assert codes.shape == (4, 64, 6)
    torch.testing.assert_close(codes, space.dictionary.encode(activations).flatten(1, 2))


def test_inputs_are_activations_in_the_layers_shape(
    engine: Engine, images: Tensor, activations: Tensor, space: Concepts
) -> None:
    codes = space.coordinates(engine, images)
    rebuilt = space.inputs(codes)
    assert rebuilt.shape == activations.shape
    where = (2, slice(None), 5, 3)
    torch.testing.assert_close(rebuilt[where], space.dictionary.decode(codes[2, 5 * 8 + 3]))


def test_a_complete_dictionary_gives_the_networks_own_scores(engine: Engine, images: Tensor) -> None:
    space = Concepts(fit_dictionary("neurons", engine.tap(images, LAYER)), LAYER)
    rebuilt = space.inputs(space.coordinates(engine, images))
    torch.testing.assert_close(engine.head_scores(rebuilt, LAYER), engine.scores(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("layer", "positions"), [("mix", 4), ("flat", 1)])
def test_tokens_and_plain_features_are_concept_spaces_too(
    token_engine: Engine, images: Tensor, layer: str, positions: int
) -> None:
    found = token_engine.tap(images, layer)
    space = Concepts(fit_dictionary("pca", found, 3), layer)
    codes = space.coordinates(token_engine, images)
    assert codes.shape == (4, positions, 3)
    assert space.inputs(codes).shape == found.shape
    maps = explain("gradient_input", token_engine, images, 1, space=space)
    weights = token_engine.network.module.fc.weight[1]
    expected = codes.mean(dim=1) * (space.dictionary.atoms @ weights)
    torch.testing.assert_close(maps[:, 0], expected, atol=1e-6, rtol=1e-4)


def test_inputs_are_differentiable(engine: Engine, images: Tensor, space: Concepts) -> None:
    codes = space.coordinates(engine, images).requires_grad_()
    space.inputs(codes).sum().backward()
    expected = space.dictionary.atoms.sum(dim=1).expand(4, 64, 6)
    torch.testing.assert_close(codes.grad, expected)


def test_only_the_head_runs_and_codes_are_found_once(engine: Engine, images: Tensor, space: Concepts) -> None:
    explain("gradient_input", engine, images, TARGETS, space=space)
    with engine.meter() as cost:
        space.coordinates(engine, images)
    assert cost.forwards == 0


def test_remembered_codes_belong_to_their_images_and_network(
    engine: Engine, conv_network: Network, images: Tensor, space: Concepts
) -> None:
    first = space.coordinates(engine, images)
    torch.testing.assert_close(space.coordinates(engine, images[2:3]), first[2:3], atol=1e-6, rtol=1e-4)
    space.coordinates(engine, images).zero_()
    assert torch.equal(space.coordinates(engine, images), first)
    other = dataclasses.replace(conv_network, module=type(conv_network.module)(), fingerprint="")
    assert not torch.allclose(space.coordinates(engine.beside(other), images), first)


def test_cells_are_concepts_and_a_weight_is_one_for_all_positions(
    engine: Engine, images: Tensor, space: Concepts
) -> None:
    codes = space.coordinates(engine, images)
    weights = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    for side in (None, 8):
        assert space.cells(codes, side) == 6
        spread = space.spread(weights, codes, side, mode="bilinear")
        assert spread.shape == (4, 1, 6)
        assert torch.equal(space.pool(spread, side), weights)
    assert torch.equal(space.credit(codes), codes.sum(dim=1, keepdim=True))
    assert torch.equal(space.baseline(codes), torch.zeros_like(codes))


def test_it_is_a_space_without_order_known_by_its_dictionary(activations: Tensor, space: Concepts) -> None:
    assert isinstance(space, Space)
    assert space.layer == LAYER
    assert not space.ordered
    assert space.rebased("zero") is space
    same = Concepts(space.dictionary, LAYER)
    other = Concepts(fit_dictionary(space.dictionary.name, activations, 5), LAYER)
    assert same.identity == space.identity
    assert len({space.identity, other.identity, Concepts(space.dictionary, "stem").identity}) == 3
    assert space.name == f"concepts (6 of {space.dictionary.name} at stage, zero)"


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gradient_input", {}),
        ("integrated_gradients", {"steps": 3}),
        ("occlusion", {}),
        ("kernel_shap", {}),
        ("lime", {"alpha": 0.0}),
    ],
)
def test_contributions_to_a_linear_head_are_found(
    engine: Engine, images: Tensor, space: Concepts, method: str, options: dict[str, Any]
) -> None:
    found = explain(method, engine, images, TARGETS, space=space, **options)
    assert found.shape == (4, 1, 6)
    expected = contributions(engine, images, space)
    torch.testing.assert_close(found[:, 0], expected, atol=2e-5, rtol=1e-3)


def test_integrated_gradients_sum_to_what_the_concepts_add(engine: Engine, images: Tensor, space: Concepts) -> None:
    codes = space.coordinates(engine, images)
    whole, nothing = (
        engine.head_scores(space.inputs(part), LAYER).gather(1, TARGETS[:, None])[:, 0]
        for part in (codes, space.baseline(codes))
    )
    found = explain("integrated_gradients", engine, images, TARGETS, space=space, steps=3)
    torch.testing.assert_close(found.sum(dim=(1, 2)), whole - nothing, atol=1e-5, rtol=1e-4)


def test_sobol_indices_are_squared_shares(engine: Engine, images: Tensor, space: Concepts) -> None:
    squares = contributions(engine, images, space).square()
    found = explain("sobol", engine, images, TARGETS, space=space, samples=2048)
    torch.testing.assert_close(found[:, 0], squares / squares.sum(dim=1, keepdim=True), atol=5e-3, rtol=0.02)


def test_hsic_ranks_by_the_size_of_contributions(engine: Engine, images: Tensor, space: Concepts) -> None:
    sizes = contributions(engine, images, space).abs()
    found = explain("hsic", engine, images, TARGETS, space=space, samples=1024)
    for index, size in zip(found[:, 0], sizes, strict=True):
        assert spearmanr(index, size).statistic > 0.75
        assert index.argmax() == size.argmax()


def test_rise_is_contributions_up_to_an_affine_map(engine: Engine, images: Tensor, space: Concepts) -> None:
    expected = contributions(engine, images, space)
    found = explain("rise", engine, images, TARGETS, space=space, masks=4000, score="logit", p=0.5)[:, 0]
    for row, truth in zip(found, expected, strict=True):
        slope = np.polyfit(truth.numpy(), row.numpy(), 1)[0]
        assert slope == pytest.approx(0.5, abs=0.1)
        assert np.corrcoef(truth, row)[0, 1] > 0.95


def test_saliency_is_the_largest_slope_over_positions(engine: Engine, images: Tensor, space: Concepts) -> None:
    found = explain("saliency", engine, images, TARGETS, space=space)[:, 0]
    slopes = engine.network.module.fc.weight[TARGETS] @ space.dictionary.atoms.T / 64
    torch.testing.assert_close(found, slopes.abs(), atol=1e-7, rtol=1e-4)


def test_concept_deletion_and_insertion_have_their_closed_form(engine: Engine, images: Tensor, space: Concepts) -> None:
    credit = explain("gradient_input", engine, images, TARGETS, space=space)
    parts = contributions(engine, images, space).sort(dim=1, descending=True).values.double()
    nothing = engine.head_scores(space.inputs(0 * space.coordinates(engine, images)), LAYER)
    floor = nothing.gather(1, TARGETS[:, None])[:, 0].double()
    order = torch.arange(1, 7).double()
    expected = {
        "deletion": floor + (parts * (order - 0.5)).sum(dim=1) / 6,
        "insertion": floor + (parts * (6 - order + 0.5)).sum(dim=1) / 6,
    }
    for metric, values in expected.items():
        found = score(metric, engine, images, credit, TARGETS, space=space, steps=6, score="logit", null_draws=1)
        np.testing.assert_allclose(found.values, values, atol=1e-5)


def test_mu_fidelity_of_contributions_is_one_and_of_their_opposite_minus_one(
    engine: Engine, images: Tensor, space: Concepts
) -> None:
    credit = explain("gradient_input", engine, images, TARGETS, space=space)
    for sign in (1, -1):
        found = score("mu_fidelity", engine, images, sign * credit, TARGETS, space=space, null_draws=1, subsets=15)
        np.testing.assert_allclose(found.values, sign, atol=0.02)


def test_a_heatmap_puts_credit_where_the_concept_is(engine: Engine, images: Tensor, space: Concepts) -> None:
    codes = space.coordinates(engine, images)
    credit = torch.zeros(4, 1, 6)
    credit[:, 0, 2] = -3.0
    found = space.heatmap(engine, images, credit, size=8)
    share = codes[..., 2].abs() / codes[..., 2].abs().sum(dim=1, keepdim=True)
    torch.testing.assert_close(found.flatten(1), -3 * share)
    assert space.heatmap(engine, images, credit).shape == (4, 1, 16, 16)


def test_a_drawing_has_one_stripe_a_concept(space: Concepts) -> None:
    credit = torch.arange(6.0).reshape(1, 1, 6)
    drawn = space.map(credit, (4, 12))
    assert drawn.shape == (1, 1, 4, 12)
    assert torch.equal(drawn[0, 0, 3], torch.arange(6.0).repeat_interleave(2))


def halves(images: Tensor, places: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(images, size=places)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, x, s: s.rebased("blur"), "space 'concepts', baseline: unknown name 'blur'; allowed are zero"),
        (lambda e, x, s: Concepts(s.dictionary, LAYER, baseline="mean"), "unknown name 'mean'"),
        (
            lambda e, x, s: s.inputs(torch.zeros(1, 5, 6)),
            "given codes of 5 positions, allowed are those of images seen",
        ),
        (lambda e, x, s: s.spread(torch.zeros(2, 4), torch.zeros(2, 64, 6), None), "given 4 weights for 6 concepts"),
        (
            lambda e, x, s: [s.coordinates(e, halves(x, places)) for places in ((8, 32), (32, 8))],
            r"given activations \(12, 16, 4\) after \(12, 4, 16\), both of 64 positions",
        ),
        (
            lambda e, x, s: Concepts(s.dictionary, "stem").coordinates(e, x),
            "given activations with 8 features, allowed is 12",
        ),
        (
            lambda e, x, s: explain("grad_cam", e, x, space=s),
            "'grad_cam': given the space 'concepts .*, allowed is pixels",
        ),
        (
            lambda e, x, s: explain("wam", e, x, space=s),
            "'wam': given the space 'concepts .* allowed are Pixels and Wav",
        ),
    ],
)
def test_a_fault_is_one_sentence(engine: Engine, images: Tensor, space: Concepts, call, message: str) -> None:
    fresh = Concepts(space.dictionary, LAYER)
    with pytest.raises(LimenError, match=message):
        call(engine, images, fresh)


def test_a_heatmap_needs_height_and_width(token_engine: Engine, images: Tensor) -> None:
    space = Concepts(fit_dictionary("pca", token_engine.tap(images, "mix"), 3), "mix")
    with pytest.raises(LimenError, match=r"given the layer 'mix' with activations \(4, 8\), allowed is \(C, H, W\)"):
        space.heatmap(token_engine, images, torch.zeros(4, 1, 3))


def test_the_dictionary_is_not_changed(engine: Engine, images: Tensor, space: Concepts) -> None:
    before = {name: getattr(space.dictionary, name).clone() for name in ("atoms", "mean")}
    explain("sobol", engine, images, TARGETS, space=space, samples=4)
    assert all(torch.equal(value, getattr(space.dictionary, name)) for name, value in before.items())
    assert isinstance(space.dictionary, Dictionary)
    assert math.isfinite(float(space.dictionary.atoms.sum()))
