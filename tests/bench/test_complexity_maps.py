"""Entropy, effective complexity and compressed size of maps: closed forms, slow twins and an outside codec."""

from __future__ import annotations

import io
import math
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from bench.api import ScoreResult, null, score
from bench.engine import Engine

NAMES = ["complexity", "effective_complexity", "compressed_size"]


def measure(name: str, engine: Engine, maps: Tensor, **options: object) -> ScoreResult:
    maps = maps.reshape(-1, 1, *maps.shape[-2:])
    images = torch.zeros(len(maps), 3, *maps.shape[-2:])
    return score(name, engine, images, maps, 0, null=np.zeros(len(maps)), **options)


def noise(size: int = 32) -> Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(0))


def one_pixel(level: float = 3.0) -> Tensor:
    maps = torch.zeros(10, 10)
    maps[3, 7] = level
    return maps


@pytest.mark.parametrize("level", [3.0, -3.0, 1e-30])
def test_one_pixel_has_no_entropy_and_counts_one_place(engine: Engine, level: float) -> None:
    assert measure("complexity", engine, one_pixel(level)).values[0] == 0
    assert measure("effective_complexity", engine, one_pixel(level)).values[0] == 1


@pytest.mark.parametrize("level", [0.0, 2.0, -2.0])
def test_a_flat_map_has_the_entropy_of_its_number_of_places(engine: Engine, level: float) -> None:
    found = measure("complexity", engine, torch.full((10, 10), level))
    assert found.values[0] == pytest.approx(math.log(100), abs=1e-12)
    assert found.extra["normalised"][0] == pytest.approx(1, abs=1e-12)


def test_credit_spread_evenly_over_k_places_has_entropy_log_k(engine: Engine) -> None:
    maps = torch.zeros(10, 10)
    maps[:2, :8] = torch.tensor([1.0, -1.0]).repeat(8).reshape(2, 8)
    assert measure("complexity", engine, maps).values[0] == pytest.approx(math.log(16), abs=1e-12)


def test_entropy_equals_scipy_s(engine: Engine) -> None:
    expected = stats.entropy(noise().abs().flatten().double().numpy())
    assert measure("complexity", engine, noise()).values[0] == pytest.approx(expected, abs=1e-12)


def test_the_null_of_the_entropy_is_that_of_uniform_noise(engine: Engine, images: Tensor) -> None:
    floor = null("complexity", engine, images, 0, null_draws=20)
    assert floor.mean() == pytest.approx(math.log(256) - (math.log(2) - 0.5), abs=0.01)


def test_effective_complexity_counts_places_above_a_share_of_the_largest(engine: Engine) -> None:
    maps = torch.tensor([[16.0, -1.0, 0.25], [0.125, 0.0, -0.0625]])
    shares = (0, 1 / 128, 1 / 32, 1 / 16)
    counts = [measure("effective_complexity", engine, maps, eps=eps).values[0] for eps in shares]
    # A place at the threshold is not above it: .125 is a 128th of 16, and -1 a 16th.
    assert counts == [5, 3, 2, 1]


def test_a_zero_map_has_no_effective_place(engine: Engine) -> None:
    assert measure("effective_complexity", engine, torch.zeros(8, 8)).values[0] == 0


def test_an_outlier_in_the_batch_does_not_change_a_count(engine: Engine) -> None:
    """A threshold on maps divided by the batch's largest value would count 0 for the first."""
    alone = measure("effective_complexity", engine, noise(), preset="quantus")
    beside = measure("effective_complexity", engine, torch.stack([noise(), 1e7 * noise().T]), preset="quantus")
    assert beside.values[0] == alone.values[0] > 1000


def test_the_quantus_preset_counts_what_quantus_counts_for_one_map(engine: Engine) -> None:
    sizes = noise().abs() / noise().abs().max()
    sizes[:, ::2] *= 1e-6
    expected = int((sizes / sizes.max() > 1e-5).sum())
    assert measure("effective_complexity", engine, sizes, preset="quantus").values[0] == expected


@pytest.mark.parametrize("name", NAMES)
def test_scale_and_sign_do_not_change_a_value(name: str, engine: Engine) -> None:
    expected = measure(name, engine, noise()).values
    np.testing.assert_allclose(measure(name, engine, -8 * noise()).values, expected, rtol=1e-12)


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_a_flat_map_packs_into_a_few_bytes(engine: Engine, level: float) -> None:
    found = measure("compressed_size", engine, torch.full((64, 64), level))
    assert found.extra["bytes"][0] < 32
    assert found.values[0] < 0.01


def test_uniform_noise_cannot_be_packed(engine: Engine) -> None:
    images = torch.zeros(1, 3, 64, 64)
    np.testing.assert_allclose(null("compressed_size", engine, images, 0), 1, atol=0.005)


def test_a_value_never_exceeds_the_stored_bytes(engine: Engine) -> None:
    maps = torch.rand(20, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    assert (measure("compressed_size", engine, maps).values <= 1).all()


def test_smooth_maps_pack_better_than_the_same_values_shuffled(engine: Engine) -> None:
    lines = torch.linspace(-2, 2, 64)
    blob = torch.exp(-(lines[:, None] ** 2 + lines[None, :] ** 2))
    order = torch.randperm(64 * 64, generator=torch.Generator().manual_seed(0))
    shuffled = blob.flatten()[order].reshape(64, 64)
    smooth, rough = (measure("compressed_size", engine, maps).values[0] for maps in (blob, shuffled))
    assert smooth < 0.5 * rough


def test_the_bytes_can_be_unpacked_into_the_quantised_map(engine: Engine) -> None:
    """The slow twin: each stream by loops, and back."""
    plane = (noise().abs() / noise().abs().max() * 256).floor().clamp(max=255).numpy().astype(int)
    rows = [[(row[i] - (row[i - 1] if i else 0)) % 256 for i in range(32)] for row in plane.tolist()]
    planes = [[(rows[j][i] - (rows[j - 1][i] if j else 0)) % 256 for i in range(32)] for j in range(32)]
    streams = [bytes(int(level) for row in table for level in row) for table in (plane.tolist(), rows, planes)]
    packers = [zlib.compressobj(9, zlib.DEFLATED, -15) for _ in streams]
    packed = [packer.compress(stream) + packer.flush() for packer, stream in zip(packers, streams, strict=True)]
    assert measure("compressed_size", engine, noise()).extra["bytes"][0] == min(map(len, packed))
    undone = np.frombuffer(zlib.decompress(packed[2], -15), np.uint8).reshape(32, 32)
    restored = np.cumsum(np.cumsum(undone, axis=0, dtype=np.uint8), axis=1, dtype=np.uint8)
    assert np.array_equal(restored, plane)


def test_it_ranks_maps_as_the_size_of_their_png_does(engine: Engine) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 1, side, side, generator=generator) for side in (2, 4, 8, 16, 32, 64, 128)]
    grown = torch.cat([torch.nn.functional.interpolate(one, size=128, mode="bilinear") for one in maps])
    found = measure("compressed_size", engine, grown)
    levels = (grown.abs() / grown.abs().amax(dim=(2, 3), keepdim=True) * 256).floor().clamp(max=255)
    sizes = [png_bytes(plane) for plane in levels[:, 0].numpy().astype(np.uint8)]
    assert np.array_equal(np.argsort(found.extra["bytes"]), np.argsort(sizes))
    np.testing.assert_allclose(found.extra["bytes"], sizes, rtol=0.3, atol=150)


def png_bytes(plane: np.ndarray) -> int:
    stream = io.BytesIO()
    Image.fromarray(plane).save(stream, "png", optimize=True)
    return stream.tell()
