"""Sufficiency and consistency: what like explanations say of the class, over the images scored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from bench.api import explain, score
from bench.engine import Engine

METRICS = ("sufficiency", "consistency")


class Side(nn.Module):
    """Class 0 where the left half is brighter, else 1."""

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[-1] // 2
        return torch.stack([images[..., :half].mean(dim=(1, 2, 3)), images[..., half:].mean(dim=(1, 2, 3))], dim=1)


@pytest.fixture
def engine() -> Engine:
    return Engine(Side(), device="cpu", precision="fp32")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def classes(engine: Engine, images: Tensor) -> np.ndarray:
    return engine.scores(images).argmax(dim=1).numpy()


def telling(classes: np.ndarray) -> Tensor:
    """Return maps that are one pattern for each class, under weak noise."""
    source = torch.Generator().manual_seed(1)
    patterns = torch.rand(2, 1, 4, 4, generator=source).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    return patterns[torch.from_numpy(classes)] + 0.01 * torch.rand(len(classes), 1, 16, 16, generator=source)


@pytest.mark.parametrize("metric", METRICS)
def test_maps_that_tell_the_class_score_one_above_their_null(
    engine: Engine, images: Tensor, classes: np.ndarray, metric: str
) -> None:
    assert 8 < classes.sum() < 22
    found = score(metric, engine, images, telling(classes))
    assert (found.values[np.isfinite(found.values)] == 1).all()
    assert found.n > 8
    assert found.gain.low > 0.3


@pytest.mark.parametrize("metric", METRICS)
def test_maps_of_the_other_class_lead_astray(engine: Engine, images: Tensor, classes: np.ndarray, metric: str) -> None:
    mixed = np.where(np.arange(30) % 2 == 0, classes, 1 - classes)
    assert score(metric, engine, images, telling(mixed)).gain.mean < 0.1


@pytest.mark.parametrize("metric", METRICS)
def test_random_maps_sit_at_the_null(engine: Engine, images: Tensor, metric: str) -> None:
    found = [score(metric, engine, images, explain("random", engine, images, seed=seed)) for seed in range(20)]
    gains = np.array([run.gain.mean for run in found])
    assert abs(gains.mean()) < 4 * gains.std(ddof=1) / np.sqrt(20)
    assert gains.std() > 0


@pytest.mark.long
@pytest.mark.parametrize("metric", METRICS)
def test_the_null_is_the_mean_over_maps_dealt_out_anew(
    engine: Engine, images: Tensor, classes: np.ndarray, metric: str
) -> None:
    maps, source = telling(classes), torch.Generator().manual_seed(3)
    options = {"share": 0.4} if metric == "sufficiency" else {}
    runs = [
        score(metric, engine, images, maps[torch.randperm(30, generator=source)], **options).values for _ in range(400)
    ]
    expected = score(metric, engine, images, maps, **options).null
    np.testing.assert_allclose(np.nanmean(runs, axis=0), expected, atol=0.08)
    np.testing.assert_allclose(expected, [((classes == label).sum() - 1) / 29 for label in classes])


def test_sufficiency_equals_its_loop(engine: Engine, images: Tensor, classes: np.ndarray) -> None:
    maps = torch.randn(30, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    found = score("sufficiency", engine, images, maps, share=0.2)
    cells = maps.reshape(30, 8, 2, 8, 2).double().sum(dim=(2, 4)).reshape(30, 64).numpy()
    close = spearmanr(cells, axis=1).statistic
    pairs = np.sort(close[np.triu_indices(30, 1)])[::-1]
    limit = pairs[round(0.2 * len(pairs)) - 1] - 1e-12
    for index in range(30):
        alike = [other for other in range(30) if other != index and close[index, other] >= limit]
        assert found.extra["alike"][index] == len(alike)
        expected = np.mean(classes[alike] == classes[index]) if alike else np.nan
        assert found.values[index] == pytest.approx(expected, nan_ok=True)
    assert found.extra["alike"].sum() == 2 * round(0.2 * len(pairs))


def test_sufficiency_does_not_depend_on_the_scale_of_a_map(engine: Engine, images: Tensor) -> None:
    maps = torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    scale = torch.logspace(-3, 3, 30).reshape(30, 1, 1, 1)
    left, right = (score("sufficiency", engine, images, credit).values for credit in (maps, scale * maps + scale))
    np.testing.assert_allclose(left, right)


@pytest.mark.parametrize(("side", "top"), [(4, 1), (4, 2), (3, 1)])
def test_consistency_equals_its_loop(engine: Engine, images: Tensor, classes: np.ndarray, side: int, top: int) -> None:
    maps = torch.randn(30, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    found = score("consistency", engine, images, maps, side=side, top=top)
    place = np.arange(16) * side // 16
    cells = place[:, None] * side + place
    codes = [
        frozenset(np.argsort([-one[0].numpy()[cells == cell].mean() for cell in range(side * side)])[:top].tolist())
        for one in maps
    ]
    for index in range(30):
        alike = [other for other in range(30) if other != index and codes[other] == codes[index]]
        assert found.extra["alike"][index] == len(alike)
        expected = np.mean(classes[alike] == classes[index]) if alike else np.nan
        assert found.values[index] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("metric", METRICS)
def test_an_image_alone_has_no_value(engine: Engine, images: Tensor, metric: str) -> None:
    found = score(metric, engine, images[:1], torch.rand(1, 1, 16, 16))
    assert np.isnan(found.values).all()
    assert found.extra["alike"].tolist() == [0]


@pytest.mark.parametrize("metric", METRICS)
def test_the_docstring_says_that_the_value_is_one_of_the_set(metric: str) -> None:
    from bench.registry import METRICS as registry

    assert "a property of the set" in (registry.load(metric).__doc__ or "")
