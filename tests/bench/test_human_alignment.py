"""Human alignment beside a slow twin: rank correlation, overlap of the tops, the exact null, and whose map is whose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from bench import api
from bench.engine import Engine, Network
from bench.images import picture_hash
from bench.registry import LimenError
from bench.store import Store

COUNT, SIDE = 6, 16


class Blind(torch.nn.Module):
    """Two logits of the mean colour."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))[:, :2]


@pytest.fixture(scope="module")
def engine() -> Engine:
    network = Network(
        name="blind", module=Blind(), classes=("no", "yes"), size=SIDE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)
    )
    return Engine(network, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)


def hold(root: Path, pictures: np.ndarray, maps: np.ndarray, halves: float = 2 / 3) -> str:
    """Write human maps of some pictures, in another order than the pictures."""
    order = np.random.default_rng(1).permutation(len(maps))
    rows = pd.DataFrame(
        {
            "image_id": [f"image {i}" for i in order],
            "index": order,
            "pixels": [picture_hash(pictures[i]) for i in order],
            "people": 9,
            "halves": halves,
            "null": 0.0,
        }
    )
    with Store(root).write("human_maps", {"of": "a test", "sum": float(maps.sum())}) as draft:
        draft.write_rows(rows, "rows.parquet")
        draft.write_tensors({"maps": maps[order].astype(np.float32)}, "maps.safetensors")
    return str(next(iter(Store(root).all("human_maps"))).path)


def noise(side: int = SIDE, seed: int = 2, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, side, side))


def score(engine: Engine, pictures: np.ndarray, maps: np.ndarray, human: str, **options: object) -> api.ScoreResult:
    return api.score("human_alignment", engine, pictures, maps[:, None], 0, human=human, **options)


def test_values_null_and_tops_are_those_of_a_slow_twin(engine: Engine, pictures: np.ndarray, tmp_path: Path) -> None:
    humans, maps = np.abs(noise(seed=3)), noise()
    found = score(engine, pictures, maps, hold(tmp_path, pictures, humans))
    table = np.array([[stats.spearmanr(abs(m).ravel(), h.ravel()).statistic for h in humans] for m in maps])
    np.testing.assert_allclose(found.values, np.diag(table), atol=1e-9)
    others = [(table[i].sum() - table[i, i]) / (COUNT - 1) for i in range(COUNT)]
    np.testing.assert_allclose(found.null, others, atol=1e-9)
    count = round(0.1 * SIDE * SIDE)
    for i in range(COUNT):
        tops = [set(np.argsort(-one.ravel(), kind="stable")[:count]) for one in (abs(maps[i]), humans[i])]
        shared = len(tops[0] & tops[1])
        assert found.extra["dice"][i] == pytest.approx(shared / count)
        assert found.extra["iou"][i] == pytest.approx(shared / len(tops[0] | tops[1]))
    np.testing.assert_allclose(found.ceiling, 0.8)
    np.testing.assert_allclose(found.extra["normalised"], np.diag(table) / 0.8)


def test_peoples_own_maps_align_whole_whatever_their_order(
    engine: Engine, pictures: np.ndarray, tmp_path: Path
) -> None:
    humans = np.abs(noise(seed=3))
    found = score(engine, pictures, humans, hold(tmp_path, pictures, humans))
    np.testing.assert_allclose(found.values, 1)
    np.testing.assert_allclose(found.extra["iou"], 1)
    assert abs(found.null).max() < 0.5


def test_noise_is_at_the_null(engine: Engine, tmp_path: Path) -> None:
    many = np.random.default_rng(5).integers(0, 256, (60, SIDE, SIDE, 3)).astype(np.uint8)
    found = score(engine, many, noise(seed=6, count=60), hold(tmp_path, many, np.abs(noise(seed=7, count=60))))
    assert abs((found.values - found.null).mean()) < 3 * found.values.std() / np.sqrt(60)


def test_maps_of_another_size_are_averaged_over_areas(engine: Engine, pictures: np.ndarray, tmp_path: Path) -> None:
    humans, maps = np.abs(noise(side=4, seed=3)), noise()
    found = score(engine, pictures, maps, hold(tmp_path, pictures, humans))
    small = abs(maps).reshape(COUNT, 4, 4, 4, 4).mean(axis=(2, 4))
    twin = [stats.spearmanr(m.ravel(), h.ravel()).statistic for m, h in zip(small, humans, strict=True)]
    np.testing.assert_allclose(found.values, twin, atol=1e-6)


def test_images_without_a_human_map_have_no_value(engine: Engine, pictures: np.ndarray, tmp_path: Path) -> None:
    human = hold(tmp_path, pictures[:4], np.abs(noise(seed=3))[:4])
    found = score(engine, pictures, noise(), human)
    assert np.isfinite(found.values).tolist() == [True] * 4 + [False] * 2
    assert found.n == 4
    assert "4 of 6 images have one" in found.convention


def test_a_constant_map_has_no_value(engine: Engine, pictures: np.ndarray, tmp_path: Path) -> None:
    maps = noise()
    maps[2] = 1.0
    found = score(engine, pictures, maps, hold(tmp_path, pictures, np.abs(noise(seed=3))))
    assert np.isnan(found.values[2])
    assert np.isnan(found.extra["dice"][2])
    assert np.isfinite(np.delete(found.values, 2)).all()


def test_the_published_ceiling_is_used_only_by_its_name(engine: Engine, pictures: np.ndarray, tmp_path: Path) -> None:
    human = hold(tmp_path, pictures, np.abs(noise(seed=3)))
    plain = score(engine, pictures, noise(), human)
    named = score(engine, pictures, noise(), human, preset="harmonization")
    np.testing.assert_allclose(named.values, plain.values)
    np.testing.assert_allclose(named.ceiling, 0.65753)
    np.testing.assert_allclose(named.extra["normalised"], plain.values / 0.65753)
    assert "published" in named.convention


def test_where_people_do_not_agree_nothing_is_divided_by_their_ceiling(
    engine: Engine, pictures: np.ndarray, tmp_path: Path
) -> None:
    found = score(engine, pictures, noise(), hold(tmp_path, pictures, np.abs(noise(seed=3)), halves=-0.1))
    assert np.isfinite(found.values).all()
    assert np.isnan(found.extra["normalised"]).all()


def test_what_is_no_folder_of_human_maps_is_refused(engine: Engine, pictures: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(LimenError, match="limen analyze maps"):
        score(engine, pictures, noise(), str(tmp_path))


def test_maps_of_other_pictures_are_refused_or_taken_by_place(
    engine: Engine, pictures: np.ndarray, tmp_path: Path
) -> None:
    humans = np.abs(noise(seed=3))
    human = hold(tmp_path, 255 - pictures, humans)
    with pytest.raises(LimenError, match="none of the 6 images"):
        score(engine, pictures, humans, human)
    np.testing.assert_allclose(score(engine, pictures, humans, human, match="index").values, 1)


def test_a_changed_file_is_refused(engine: Engine, pictures: np.ndarray, tmp_path: Path) -> None:
    human = hold(tmp_path, pictures, np.abs(noise(seed=3)))
    file = Path(human) / "rows.parquet"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(LimenError, match="rows.parquet"):
        score(engine, pictures, noise(), human)


def test_maps_of_other_proportions_are_refused(engine: Engine, pictures: np.ndarray, tmp_path: Path) -> None:
    human = hold(tmp_path, pictures, np.abs(noise(seed=3))[:, :8])
    with pytest.raises(LimenError, match="equal proportions"):
        score(engine, pictures, noise(), human)
