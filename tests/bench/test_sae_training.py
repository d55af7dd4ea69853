"""The loop behind the sparse autoencoders: resumed to the bit, the same on several processes, streamed, told apart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import bench.engine.sparse_fit as loop
from bench.dictionaries._sparse import Training
from bench.engine import Draws
from bench.engine.activations import Activations
from bench.engine.sparse_fit import Schedule, fit_sparse
from bench.engine.sparse_fit_model import Step
from bench.registry import DICTIONARIES, LimenError
from bench.spaces.dictionary import Dictionary

SPARSE = ["sae", "topk", "batch_topk", "jumprelu", "matching_pursuit", "matryoshka"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(n: int = 400, d: int = 10) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0)).relu()


def fit(name: str, data: Tensor | Activations, **options: object) -> Dictionary:
    return DICTIONARIES.load(name)(data, 24, draws=Draws(0), **{"steps": 90, "batch_size": 64} | options)


def same(one: Dictionary, other: Dictionary) -> bool:
    tensors = [(one.atoms, other.atoms), (one.mean, other.mean)]
    tensors += [(value, other.parameters[name]) for name, value in one.parameters.items()]
    return all(torch.equal(first, second) for first, second in tensors) and one.provenance == other.provenance


class Killed(Exception):
    pass


def killer(at: int):
    def progress(step: int, steps: int) -> None:
        if step == at:
            raise Killed

    return progress


@pytest.mark.parametrize("name", SPARSE)
def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 25)
    more = {} if name == "matching_pursuit" else {"dead_after": 100}
    unbroken = fit(name, rows(), **more)
    file = tmp_path / "fit.safetensors"
    seen: list[int] = []
    with pytest.raises(Killed):
        fit(name, rows(), checkpoint=file, progress=killer(60), **more)
    resumed = fit(name, rows(), checkpoint=file, progress=lambda step, steps: seen.append(step), **more)
    assert seen == list(range(51, 91))
    assert same(resumed, unbroken)
    assert same(fit(name, rows(), checkpoint=file, **more), unbroken)


def test_nothing_but_the_checkpoint_is_left_behind(tmp_path: Path) -> None:
    fit("topk", rows(), checkpoint=tmp_path / "new" / "fit.safetensors")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["fit.safetensors"]


@pytest.mark.parametrize(
    "other", [{"steps": 91}, {"batch_size": 63}, {"active": 3}, {"learning_rate": 0.1}, {"data": rows(401)}]
)
def test_a_checkpoint_of_another_fit_is_refused(other: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "fit.safetensors"
    fit("topk", rows(), checkpoint=file)
    data = other.pop("data", rows())
    with pytest.raises(
        LimenError, match="dictionary 'topk', checkpoint .*given that of a fit with other data, options"
    ):
        fit("topk", data, checkpoint=file, **other)  # type: ignore[arg-type]


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "fit.safetensors"
    file.write_bytes(b"nothing")
    with pytest.raises(LimenError, match="not a checkpoint of a fit"):
        fit("topk", rows(), checkpoint=file)


def test_progress_is_told_after_every_step() -> None:
    seen: list[tuple[int, int]] = []
    fit("topk", rows(), steps=7, progress=lambda step, steps: seen.append((step, steps)))
    assert seen == [(step, 7) for step in range(1, 8)]


@pytest.mark.parametrize("name", SPARSE)
def test_a_stream_of_files_gives_the_dictionary_of_the_same_rows_in_memory(name: str, tmp_path: Path) -> None:
    data = rows()
    shards = []
    for index, part in enumerate(data.split(150)):
        part.numpy().tofile(tmp_path / str(index))
        shards.append(torch.from_file(str(tmp_path / str(index)), size=part.numel()).view(-1, data.shape[1]))
    assert same(fit(name, Activations(tuple(shards))), fit(name, data))


def test_the_rate_rises_and_falls() -> None:
    schedule = Schedule(200, 1, 1e-3)
    rates = [schedule.rate_at(step) for step in range(200)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[9] == pytest.approx(1e-3)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-6, rel=0.2)


def test_steps_are_passes_over_the_rows_and_no_fewer_than_a_thousand() -> None:
    assert Training().schedule(500, 100, "topk") == Schedule(1000, 500, pytest.approx(2e-4 * (2**14 / 100) ** 0.5))
    assert Training().schedule(10**6, 6144, "topk").steps == 20 * 977
    assert Training(steps=3).schedule(10**6, 6144, "topk").steps == 3


class Slope:
    """One number, pushed with a slope of `size`."""

    def __init__(self, size: float) -> None:
        self.size, self.value = size, torch.zeros(1, requires_grad=True)
        self.seen: list[Tensor] = []

    def parameters(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def buffers(self) -> dict[str, Tensor]:
        return {}

    def loss(self, batch: Tensor, step: Step) -> Tensor:
        self.seen.append(batch)
        return self.size * self.value.sum() * len(batch) / step.rows

    def project(self) -> None:
        pass


def run(model: Slope, steps: int = 10, **options: object) -> Tensor:
    schedule = Schedule(steps, 8, 0.1, **options)  # type: ignore[arg-type]
    return fit_sparse(model, Activations.of(rows()), schedule, draws=Draws(0), where="here").losses


@pytest.mark.parametrize("clip", [1.0, 2.0, None])
def test_the_gradient_is_clipped_as_the_library_clips_it(clip: float | None) -> None:
    sizes, twin = [5.0, 0.5, 40.0, 1.5], torch.zeros(1, requires_grad=True)
    schedule = Schedule(len(sizes), 8, 0.1, clip=clip)
    adam = torch.optim.Adam([twin], lr=0.1)
    ours = Slope(0.0)

    def loss(batch: Tensor, step: Step) -> Tensor:
        return sizes[step.index] * ours.value.sum()

    ours.loss = loss  # type: ignore[method-assign]
    for index, size in enumerate(sizes):
        adam.zero_grad()
        (size * twin.sum()).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([twin], clip)
        adam.param_groups[0]["lr"] = schedule.rate_at(index)
        adam.step()
    fit_sparse(ours, Activations.of(rows()), schedule, draws=Draws(0), where="here")
    torch.testing.assert_close(ours.value, twin, rtol=1e-5, atol=1e-7)


def test_losses_of_all_steps_are_kept() -> None:
    model = Slope(1.0)
    losses = run(model)
    assert losses.shape == (10,)
    assert losses[0] == 0
    assert (losses[1:] < losses[:-1]).all()


def test_batches_do_not_depend_on_where_a_fit_started() -> None:
    first, second = Slope(1.0), Slope(1.0)
    run(first)
    run(second, steps=4)
    assert all(torch.equal(one, other) for one, other in zip(first.seen, second.seen, strict=False))


def test_parameters_that_are_not_finite_are_told() -> None:
    with pytest.raises(LimenError, match="here: the parameters are no longer finite at a learning rate of 0.1"):
        run(Slope(float("nan")))


def test_the_precision_is_audited_where_it_could_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_ENOUGH_WORK", 0)
    monkeypatch.setattr(loop, "has_bfloat16_units", lambda device: True)
    facts = fit("topk", rows(d=64)).provenance["precision"]
    assert facts["asked"] == "auto"
    assert facts["used"] == "bf16"
    assert facts["first_loss_bf16"] == pytest.approx(facts["first_loss_fp32"], rel=0.01)
    monkeypatch.setattr(loop, "_AGREE", -1.0)
    assert fit("topk", rows(d=64)).provenance["precision"]["used"] == "fp32"


def test_the_audit_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fit("batch_topk", rows(), precision="fp32")
    monkeypatch.setattr(loop, "_ENOUGH_WORK", 0)
    monkeypatch.setattr(loop, "has_bfloat16_units", lambda device: True)
    monkeypatch.setattr(loop, "_AGREE", -1.0)
    assert torch.equal(fit("batch_topk", rows()).atoms, plain.atoms)


@pytest.mark.parametrize("name", SPARSE)
def test_in_bfloat16_the_loss_ends_where_it_does_in_float32(name: str) -> None:
    low, exact = (
        fit(name, rows(d=32), precision=precision, steps=200).provenance["last_loss"] for precision in ("bf16", "fp32")
    )
    assert low == pytest.approx(exact, rel=0.03)


FITTER = """
import os, signal, sys, torch
from pathlib import Path
from bench.engine import Draws
from bench.registry import DICTIONARIES
torch.set_num_threads(1)
name, file, at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
data = torch.randn(400, 10, generator=torch.Generator().manual_seed(0)).relu()
def progress(step, steps):
    if step == at:
        os.kill(os.getpid(), signal.SIGKILL)
