"""IROF: superpixels against a slow twin and scipy, the area against a loop and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from bench.api import ScoreResult, score
from bench.engine import Engine, Network
from bench.metrics.faithfulness._regions import region_ranks
from bench.metrics.faithfulness._superpixels import ITERATIONS, lab, superpixels
from bench.registry import LimenError
from bench.spaces import Pixels


class Sum(nn.Module):
    """Two logits, 0 and the sum of the image plus an offset."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, images: Tensor) -> Tensor:
        value = images.flatten(1).sum(1) + self.offset
        return torch.stack([torch.zeros_like(value), value], dim=1)


def engine_of(module: nn.Module) -> Engine:
    return Engine(module, device="cpu", precision="fp32")


def measured(engine: Engine, images: Tensor, maps: Tensor, **options: Any) -> ScoreResult:
    return score("irof", engine, images, maps, 1, null=np.zeros(len(images)), **options)


@pytest.fixture
def noise() -> Tensor:
    """Three pictures of smooth noise."""
    wide = torch.rand(3, 3, 26, 34, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.avg_pool2d(wide, 3, 1)
    return (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())


def pieces(labels: np.ndarray) -> dict[int, int]:
    """Count the connected pieces of each label, by scipy."""
    return {int(label): ndimage.label(labels == label)[1] for label in np.unique(labels)}


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
        ((0.5, 0.5, 0.5), (53.39, 0.0, 0.0)),
    ],
)
def test_colours_have_their_published_cielab_coordinates(
    colour: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    found = lab(torch.tensor(colour).reshape(1, 3, 1, 1)).flatten()
    np.testing.assert_allclose(found, expected, atol=0.02)


def clustered(points: np.ndarray, tall: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster points (features, H, W) pixel by pixel, in float64; return the labels and the last centres."""
    _, height, width = points.shape
    home = (np.arange(height) * tall // height)[:, None] * wide + (np.arange(width) * wide // width)[None]
    labels = home.copy()
    centres = np.stack([points[:, labels == label].mean(axis=1) for label in range(tall * wide)])
    for _ in range(ITERATIONS):
        for row, column in np.ndindex(height, width):
            up, left = divmod(home[row, column], wide)
            rows, columns = range(max(up - 1, 0), min(up + 2, tall)), range(max(left - 1, 0), min(left + 2, wide))
            near = [r * wide + c for r in rows for c in columns]
            distances = [((points[:, row, column] - centres[label]) ** 2).sum() for label in near]
            labels[row, column] = near[int(np.argmin(distances))]
        for label in np.unique(labels):
            centres[label] = points[:, labels == label].mean(axis=1)
    return labels, centres


def connected(labels: np.ndarray, points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Keep the largest piece of each label, by scipy, and give the rest to the nearest centre beside them."""
    given = np.full_like(labels, -1)
    for label in np.unique(labels):
        numbered, _ = ndimage.label(labels == label)
        given[numbered == 1 + np.argmax(np.bincount(numbered.ravel())[1:])] = label
    while (given < 0).any():
        before = np.pad(given, 1, constant_values=-1)
        for row, column in np.argwhere(given < 0):
            beside = {before[row + down, column + right] for down, right in ((0, 1), (1, 0), (1, 2), (2, 1))} - {-1}
            if beside:
                given[row, column] = min(
                    beside, key=lambda label: ((points[:, row, column] - centres[label]) ** 2).sum()
                )
    return given


@pytest.mark.parametrize("compactness", [2.0, 15.0])
def test_superpixels_equal_a_loop(noise: Tensor, compactness: float) -> None:
    labels, count = superpixels(noise[:1], 12, compactness)
    assert count == 12
    height, width = noise.shape[2:]
    places = compactness / np.sqrt(height * width / count) * np.indices((height, width))
    points = np.concatenate([lab(noise[:1])[0].double().numpy(), places])
    loose, centres = clustered(points, 3, 4)
    assert max(pieces(loose).values()) > 1
    assert np.array_equal(labels[0].numpy(), connected(loose, points, centres))


@pytest.mark.parametrize("compactness", [0.5, 5.0, 20.0])
def test_every_superpixel_is_one_connected_piece(noise: Tensor, compactness: float) -> None:
    labels, count = superpixels(noise, 20, compactness)
    for own in labels.numpy():
        assert own.min() >= 0
        assert own.max() < count
        assert set(pieces(own).values()) == {1}


def test_superpixels_keep_to_the_edges_of_a_picture() -> None:
    picture = torch.zeros(1, 3, 24, 24)
    picture[:, 0], picture[:, 2] = 0.8, 0.1
    inside = torch.zeros(24, 24, dtype=torch.bool)
    inside[5:17, 7:20] = True
    picture[:, :, inside] = torch.tensor([0.1, 0.5, 0.9])[:, None]
    labels, _ = superpixels(picture, 16)
    assert not set(labels[0][inside].tolist()) & set(labels[0][~inside].tolist())


def test_superpixels_of_a_plain_picture_are_the_cells_of_the_grid() -> None:
    labels, count = superpixels(torch.full((1, 3, 12, 12), 0.3), 9)
    cell = np.arange(12) // 4
    assert count == 9
    assert np.array_equal(labels[0], cell[:, None] * 3 + cell[None])


def test_superpixels_do_not_depend_on_the_other_pictures(noise: Tensor) -> None:
    together, _ = superpixels(noise, 30, 4.0)
    for index in range(3):
        assert torch.equal(superpixels(noise[index : index + 1], 30, 4.0)[0][0], together[index])


def test_no_more_superpixels_than_pixels_can_be_had() -> None:
    labels, count = superpixels(torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0)), 500)
    assert count == 9
    assert labels.shape == (1, 3, 3)


