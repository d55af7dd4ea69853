"""Encoders: what each one promises, kept when saved, and the same codes as entries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.engine.activations import Activations
from bench.registry import LimenError
from bench.spaces import dictionary as dictionary_module
from bench.spaces.dictionary import Dictionary, SparseCodes
from bench.spaces.encoders import ENCODERS
from bench.spaces.pursuit import pursuit

K, D = 12, 16


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(values: Tensor) -> Tensor:
    return values / values.norm(dim=1, keepdim=True)


TENSORS = {
    "filters": numbers(K, D, seed=1),
    "bias": numbers(K, seed=2) * 0.1,
    "biases": numbers(2, K, seed=2) * 0.1,
    "widths": torch.tensor([6.0, 10.0]),
    "gain": numbers(K, seed=3).abs() + 0.5,
    "threshold": numbers(K, seed=4).abs(),
    "centroids": numbers(K, D, seed=5),
    "active": torch.tensor(3.0),
    "scale": numbers(D, seed=6).abs() + 0.5,
}


def made(encoder: str) -> Dictionary:
    needed = ENCODERS[encoder][1]
    atoms = torch.eye(D) if encoder == "identity" else unit(numbers(K, D, seed=7))
    return Dictionary(
        name=encoder,
        atoms=atoms,
        mean=numbers(D, seed=8),
        encoder=encoder,
        signed=True,
        parameters={name: TENSORS[name] for name in needed},
    )


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_saved_encoder_gives_the_same_codes(encoder: str, tmp_path: Path) -> None:
    dictionary, rows = made(encoder), numbers(50, D, seed=9)
    dictionary.save(tmp_path / "d.safetensors")
    assert torch.equal(Dictionary.load(tmp_path / "d.safetensors").encode(rows), dictionary.encode(rows))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_entries_are_the_codes(encoder: str) -> None:
    dictionary, rows = made(encoder), numbers(50, D, seed=9)
    codes, entries = dictionary.encode(rows), dictionary.encode_sparse(rows)
    torch.testing.assert_close(entries.dense(), codes, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(dictionary.decode(entries), dictionary.decode(codes), rtol=1e-5, atol=1e-5)
    assert torch.equal(entries.active(), (codes != 0).sum(dim=1))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_size_of_the_batch_changes_no_code(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary, rows = made(encoder), numbers(50, D, seed=9)
    whole = dictionary.encode_sparse(rows).dense()
    monkeypatch.setattr(dictionary_module, "CODE_NUMBERS", 7 * dictionary.k)
    torch.testing.assert_close(dictionary.encode_sparse(rows).dense(), whole, rtol=1e-6, atol=1e-6)
    single = torch.cat([dictionary.encode(row[None]) for row in rows])
    torch.testing.assert_close(single, whole, rtol=1e-6, atol=1e-6)


def test_a_stream_of_shards_is_coded_in_order() -> None:
    dictionary, rows = made("topk"), numbers(50, D, seed=9)
    entries = dictionary.encode_sparse(Activations((rows[:20], rows[20:])))
    assert entries.shape == (50, K)
    assert torch.equal(entries.dense(), dictionary.encode(rows))


def test_maps_are_coded_position_by_position() -> None:
    dictionary, maps = made("topk"), numbers(3, D, 2, 4)
    assert torch.equal(dictionary.encode_sparse(maps).dense(), dictionary.encode(maps).reshape(-1, K))


def test_a_code_matrix_that_would_not_fit_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary, sizes = made("threshold"), []
    encode, parameters = ENCODERS["threshold"]

    def watched(centred: Tensor, atoms: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        sizes.append(len(centred))
        return encode(centred, atoms, tensors)

    monkeypatch.setitem(ENCODERS, "threshold", (watched, parameters))
    monkeypatch.setattr(dictionary_module, "CODE_NUMBERS", 8 * K)
    dictionary.encode_sparse(numbers(50, D))
    assert sizes == [8] * 6 + [2]


def twin(row: Tensor, atoms: Tensor, active: int) -> Tensor:
    """Matching pursuit of one row by its definition."""
    left, codes = row.double(), torch.zeros(len(atoms), dtype=torch.float64)
    for _ in range(active):
        products = atoms.double() @ left
        best = int(products.argmax())
        value = max(float(products[best]), 0.0)
        codes[best] += value
        left = left - value * atoms[best].double()
    return codes.float()


@pytest.mark.parametrize("active", [1, 2, 6])
@pytest.mark.parametrize("k", [12, 1500])
def test_matching_pursuit_is_the_greedy_loop(k: int, active: int) -> None:
    rows, atoms = numbers(20, D), unit(numbers(k, D, seed=1))
    values, indices = pursuit(rows, atoms, active)
    codes = SparseCodes(indices, values, k).dense()
    torch.testing.assert_close(codes, torch.stack([twin(row, atoms, active) for row in rows]), rtol=1e-5, atol=1e-5)


def test_matching_pursuit_stops_where_no_atom_helps() -> None:
    values, _ = pursuit(-torch.ones(1, 3), torch.eye(3), 2)
    assert torch.equal(values, torch.zeros(1, 2))


def test_an_atom_taken_again_adds_up() -> None:
    atoms = unit(torch.tensor([[1.0, 0.0], [1.0, 0.2]]))
    rows = torch.tensor([[3.0, 0.5]])
    values, indices = pursuit(rows, atoms, 6)
    codes = SparseCodes(indices, values, 2)
    assert len(indices.unique()) < indices.numel()
    torch.testing.assert_close(codes.dense()[0], twin(rows[0], atoms, 6), rtol=1e-5, atol=1e-6)
    assert int(codes.active()) == int((codes.dense() != 0).sum())


def test_pursuit_in_other_units_is_pursuit_of_the_rows_in_those_units() -> None:
    dictionary, rows = made("pursuit"), numbers(20, D, seed=9)
    scaled = (rows - dictionary.mean) / TENSORS["scale"]
    expected = torch.stack([twin(row, TENSORS["filters"], 3) for row in scaled]) * TENSORS["gain"]
    torch.testing.assert_close(dictionary.encode(rows), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("indices", "values", "allowed"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 2), "int64"),
        (torch.zeros(3, 2).long(), torch.zeros(3, 1), "as many values"),
        (torch.full((3, 2), 4), torch.zeros(3, 2), "0 to 3"),
        (torch.full((3, 2), -1), torch.zeros(3, 2), "0 to 3"),
    ],
)
def test_entries_that_are_no_codes_are_refused(indices: Tensor, values: Tensor, allowed: str) -> None:
    with pytest.raises(LimenError, match=f"sparse codes: given .*{allowed}"):
        SparseCodes(indices, values, 4)


def test_features_of_another_layer_are_refused() -> None:
    with pytest.raises(LimenError, match="given activations with 5 features, allowed is 16"):
        made("topk").encode_sparse(numbers(4, 5))
