"""CRAFT: crops, concepts of a class, importance beside its closed form, maps, and recursion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import explain
from bench.craft import PRESETS, Craft, craft
from bench.engine import Draws, Engine, Network
from bench.registry import LimenError
from bench.spaces import Concepts, Dictionary
from bench.spaces.crops import Crops, grid, seen
from bench.zoo import load_images, load_network


class Patterns(nn.Module):
    """Class 1 reads stripes that alternate every pixel, class 0 a plain green; 32-pixel pictures."""

    def __init__(self, bent: bool = False) -> None:
        super().__init__()
        self.edges = nn.Sequential(nn.Conv2d(3, 3, (1, 2), bias=False), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(3, 3, 4, stride=4, bias=False), nn.ReLU())
        self.fc = nn.Linear(3, 2, bias=False)
        self.bent = bent
        with torch.no_grad():
            self.edges[0].weight.zero_()
            # Channel 0: a step up in red; channels 1 and 2: brightness of green and of blue.
            self.edges[0].weight[0, 0, 0] = torch.tensor([-1.0, 1.0])
            self.edges[0].weight[1, 1] = self.edges[0].weight[2, 2] = 0.5
            self.stage[0].weight.zero_()
            for channel in range(3):
                self.stage[0].weight[channel, channel] = 1 / 16
            self.fc.weight.copy_(torch.tensor([[0.0, 1.0, 0.2], [5.0, 0.5, 0.3]]))

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.stage(self.edges(images)).mean(dim=(2, 3))
        return self.fc((20 * pooled).sin() if self.bent else pooled)


STRIPES, GREEN, BLUE = ((slice(y, y + 10), slice(x, x + 10)) for y, x in ((4, 16), (18, 4), (18, 18)))


def pictures(n: int = 6) -> np.ndarray:
    """Return dark pictures with a striped, a green and a blue square."""
    drawn = (10 * Draws(0, "ground").uniform(n, 32, 32, 3)).numpy()
    strength = (120 + 120 * Draws(1).uniform(n, 3, 1, 1)).numpy()
    drawn[:, *STRIPES, 0] += strength[:, 0] * (np.arange(10) % 2)
    drawn[:, *GREEN, 1] += strength[:, 1]
    drawn[:, *BLUE, 2] += strength[:, 2]
    return drawn.astype(np.uint8)


def planted(bent: bool = False) -> Engine:
    network = Network(name="patterns", module=Patterns(bent), classes=("green", "stripes"), size=32, layer="stage")
    return Engine(network, device="cpu", precision="fp32", batch_size=256)


@pytest.fixture(scope="module")
def found() -> Craft:
    return craft(planted(), pictures(), target_class=1, k=3, crop=10, stride=0.5)


def test_a_grid_of_crops_is_that_of_the_published_settings() -> None:
    crops = grid(np.zeros((2, 224, 224, 3), np.uint8), 64, 0.8)
    assert len(crops) == 2 * 16
    assert crops.size == (64, 64)
    assert np.unique(crops.places[:, 1]).tolist() == [0, 51, 102, 153]


def test_crops_keep_the_proportions_of_their_pictures() -> None:
    crops = grid(np.zeros((1, 40, 80, 3), np.uint8), 10, 0.8)
    assert crops.size == (10, 20)
    assert (crops.places[:, 1].max() + 10, crops.places[:, 2].max() + 20) <= (40, 80)


def test_a_crop_is_cut_where_it_says_and_enlarged_to_the_picture() -> None:
    drawn = pictures(2)
    crops = grid(drawn, 8, 0.5)
    index = np.array([3, len(crops) - 1])
    for cut, (picture, top, left) in zip(crops.cut(index), crops.places[index], strict=True):
        np.testing.assert_array_equal(cut, drawn[picture, top : top + 8, left : left + 8])
    assert crops.enlarged(planted(), index).shape == (2, 32, 32, 3)
    whole = grid(drawn, 32, 1.0)
    np.testing.assert_array_equal(whole.enlarged(planted(), np.arange(2)), drawn)


def test_activations_of_crops_are_the_networks_averaged_over_places() -> None:
    engine, crops = planted(), grid(pictures(2), 8, 0.5)
    enlarged = crops.enlarged(engine, np.arange(len(crops)))
    expected = engine.tap(engine.inputs(enlarged), "stage").mean(dim=(2, 3))
    torch.testing.assert_close(crops.activations(engine, "stage"), expected)


@pytest.mark.parametrize(
    ("side", "stride", "message"),
    [
        (0, 0.8, "side of 0 pixels, allowed is 1 to 32"),
        (33, 0.8, "1 to 32"),
        (8, 0.0, "stride of 0.0"),
        (8, 1.5, "stride"),
    ],
)
def test_crops_out_of_range_are_refused(side: int, stride: float, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        grid(pictures(1), side, stride)


def test_what_the_network_sees_is_what_people_are_shown() -> None:
    large = np.repeat(np.repeat(pictures(2), 2, axis=1), 2, axis=2)
    engine = planted()
    small = seen(engine, large)
    assert small.shape == (2, 32, 32, 3)
    torch.testing.assert_close(engine.inputs(small), engine.inputs(large), rtol=0, atol=0.51 / 255)
    with pytest.raises(LimenError, match="allowed is uint8"):
        seen(engine, large.astype(np.float32))


def test_the_most_important_concept_is_the_planted_pattern(found: Craft) -> None:
    best = int(found.order[0])
    assert found.dictionary.atoms[best].argmax() == 0
    assert found.importance.mean(axis=0)[best] > 0.5
    shown = found.top_crops(5)
    assert shown.shape == (3, 5, 10, 10, 3)
    green = int(found.dictionary.atoms[:, 1].argmax())
    steps = np.abs(np.diff(shown[..., 0].astype(int), axis=3)).mean(axis=(2, 3))
    assert steps[best].min() > 80
    assert steps[green].max() < 40


def test_maps_show_where_the_planted_pattern_is(found: Craft) -> None:
    best = int(found.order[0])
    maps = found.maps(best)
    assert maps.shape == (6, 32, 32)
    for shown in (maps, found.locate(best, "occlusion"), found.locate(best, "integrated_gradients", steps=4)):
        assert (shown[:, *STRIPES].mean(axis=(1, 2)) > 4 * shown.mean(axis=(1, 2)).clip(0)).all()


def test_importance_is_the_squared_share_of_each_contribution(found: Craft) -> None:
    assert found.estimator == "closed form"
    atoms, weights = found.dictionary.atoms.numpy(), planted().network.module.fc.weight[1].numpy()
    expected = found.codes.mean(axis=(2, 3)) * (atoms @ weights)
    np.testing.assert_allclose(found.contributions, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.importance, expected**2 / (expected**2).sum(axis=1, keepdims=True), atol=1e-5)


def test_sobol_arrives_at_the_closed_form(found: Craft) -> None:
    sobol = craft(planted(), pictures(), target_class=1, k=3, crop=10, stride=0.5, importance="sobol", samples=1024)
    assert sobol.estimator == "sobol"
    np.testing.assert_allclose(sobol.importance, found.importance, atol=0.02)


def test_a_head_that_bends_is_estimated_and_never_said_to_be_closed() -> None:
    bent = craft(planted(bent=True), pictures(3), target_class=1, k=3, crop=10, stride=0.8, samples=16)
    assert bent.estimator == "sobol"
    assert (bent.importance >= 0).all()
    with pytest.raises(LimenError, match="given 'closed form'.*not affine.*allowed is 'sobol'"):
        craft(planted(bent=True), pictures(3), target_class=1, k=3, crop=10, importance="closed form")


def test_intervals_hold_the_mean_over_pictures(found: Craft) -> None:
    for interval, column in zip(found.intervals(), found.importance.T, strict=True):
        assert interval.mean == pytest.approx(column.mean())
        assert interval.low <= interval.mean <= interval.high


def test_the_seed_fixes_all_of_it(found: Craft) -> None:
    again = craft(planted(), pictures(), target_class=1, k=3, crop=10, stride=0.5)
    for name, array in found.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])
    other = craft(planted(), pictures(), target_class=1, k=3, crop=10, stride=0.5, seed=1)
    assert not np.array_equal(found.codes, other.codes)


def test_the_presets_are_options(found: Craft) -> None:
    options = {**PRESETS["craft"], "k": 3, "samples": 8}
    assert craft(planted(), pictures(2), target_class=1, crop=10, **options).estimator == "sobol"


def test_pictures_that_are_not_square_have_maps_that_are_not() -> None:
    network = Network(name="patterns", module=Patterns(), layer="stage")
    engine = Engine(network, device="cpu", precision="fp32")
    wide = np.concatenate([pictures(4), pictures(4)[:, :, :16]], axis=2)
    result = craft(engine, wide, target_class=1, k=3, crop=10, stride=0.5)
    assert result.codes.shape[2:] == (8, 11)
    assert result.maps(0).shape == (4, 32, 48)


def test_a_concept_comes_apart_at_an_earlier_layer(found: Craft) -> None:
    best = int(found.order[0])
    parts = found.recurse(best, "edges", k=2, samples=16)
    held = found.crop_codes[:, best]
    assert len(parts.pictures) == ((held >= np.percentile(held, 90)) & (held > 0)).sum()
    assert parts.layer == "edges"
    assert parts.engine.network.classes[parts.target_class] == f"concept {best}"
    # What the stripes' concept is made of is the channel that sees steps in red.
    assert parts.dictionary.atoms[int(parts.order[0])].argmax() == 0


@pytest.mark.parametrize(
    ("concept", "layer", "message"),
    [
        (3, "edges", "given concept 3, allowed is 0 to 2"),
        (0, "stage", "given the layer 'stage' itself, allowed is an earlier one"),
        (0, "fc", "layer 'fc': it did not run"),
        (0, "edge", "unknown name 'edge'.*did you mean 'edges'"),
    ],
)
def test_a_recursion_that_leads_nowhere_is_refused(found: Craft, concept: int, layer: str, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        found.recurse(concept, layer, k=2)


def test_negative_activations_are_refused_and_semi_nmf_takes_them() -> None:
    class Signed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = nn.Conv2d(3, 4, 4, stride=4)
            self.fc = nn.Linear(4, 2)
            with torch.no_grad():
                self.stage.weight.copy_(Draws(0, "w").normal(4, 3, 4, 4))

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(self.stage(images).mean(dim=(2, 3)))

    engine = Engine(Network(name="signed", module=Signed(), size=32, layer="stage"), device="cpu", precision="fp32")
    with pytest.raises(LimenError, match="given activations as low as -.*any sign: semi_nmf"):
        craft(engine, pictures(3), target_class=1, k=2)
    assert craft(engine, pictures(3), target_class=1, k=2, method="semi_nmf").codes.min() >= 0


@pytest.mark.parametrize(
    "options", [{"importance": "halton"}, {"target_class": 2}, {"method": "nmff"}, {"layer": "stag"}]
)
def test_what_does_not_exist_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(LimenError, match="allowed"):
        craft(planted(), pictures(2), **{"target_class": 1, "k": 2, "crop": 10, **options})


def additive(k: int = 25, n: int = 40) -> tuple[Engine, Tensor, Concepts, np.ndarray]:
    """Return an additive score of `k` concepts, images, their space, and the true total indices, which sum to 1."""

    class Additive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat = nn.Flatten()
            self.fc = nn.Linear(3 * k, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.fc(self.flat(inputs))

    engine = Engine(Network(name="additive", module=Additive()), device="cpu", precision="fp32", batch_size=4096)
    atoms = torch.eye(3 * k)[:k]
    space = Concepts(
        Dictionary(name="planted", atoms=atoms, mean=torch.zeros(3 * k), encoder="linear", signed=True,
                   parameters={"filters": atoms}),
        "flat",
    )  # fmt: skip
    images = Draws(0).normal(n, 3, k, 1)
    with torch.no_grad():
        engine.network.module.fc.weight.copy_(Draws(1).normal(2, 3 * k))
    squares = (images.flatten(1)[:, :k] * engine.network.module.fc.weight[1, :k]).square()
    return engine, images, space, (squares / squares.sum(dim=1, keepdim=True)).numpy()


def test_scrambled_sobol_importance_sums_to_one_on_an_additive_score() -> None:
    """25 concepts and 64 rows: each sum is noisy, their mean over images and seeds is 1 within its own error."""
    engine, images, space, truth = additive()
    runs = np.stack(
        [explain("sobol", engine, images, 1, space=space, seed=seed, samples=64)[:, 0].numpy() for seed in range(4)]
    )
    sums = runs.sum(axis=2)
    # Images share a design, so the seeds are the independent repetitions.
    error = sums.mean(axis=1).std(ddof=1) / 2
    assert abs(sums.mean() - 1) < 3 * error + 0.02
    assert error < 0.05
    assert np.abs(runs.mean(axis=0) - truth).mean() < 0.01


def shipped(cells: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the unscrambled Halton designs A and B (n, cells) that CRAFT's own code draws."""
    primes = [p for p in range(2, 400) if all(p % q for q in range(2, int(p**0.5) + 1))][: 2 * cells]
    points = np.zeros((samples, 2 * cells))
    for column, base in enumerate(primes):
        for row in range(samples):
            index, weight = row, 1.0
            while index:
                weight /= base
                index, digit = divmod(index, base)
                points[row, column] += weight * digit
    return points[:, :cells], points[:, cells:]