def test_regions_without_a_place_rank_last(engine: Engine) -> None:
    maps = torch.tensor([1.0, 1.0, 5.0, -3.0]).reshape(1, 1, 2, 2)
    labels = torch.tensor([[0, 0], [3, 1]])
    rank, present = region_ranks(maps, labels, 5, engine.draws(0).for_images(maps))
    assert rank.flatten().tolist() == [1, 1, 0, 2]
    assert present.tolist() == [3]


def test_irof_of_equal_cells_has_the_hand_computed_area() -> None:
    image = torch.ones(1, 1, 4, 4)
    image[..., :2, 2:], image[..., 2:, :2], image[..., 2:, 2:] = 2, 3, 4
    engine = engine_of(Sum())
    options = {"segmentation": "grid", "segments": 4, "score": "logit"}
    # Cells add 4, 8, 12, 16: ratios 1, .6, .3, .1, 0.
    found = measured(engine, image, image, **options)
    assert found.values[0] == pytest.approx(1 - (0.5 + 0.6 + 0.3 + 0.1) / 4, abs=1e-6)
    assert found.extra["segments"].tolist() == [4]
    counted = measured(engine, image, image, rule="counted", **options)
    assert counted.values[0] == pytest.approx(4 - (0.3 + 0.3 + 0.1), abs=1e-6)


def test_quantus_replaces_by_the_mean_and_leaves_out_the_clean_image() -> None:
    image = torch.ones(1, 1, 4, 4)
    image[..., :2, 2:], image[..., 2:, :2], image[..., 2:, 2:] = 2, 3, 4
    found = measured(engine_of(Sum()), image, image, preset="quantus", segmentation="grid", segments=4, score="logit")
    # The mean is 2.5, so a cell goes to 10: sums 40, 34, 32, 34, 40.
    assert found.values[0] == pytest.approx(4 - (33 + 33 + 37) / 40, abs=1e-6)
    assert "pixels (mean)" in found.convention


@pytest.mark.parametrize("segments", [9, 100])
def test_irof_equals_its_loop_even_where_superpixels_are_empty(engine: Engine, images: Tensor, segments: int) -> None:
    maps = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(8))
    compactness = 1.0
    found = score("irof", engine, images, maps, 2, null=np.zeros(4), segments=segments, compactness=compactness)
    pictures = images * 0.25 + 0.5
    low, high = (pictures.amin(dim=(1, 2, 3), keepdim=True), pictures.amax(dim=(1, 2, 3), keepdim=True))
    labels, count = superpixels((pictures - low) / (high - low), segments, compactness)
    for index in range(4):
        own = labels[index].numpy()
        credit = {label: float(maps[index, 0].numpy()[own == label].mean()) for label in np.unique(own).tolist()}
        gone, heights = np.zeros((16, 16), bool), []
        for label in [None, *sorted(credit, key=lambda label: -credit[label])]:
            gone |= own == label if label is not None else False
            with torch.no_grad():
                logits = engine.network.module((images[index] * torch.from_numpy(~gone))[None])
            heights.append(float(logits.softmax(1)[0, 2]))
        ratios = np.array(heights) / heights[0]
        assert found.values[index] == pytest.approx(1 - np.trapezoid(ratios) / len(credit), abs=1e-5)
        assert found.extra["segments"][index] == len(credit)
    if segments == 100:
        assert (found.extra["segments"] < count).any()


def test_a_score_that_is_not_positive_has_no_ratio() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = measured(engine_of(Sum(-1000.0)), images, images[:, :1], segments=9, score="logit")
    assert np.isnan(found.values).all()
    assert found.extra["undefined"].tolist() == [1, 1]
    fine = measured(engine_of(Sum(-1000.0)), images, images[:, :1], segments=9)
    assert fine.extra["undefined"].tolist() == [1, 1], "a probability that underflows to 0 has no ratio either"


def test_superpixels_come_from_the_picture_before_normalisation(noise: Tensor) -> None:
    """Two networks that see the same picture under other normalisations cut it alike."""
    plain = Network(name="plain", module=Sum(), classes=("a", "b"))
    mean, std = (0.2, 0.5, 0.7), (0.3, 0.2, 0.1)
    shifted = Network(name="shifted", module=Sum(), classes=("a", "b"), mean=mean, std=std)
    picture = noise[:1]
    normalised = (picture - torch.tensor(mean).reshape(1, 3, 1, 1)) / torch.tensor(std).reshape(1, 3, 1, 1)
    maps = torch.rand(1, 1, *picture.shape[2:], generator=torch.Generator().manual_seed(1))
    counts = [
        measured(Engine(network, device="cpu", precision="fp32"), images, maps, segments=120, compactness=2.0)
        for network, images in ((plain, picture), (shifted, normalised))
    ]
    assert counts[0].extra["segments"] == counts[1].extra["segments"]


def test_superpixels_need_pixels_and_a_grid_does_not(engine: Engine, images: Tensor) -> None:
    class Mirrored(Pixels):
        def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
            return images.flip(3)

        def inputs(self, coordinates: Tensor) -> Tensor:
            return coordinates.flip(3)

    maps = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(LimenError, match="metric 'irof', segmentation 'slic'.*'grid' takes any"):
        measured(engine, images, maps, space=Mirrored())
    options = {"segmentation": "grid", "segments": 16}
    np.testing.assert_allclose(
        measured(engine, images, maps.flip(3), space=Mirrored(), **options).values,
        measured(engine, images, maps, **options).values,
        atol=1e-5,
    )
