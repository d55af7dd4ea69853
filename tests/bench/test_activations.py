"""Rows of a layer in memory and on disk: the same batches, resumed to the bit, and no more memory for more rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import fit_dictionary
from bench.engine import Activations, Draws, Engine, Network
from bench.engine.content import digests
from bench.registry import LimenError
from bench.spaces.dictionary import fit_rows, fitted_on


def rows(n: int = 1000, d: int = 3) -> Tensor:
    """Rows that tell their own number."""
    return torch.arange(n).float()[:, None].repeat(1, d)


def pictures(count: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def engine(conv_network: Network) -> Engine:
    return Engine(conv_network, device="cpu", precision="fp32")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def first(stream: Activations, count: int, size: int = 64, **options: int) -> list[Tensor]:
    return list(islice(stream.batches(size, draws=Draws(1), **options), count))


def test_maps_become_a_row_a_position() -> None:
    maps = torch.randn(4, 5, 2, 3)
    stream = Activations.of(maps)
    assert stream.shape == (24, 5)
    assert (stream.positions, stream.grid) == (6, (2, 3))
    image, position = stream.image_of(torch.tensor([0, 7, 23]))
    assert torch.equal(stream.all()[7], maps[1, :, 0, 1])
    assert image.tolist() == [0, 1, 3]
    assert position.tolist() == [0, 1, 5]


def test_an_epoch_visits_every_row_once() -> None:
    seen = torch.cat(first(Activations.of(rows(960)), 15))[:, 0]
    assert torch.equal(seen.sort().values, torch.arange(960.0))
    assert not torch.equal(seen, torch.arange(960.0))


def test_rows_left_over_at_the_end_of_an_epoch_are_dropped() -> None:
    stream = Activations.of(rows(1000))
    epochs = [torch.cat(first(stream, 15, start=15 * epoch))[:, 0] for epoch in range(3)]
    assert all(len(epoch.unique()) == 960 for epoch in epochs)
    assert len({tuple(epoch.sort().values.tolist()) for epoch in epochs}) == 3


def test_a_batch_depends_on_its_number_alone() -> None:
    stream = Activations.of(rows())
    batches = first(stream, 40)
    for index in (0, 1, 14, 15, 33):
        assert torch.equal(first(stream, 1, start=index)[0], batches[index])


def test_the_parts_of_the_processes_are_the_batch_of_one() -> None:
    stream = Activations.of(rows())
    parts = [first(stream, 20, rank=rank, world=3) for rank in range(3)]
    for index, whole in enumerate(first(stream, 20)):
        assert torch.equal(torch.cat([part[index] for part in parts]), whole)
        assert {len(part[index]) for part in parts} == {21, 22}


def test_fewer_rows_than_a_batch_are_one_batch() -> None:
    (batch,) = first(Activations.of(rows(10)), 1)
    assert torch.equal(batch[:, 0].sort().values, torch.arange(10.0))


@pytest.mark.parametrize("options", [{"size": 0}, {"start": -1}, {"rank": 2, "world": 2}, {"world": 0}])
def test_batches_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(LimenError, match="activations, batches: given size"):
        next(Activations.of(rows()).batches(**{"size": 64, **options}, draws=Draws(0)))


def test_neighbours_end_up_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows much smaller than the data: the rows of a batch must still come from all over it."""
    monkeypatch.setattr("bench.engine.activations._WINDOW", 8192)
    stream = Activations.of(rows(100_000, 1))
    batches = torch.stack(first(stream, 300, size=256))[:, :, 0]
    within, between = batches.var(dim=1).mean(), batches.mean(dim=1).var() * 256
    # Independent rows have a ratio of 1; a batch of neighbours has one of 256 / (256 / 100000) ** 2.
    assert within / 100_000**2 * 12 > 0.95
    assert between / within < 10


def test_a_sample_holds_different_rows() -> None:
    drawn = Activations.of(rows()).sample(500, Draws(2))[:, 0]
    assert len(drawn.unique()) == 500
    assert not torch.equal(drawn, drawn.sort().values)
    with pytest.raises(LimenError, match="given 1001 rows, allowed is 1 to 1000"):
        Activations.of(rows()).sample(1001, Draws(2))


def test_moments_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.engine.activations._CHUNK", 100)
    data = 1e4 + torch.randn(999, 4, generator=torch.Generator().manual_seed(0))
    mean, spread = Activations.of(data).moments()
    torch.testing.assert_close(mean, data.double().mean(dim=0), rtol=1e-14, atol=0)
    torch.testing.assert_close(spread, data.double().std(dim=0, correction=0), rtol=1e-12, atol=0)


def test_recorded_rows_are_what_the_layer_holds(engine: Engine, tmp_path: Path) -> None:
    stream = Activations.record(engine, pictures(), "stage", tmp_path, shard_rows=400)
    held = engine.tap(engine.inputs(pictures()), "stage")
    torch.testing.assert_close(stream.all(), Activations.of(held).all(), rtol=0, atol=1e-5)
    assert (len(stream.shards), stream.positions, stream.grid) == (4, 64, (8, 8))
    assert stream.facts["fingerprint"] == engine.network.fingerprint


