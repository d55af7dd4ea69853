"""What a dictionary is judged on: gathered from a network, checked against the network itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.engine import Engine, Network
from bench.engine.layers import blocks, penultimate, read_layers
from bench.engine.randomise import reinitialised
from bench.registry import LimenError
from bench.spaces.concept_data import ConceptData
from bench.spaces.gather import by_position, concept_data, pooled


def pictures(count: int, seed: int = 0, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def other(engine: Engine) -> Engine:
    """Another network of the same build."""
    return engine.beside(reinitialised(engine.network, None, engine.draws(5)))


@pytest.fixture
def data(engine: Engine, other: Engine) -> ConceptData:
    return concept_data(engine, "stage", pictures(20), pictures(12, 1), evaluator=other)


class Tokens(nn.Module):
    """Patches become tokens; the head reads their mean after a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 4, stride=4)
        self.mix = nn.Linear(6, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch(images).flatten(2).transpose(1, 2)
        return self.fc(self.mix(tokens).relu().mean(dim=1))


@pytest.fixture
def tokens() -> Engine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Engine(Network(name="tokens", module=Tokens(), size=16), device="cpu", precision="fp32", batch_size=5)


def test_rows_are_the_layers_activations_averaged_over_places(engine: Engine, data: ConceptData) -> None:
    activations = engine.tap(engine.inputs(pictures(12, 1)), "stage")
    torch.testing.assert_close(data.test, activations.mean(dim=(2, 3)))
    assert data.test_maps is not None
    torch.testing.assert_close(data.test_maps.transpose(1, 2).reshape(activations.shape), activations)
    assert data.grid == tuple(activations.shape[2:])


def test_tokens_are_averaged_over_tokens_not_features(tokens: Engine) -> None:
    data = concept_data(tokens, "mix", pictures(7), pictures(5, 1))
    activations = tokens.tap(tokens.inputs(pictures(5, 1)), "mix")
    torch.testing.assert_close(data.test, activations.mean(dim=1))
    assert data.grid is None
    assert data.test_maps is not None
    assert data.test_maps.shape == (5, 16, 6)


def test_the_head_answers_as_the_network_does(engine: Engine, data: ConceptData) -> None:
    assert data.head is not None
    logits = engine.scores(engine.inputs(pictures(12, 1)))
    torch.testing.assert_close(data.head(data.test_maps), logits)
    assert torch.equal(data.targets, logits.argmax(dim=1))
    assert data.class_names == engine.network.classes


def test_the_head_has_gradients(data: ConceptData) -> None:
    assert data.head is not None
    assert data.test_maps is not None
    leaves = data.test_maps.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(data.head(leaves)[:, 2].sum(), leaves)
    assert data.head_weights is not None
    expected = data.head_weights[2] / leaves.shape[1]
    torch.testing.assert_close(slopes, expected.expand_as(slopes))


def test_a_linear_head_after_averaging_is_found(engine: Engine, data: ConceptData) -> None:
    fc = engine.network.module.fc
    torch.testing.assert_close(data.head_weights, fc.weight)
    torch.testing.assert_close(data.head_bias, fc.bias)


@pytest.mark.parametrize("layer", ["stem", "stage.0"])
def test_a_head_that_is_not_affine_has_no_weights(engine: Engine, layer: str) -> None:
    data = concept_data(engine, layer, pictures(6), pictures(6, 1), layers=())
    assert data.head is not None
    assert data.head_weights is None
    assert data.head_bias is None


def test_a_head_that_is_affine_but_does_not_average_has_no_weights(linear_engine: Engine) -> None:
    data = concept_data(linear_engine, "fc", pictures(6, size=8), pictures(6, 1, size=8))
    torch.testing.assert_close(data.head_weights, torch.eye(4))

    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage, self.fc = nn.Conv2d(3, 2, 1), nn.Linear(2 * 64, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(self.stage(images).flatten(1))

    places = Engine(Network(name="places", module=Places(), size=8), device="cpu", precision="fp32")
    assert concept_data(places, "stage", pictures(6, size=8), pictures(6, 1, size=8)).head_weights is None


def test_a_layer_that_the_logits_pass_by_has_no_head() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.fc = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.fc((images + self.inner(images)).mean(dim=(2, 3)))

    engine = Engine(Network(name="skips", module=Skips(), size=8), device="cpu", precision="fp32")
    data = concept_data(engine, "inner", pictures(4, size=8), pictures(4, 1, size=8))
    assert data.head is None
    with pytest.raises(LimenError, match=r"metric 'x': it reads 'head', which these concept data lack.*passes through"):
        data.require("x", "test_maps", "head")


def test_layers_are_the_blocks_in_the_order_they_run(engine: Engine, data: ConceptData) -> None:
    assert list(data.layers) == ["stem", "stage"]
    train, test = data.layers["stem"]
    torch.testing.assert_close(test, engine.tap(engine.inputs(pictures(12, 1)), "stem").mean(dim=(2, 3)))
    assert len(train) == 20
    assert torch.equal(data.layers["stage"][0], data.train)


def test_a_stage_of_blocks_counts_as_its_blocks() -> None:
    def block(inputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, 4, 1), nn.BatchNorm2d(4), nn.ReLU())

    module = nn.Sequential()
    module.add_module("stem", nn.Conv2d(3, 3, 1))
    module.add_module("norm", nn.BatchNorm2d(3))
    module.add_module("one", nn.Sequential(block(3), block(4)))
    module.add_module("two", nn.Sequential(block(4), block(4)))
    module.add_module("pool", nn.AdaptiveAvgPool2d(1))
    module.add_module("flat", nn.Flatten())
    module.add_module("fc", nn.Linear(4, 2))
    engine = Engine(Network(name="staged", module=module, size=8), device="cpu", precision="fp32")
    shown = pictures(1, size=8)
    assert blocks(engine, shown, "two") == ("stem", "one.0", "one.1", "two")
    assert blocks(engine, shown, "two.0") == ("stem", "one.0", "one.1", "two.0")
    assert blocks(engine, shown, "one.1.0") == ("stem", "one.0", "one.1.0")


def test_embeddings_are_what_the_last_linear_layer_is_fed(engine: Engine, other: Engine, data: ConceptData) -> None:
    expected = other.tap(other.inputs(pictures(12, 1)), "stage").mean(dim=(2, 3))
    torch.testing.assert_close(data.embeddings, expected)


def test_a_network_without_a_linear_end_gives_its_default_layer() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    engine = Engine(Network(name="plain", module=module, size=8, layer="1"), device="cpu", precision="fp32")
    expected = engine.tap(engine.inputs(pictures(3, size=8)), "1").mean(dim=(2, 3))
    torch.testing.assert_close(penultimate(engine, pictures(3, size=8)), expected)


def test_a_network_is_not_its_own_evaluator(engine: Engine) -> None:
    with pytest.raises(LimenError, match="evaluator: given 'tiny', the network that is explained; allowed is another"):
        concept_data(engine, "stage", pictures(4), pictures(4, 1), evaluator=engine)


def test_noise_is_added_in_the_units_of_pictures(linear_engine: Engine) -> None:
    data = concept_data(linear_engine, "fc", pictures(4, size=8), pictures(300, 1, size=8))
    assert data.noisy is not None
    moved = data.noisy(0.1, 0) - data.test
    expected = 0.1 * linear_engine.network.module.fc.weight.norm(dim=1)
    torch.testing.assert_close(moved.std(dim=0), expected, rtol=0.15, atol=0)


def test_noise_is_seeded_remembered_and_scales_with_its_level(linear_engine: Engine) -> None:
    data = concept_data(linear_engine, "fc", pictures(4, size=8), pictures(6, 1, size=8))
    assert data.noisy is not None
    first = data.noisy(0.1, 0)
    assert data.noisy(0.1, 0) is first
    assert not torch.equal(data.noisy(0.1, 1), first)
    torch.testing.assert_close(data.noisy(0.2, 0) - data.test, 2 * (first - data.test), rtol=1e-4, atol=1e-5)
    again = concept_data(linear_engine, "fc", pictures(4, size=8), pictures(6, 1, size=8))
    assert again.noisy is not None
    torch.testing.assert_close(again.noisy(0.1, 0), first)


def test_batches_do_not_change_what_is_read(conv_network: Network) -> None:
    both = [
        read_layers(
            Engine(conv_network, device="cpu", precision="fp32", batch_size=size), pictures(9), {"stem": pooled}
        )
        for size in (2, 9)
    ]
    torch.testing.assert_close(both[0]["stem"], both[1]["stem"])


def test_without_maps_the_rows_are_the_same(engine: Engine, data: ConceptData) -> None:
    bare = concept_data(engine, "stage", pictures(20), pictures(12, 1), maps=False, layers=["stem"])
    assert bare.test_maps is None
    torch.testing.assert_close(bare.test, data.test)
    assert list(bare.layers) == ["stem"]


def test_labels_are_bools_on_the_device(engine: Engine) -> None:
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    data = concept_data(
        engine, "stage", pictures(4), pictures(4, 1), train_labels=labels, test_labels=labels, label_names=["a", "b"]
    )
    assert data.label_names == ("a", "b")
    assert data.test_labels is not None
    assert data.test_labels.dtype == torch.bool


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 3), (2, 3, 4, 5)])
def test_positions_come_in_reading_order(shape: tuple[int, ...]) -> None:
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    rows = by_position(values)
    assert rows.shape == (2, int(np.prod(shape[2:])) if len(shape) == 4 else shape[1] if len(shape) == 3 else 1, 3)
    if len(shape) == 4:
        assert torch.equal(rows[1, 7], values[1, :, 1, 2])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("test_maps", torch.zeros(3, 2, 2)),
        ("head_weights", torch.zeros(4, 5)),
        ("targets", torch.zeros(3)),
        ("embeddings", torch.zeros(2)),
        ("layers", {"a": (torch.zeros(4, 2), torch.zeros(4, 2))}),
    ],
)
def test_parts_of_another_shape_are_refused(part: str, value: object) -> None:
    data = ConceptData(torch.zeros(4, 3), torch.zeros(2, 3))
    with pytest.raises(LimenError, match="concept data, .*given .*allowed is"):
        dataclasses.replace(data, **{part: value})


def test_a_grid_must_hold_the_positions() -> None:
    with pytest.raises(LimenError, match=r"grid: given \(2, 2\) for 5 positions"):
        ConceptData(torch.zeros(4, 3), torch.zeros(2, 3), test_maps=torch.zeros(2, 5, 3), grid=(2, 2))


@pytest.mark.parametrize("part", ["train_maps", "grid", "head", "head_weights", "targets", "layers", "embeddings"])
def test_a_missing_part_is_told_in_one_sentence(part: str) -> None:
    data = ConceptData(torch.zeros(4, 3), torch.zeros(2, 3))
    with pytest.raises(LimenError, match=rf"metric 'm': it reads '{part}', .*gather\.concept_data gathers it [^.]*\.$"):
        data.require("m", part)