DICTIONARIES.load(name)(data, 24, draws=Draws(0), steps=1200, batch_size=64, checkpoint=file, progress=progress)
"""


@pytest.mark.long
def test_a_fit_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    file = tmp_path / "fit.safetensors"
    ended = subprocess.run([sys.executable, "-c", FITTER, "batch_topk", str(file), "700"], check=False)
    assert ended.returncode == -signal.SIGKILL
    seen: list[int] = []
    resumed = fit("batch_topk", rows(), steps=1200, checkpoint=file, progress=lambda step, steps: seen.append(step))
    assert seen[0] == 501
    assert same(resumed, fit("batch_topk", rows(), steps=1200))


SHARED = """
import sys, torch
from bench.engine import Draws
from bench.registry import DICTIONARIES
torch.set_num_threads(1)
data = torch.randn(400, 10, generator=torch.Generator().manual_seed(0)).relu()
for name in sys.argv[2:]:
    more = {} if name == "matching_pursuit" else {"dead_after": 100}
    one = DICTIONARIES.load(name)(data, 24, draws=Draws(0), steps=90, batch_size=64, **more)
    rank = torch.distributed.get_rank()
    one.save(f"{sys.argv[1]}/{name}.{rank}")
# A process that leaves while the other still talks to it would tear the connection.
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.long
def test_two_processes_fit_the_dictionary_of_one(tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text(SHARED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*command, str(script), str(tmp_path), *SPARSE], check=False, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    for name in SPARSE:
        more = {} if name == "matching_pursuit" else {"dead_after": 100}
        alone = fit(name, rows(), **more)
        first, second = (Dictionary.load(tmp_path / f"{name}.{rank}") for rank in (0, 1))
        assert same(first, second)
        torch.testing.assert_close(first.atoms, alone.atoms, rtol=0, atol=1e-3)
        assert json.loads(json.dumps(first.provenance))["last_loss"] == pytest.approx(
            alone.provenance["last_loss"], rel=1e-4
        )
