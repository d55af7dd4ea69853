"""Concept networks: classes that are concepts, with exact gradients, on which any attribution finds where one is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from bench.api import explain, fit_dictionary
from bench.engine import Draws, Engine, Network
from bench.registry import LimenError
from bench.spaces import Dictionary, Pixels
from bench.spaces.readout import concept_engine

LAYER = "stage"


@pytest.fixture
def activations(engine: Engine, images: Tensor) -> Tensor:
    return engine.tap(images, LAYER)


def fitted(activations: Tensor, name: str = "nmf", k: int = 5) -> Dictionary:
    return fit_dictionary(name, activations, k)


class Colours(nn.Module):
    """Sees red and green through one channel each, in blocks of 4 pixels, and adds both up."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(4, 4, 4, stride=4, bias=False), nn.ReLU())
        self.fc = nn.Linear(4, 2)
        with torch.no_grad():
            self.eye[0].weight.zero_()
            self.stage[0].weight.fill_(0.0)
            for channel in range(4):
                self.eye[0].weight[channel, channel % 3, 1, 1] = 1.0
                self.stage[0].weight[channel, channel] = 1 / 16

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.stage(self.eye(images)).mean(dim=(2, 3)))


RED, GREEN = (slice(4, 12), slice(20, 28)), (slice(20, 28), slice(4, 12))


@pytest.fixture
def planted() -> tuple[Engine, Tensor, Dictionary, int]:
    """A network of colours, pictures with a red and a green patch, two concepts, and which of them is red."""
    engine = Engine(Network(name="colours", module=Colours(), size=32), device="cpu", precision="fp32", batch_size=256)
    images = 0.05 * Draws(0, "images").uniform(2, 3, 32, 32)
    strength = 0.5 + Draws(1).uniform(2, 2, 1, 1)
    images[:, 0, *RED] += strength[:, 0]
    images[:, 1, *GREEN] += strength[:, 1]
    dictionary = fitted(engine.tap(images, LAYER), k=2)
    return engine, images, dictionary, int(dictionary.atoms[:, 0].argmax())


def area_under_roc(maps: Tensor, place: tuple[slice, slice]) -> float:
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[place] = True
    ranks = torch.from_numpy(rankdata(maps.flatten(1).numpy(), axis=1))
    held = int(inside.sum())
    area = (ranks[:, inside.flatten()].sum(dim=1) - held * (held + 1) / 2) / (held * (1024 - held))
    return float(area.min())