def test_where_rows_lie_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    stream = Activations.record(engine, pictures(), "stage", tmp_path, shard_rows=400)
    memory = Activations.of(stream.all())
    for one, other in zip(first(stream, 30), first(memory, 30), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(stream.sample(50, Draws(0)), memory.sample(50, Draws(0)))
    assert stream.digest == memory.digest == digests(stream.all()[None])[0]
    assert fitted_on(stream, Draws(0)) == fitted_on(memory.all(), Draws(0))


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 9, 20])
def test_a_recording_that_was_killed_ends_the_same(engine: Engine, tmp_path: Path, stop: int) -> None:
    def dies(done: int, _: int) -> None:
        if done >= stop:
            raise Killed

    Activations.record(engine, pictures(), "stage", tmp_path / "whole", shard_rows=400)
    with pytest.raises(Killed):
        Activations.record(engine, pictures(), "stage", tmp_path / "cut", shard_rows=400, progress=dies)
    with pytest.raises(LimenError, match="given unfinished activations; record them again to go on"):
        Activations.open(tmp_path / "cut")
    with engine.meter() as cost:
        Activations.record(engine, pictures(), "stage", tmp_path / "cut", shard_rows=400)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert cost.forwards == 20 - (stop - 1) // 6 * 6


def test_pictures_may_come_one_by_one(engine: Engine, tmp_path: Path) -> None:
    def lazily() -> Iterator[np.ndarray]:
        yield from pictures()[:7]
        yield pictures()[7:]

    Activations.record(engine, pictures(), "stage", tmp_path / "array")
    Activations.record(engine, lazily(), "stage", tmp_path / "lazy")
    assert contents(tmp_path / "array") == contents(tmp_path / "lazy")


def test_half_precision_is_the_nearest_of_each_number(engine: Engine, tmp_path: Path) -> None:
    exact = Activations.record(engine, pictures(), "stage", tmp_path / "exact").all()
    half = Activations.record(engine, pictures(), "stage", tmp_path / "half", dtype="bfloat16")
    assert torch.equal(half.all(), exact.bfloat16().float())
    assert half.digest == Activations.of(half.all()).digest


def test_pooled_rows_are_the_means_over_positions(engine: Engine, tmp_path: Path) -> None:
    stream = Activations.record(engine, pictures(), "stage", tmp_path, pool=True)
    torch.testing.assert_close(stream.all(), engine.tap(engine.inputs(pictures()), "stage").mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "stem"}, "layer: given stem, allowed is stage, with which they were begun"),
        ({"dtype": "bfloat16"}, "dtype: given bfloat16, allowed is float32"),
        ({"pictures": pictures(seed=1)}, "given pictures .* allowed are those it was made from"),
        ({"pictures": pictures(24)}, "given 24 pictures, allowed are the 20 it was made from"),
    ],
)
def test_a_folder_of_something_else_is_refused(
    engine: Engine, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    given = {"pictures": pictures(), "layer": "stage", "shard_rows": 640, "dtype": "float32"}
    Activations.record(engine, folder=tmp_path, **given)  # type: ignore[arg-type]
    with pytest.raises(LimenError, match=message):
        Activations.record(engine, folder=tmp_path, **{**given, **change})  # type: ignore[arg-type]


def test_a_shard_cut_short_is_refused(engine: Engine, tmp_path: Path) -> None:
    Activations.record(engine, pictures(), "stage", tmp_path)
    with (tmp_path / "rows-00000.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(LimenError, match="given 100 bytes in rows-00000.bin, allowed is 61440"):
        Activations.open(tmp_path)


def test_a_fitter_of_all_rows_is_given_some_of_a_long_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.spaces.dictionary.FIT_NUMBERS", 300)
    assert fit_rows(Activations.of(rows()), "pca").shape == (100, 3)
    assert torch.equal(fit_rows(Activations.of(rows(90)), "pca"), rows(90))


def test_a_dictionary_is_fitted_to_a_stream() -> None:
    data = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    on_stream, on_rows = fit_dictionary("pca", Activations.of(data), 3), fit_dictionary("pca", data, 3)
    assert torch.equal(on_stream.atoms, on_rows.atoms)
    assert on_stream.provenance == on_rows.provenance


def held_by_process() -> int:
    """Bytes of memory of this process that no file backs: what the kernel cannot take back."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel does not tell what a process holds")
def test_an_epoch_holds_a_window_whatever_the_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """256 MB of rows go by twice; no more than a few windows of 4 MB may be held."""
    monkeypatch.setattr("bench.engine.activations._WINDOW", 2**20)
    monkeypatch.setattr("bench.engine.activations._CHUNK", 2**20)
    shards, rows_each, d = 4, 2**17, 128
    facts = []
    for number in range(shards):
        with (tmp_path / f"rows-{number}.bin").open("wb") as file:
            file.truncate(rows_each * d * 4)
        facts.append({"file": f"rows-{number}.bin", "rows": rows_each})
    index = {"dtype": "float32", "features": d, "positions": 1, "grid": None, "shards": facts, "digest": "zeros"}
    (tmp_path / "index.json").write_text(json.dumps(index))
    stream = Activations.open(tmp_path)
    before, most, seen = held_by_process(), 0, 0
    for batch in islice(stream.batches(4096, draws=Draws(0)), len(stream) // 4096):
        most, seen = max(most, held_by_process()), seen + len(batch)
    for chunk in stream.chunks():
        most, seen = max(most, held_by_process()), seen + len(chunk)
    stream.moments()
    assert seen == 2 * len(stream) == 2 * shards * rows_each
    assert max(most, held_by_process()) - before < 2**26