def test_the_unscrambled_design_of_the_published_code_misses_most_of_it() -> None:
    """Slow twin of Jansen's estimate, on CRAFT's Halton points: .21 of 1 at 25 concepts that all add, and 32 rows."""
    first, second = shipped(25, 32)
    sums = []
    for effects in Draws(2).numpy().exponential(size=(200, 25)):
        plain = first @ effects
        total = 0.0
        for concept in range(25):
            mixed = first.copy()
            mixed[:, concept] = second[:, concept]
            total += ((plain - mixed @ effects) ** 2).mean() / (2 * plain.var())
        sums.append(total)
    assert np.mean(sums) == pytest.approx(0.21, abs=0.03)


@pytest.mark.long
def test_concepts_of_a_deep_network_come_apart_with_the_seed() -> None:
    images = load_images("scenes", n=40, seed=0)
    engine = Engine(load_network("untrained@scenes", progress=False), device="cpu", precision="fp32")
    last = engine.default_layer(engine.inputs(images.pictures[:1]))
    own = images.pictures[images.labels == images.labels[0]]
    result = craft(engine, own, target_class=int(images.labels[0]), k=6, layer=last)
    np.testing.assert_allclose(
        result.importance.sum(axis=1), 1, atol=1e-5 if result.estimator == "closed form" else 0.5
    )
    earlier = engine.layers()[
        max(i for i, name in enumerate(engine.layers()) if name.startswith("stage") and name < last)
    ]
    parts, again = (result.recurse(int(result.order[0]), earlier.split(".")[0], k=3) for _ in range(2))
    np.testing.assert_array_equal(parts.importance, again.importance)
    assert parts.top_crops(2).shape[:2] == (3, 2)
    assert isinstance(parts.crops, Crops)