@pytest.mark.parametrize(("pool", "name"), [("mean", "nmf"), ("max", "nmf"), ("mean", "pca"), ("mean", "neurons")])
def test_scores_are_the_pooled_codes_of_the_layer(
    engine: Engine, images: Tensor, activations: Tensor, pool: str, name: str
) -> None:
    dictionary = fit_dictionary(name, activations, None if name == "neurons" else 5)
    codes = dictionary.encode(activations).flatten(1, 2)
    expected = codes.mean(dim=1) if pool == "mean" else codes.amax(dim=1)
    found = concept_engine(engine, dictionary, LAYER, pool=pool).scores(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_classes_are_named_after_concepts_and_work_counts_for_the_engine(
    engine: Engine, images: Tensor, activations: Tensor
) -> None:
    network = concept_engine(engine, fitted(activations, k=3), LAYER)
    assert network.network.classes == ("concept 0", "concept 1", "concept 2")
    with engine.meter() as cost:
        network.scores(images)
    assert cost.forwards == len(images)


def test_layers_keep_their_names(engine: Engine, images: Tensor, activations: Tensor) -> None:
    network = concept_engine(engine, fitted(activations), LAYER)
    assert network.layers() == engine.layers()
    torch.testing.assert_close(network.tap(images, "stem"), engine.tap(images, "stem"))


def test_what_follows_the_layer_does_not_run(engine: Engine, images: Tensor, activations: Tensor) -> None:
    network = concept_engine(engine, fitted(activations), LAYER)
    network.scores(images)
    with pytest.raises(LimenError, match="layer 'fc': it did not run"):
        network.tap(images, "fc")


def test_the_engine_it_came_from_answers_as_before(engine: Engine, images: Tensor, activations: Tensor) -> None:
    before = engine.scores(images)
    network = concept_engine(engine, fitted(activations), LAYER)
    network.scores(images)
    fresh = Engine(engine.network, device="cpu", precision="fp32")
    assert torch.equal(fresh.scores(images), before)


def test_its_fingerprint_tells_dictionary_layer_and_pooling(engine: Engine, activations: Tensor) -> None:
    one, other = fitted(activations), fitted(activations, k=4)
    prints = {
        concept_engine(engine, one, LAYER).network.fingerprint,
        concept_engine(engine, one, LAYER, pool="max").network.fingerprint,
        concept_engine(engine, other, LAYER).network.fingerprint,
        engine.network.fingerprint,
    }
    assert len(prints) == 4
    assert concept_engine(engine, one, LAYER).network.fingerprint in prints


class Smooth(nn.Module):
    """Has no kinks, so that differences over a small step are derivatives, but for those of the codes."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Softplus())
        self.fc = nn.Linear(8, 2)
        with torch.no_grad():
            self.stage[0].weight.copy_(Draws(0, "weight").normal(8, 3, 4, 4) / 4)
            self.stage[0].bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.stage(images).mean(dim=(2, 3)))


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("name", ["nmf", "pca"])
def test_gradients_of_a_concept_are_finite_differences(images: Tensor, name: str, pool: str) -> None:
    engine = Engine(Network(name="smooth", module=Smooth(), size=16), device="cpu", precision="fp32")
    dictionary = fitted(engine.tap(images, LAYER), name)
    assert name == "pca" or (dictionary.encode(engine.tap(images, LAYER)) == 0).any()
    network = concept_engine(engine, dictionary, LAYER, pool=pool)
    slopes = network.gradients(images, torch.full((len(images),), 2), space=Pixels())
    step, expected, found = 3e-3, [], []
    for draw in range(6):
        way = Draws(draw, "way").normal(*images.shape)
        up, down = (network.scores(images + sign * step * way)[:, 2] for sign in (1, -1))
        expected.append((up - down) / (2 * step))
        found.append((slopes * way).flatten(1).sum(dim=1))
    one, two = torch.stack(found), torch.stack(expected)
    assert float(one.abs().max()) > 1e-2
    assert float((one - two).norm() / two.norm()) < 0.01


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("occlusion", {}),
        ("rise", {"masks": 400}),
        ("sobol", {"samples": 8}),
        ("integrated_gradients", {"steps": 4}),
        ("grad_cam", {}),
        ("grad_cam", {"layer": "eye"}),
    ],
)
def test_an_attribution_of_a_concept_finds_its_patch_and_not_the_others(
    planted: tuple[Engine, Tensor, Dictionary, int], method: str, options: dict[str, object]
) -> None:
    engine, images, dictionary, red = planted
    network = concept_engine(engine, dictionary, LAYER)
    for concept, place, other in ((red, RED, GREEN), (1 - red, GREEN, RED)):
        maps = explain(method, network, images, concept, **options)
        assert area_under_roc(maps, place) > 0.9
        assert area_under_roc(maps, other) < 0.75


def test_pooled_by_its_maximum_a_concept_is_where_it_is_strongest(
    planted: tuple[Engine, Tensor, Dictionary, int],
) -> None:
    engine, images, dictionary, red = planted
    network = concept_engine(engine, dictionary, LAYER, pool="max")
    maps = explain("gradient_input", network, images, red)
    for shown in maps[:, 0]:
        rows, columns = shown.nonzero(as_tuple=True)
        assert len(rows) == 16
        assert rows.min() >= RED[0].start
        assert rows.max() < RED[0].stop
        assert columns.min() >= RED[1].start
        assert columns.max() < RED[1].stop


def test_a_layer_within_skip_connections_can_be_read(images: Tensor) -> None:
    class Skipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.inner = nn.ReLU(inplace=True)
            self.fc = nn.Linear(7, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            found = self.inner(self.conv(inputs))
            return self.fc(torch.cat([found, inputs], dim=1).mul_(2.0).mean(dim=(2, 3)))

    engine = Engine(Network(name="skipped", module=Skipped(), size=16), device="cpu", precision="fp32")
    activations = engine.tap(images, "inner")
    network = concept_engine(engine, fit_dictionary("neurons", activations), "inner")
    torch.testing.assert_close(network.scores(images), activations.mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)


def test_a_layer_that_runs_twice_is_read_where_it_is_tapped(images: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.act = nn.ReLU()

        def forward(self, inputs: Tensor) -> Tensor:
            return self.act(self.conv(self.act(inputs))).mean(dim=(2, 3))

    engine = Engine(Network(name="twice", module=Twice(), size=16), device="cpu", precision="fp32")
    network = concept_engine(engine, fit_dictionary("neurons", engine.tap(images, "act")), "act")
    for _ in range(2):
        torch.testing.assert_close(network.scores(images), engine.scores(images), rtol=1e-5, atol=1e-6)
        images = images + 1


def test_parameters_at_the_top_of_a_network_have_their_place() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.ones(3))
            self.act = nn.ReLU()

        def forward(self, inputs: Tensor) -> Tensor:
            return self.act(inputs.mean(dim=(2, 3)) + self.shift)

    engine = Engine(Network(name="shifted", module=Shifted(), size=8), device="cpu", precision="fp32")
    network = concept_engine(engine, fit_dictionary("neurons", torch.eye(3)), "act")
    assert [name for name, _ in network.network.module.named_parameters()] == ["shift"]
    np.testing.assert_allclose(network.scores(torch.zeros(1, 3, 8, 8)), 1.0)


@pytest.mark.parametrize(
    ("layer", "pool", "message"),
    [
        ("stag", "mean", "layer: unknown name 'stag'.*did you mean 'stage'"),
        ("stage", "mode", "pool: unknown name 'mode'"),
    ],
)
def test_an_unknown_layer_or_pooling_is_refused(
    engine: Engine, activations: Tensor, layer: str, pool: str, message: str
) -> None:
    with pytest.raises(LimenError, match=message):
        concept_engine(engine, fitted(activations), layer, pool=pool)
