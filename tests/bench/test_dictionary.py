"""The `Dictionary` type: codes, decoding, files, positions, and the sentences it refuses with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.registry import LimenError
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import Dictionary, feature_maps, positions, top_positions


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(encoder: str = "linear", **changes: object) -> Dictionary:
    """A dictionary of 3 atoms in 5 features."""
    parameters = {"filters": numbers(3, 5, seed=2)} if encoder == "linear" else {}
    facts = {"atoms": numbers(3, 5), "mean": numbers(5, seed=1), "signed": True, "parameters": parameters}
    return Dictionary(**{"name": "made", "encoder": encoder, **facts, **changes})


def test_decode_is_codes_times_atoms_plus_mean_exactly() -> None:
    dictionary, codes = made(), numbers(7, 3)
    assert torch.equal(dictionary.decode(codes), codes @ dictionary.atoms + dictionary.mean)


def test_a_linear_code_is_read_by_the_filters_from_centred_activations() -> None:
    dictionary, rows = made(), numbers(7, 5)
    expected = (rows - dictionary.mean) @ dictionary.parameters["filters"].T
    torch.testing.assert_close(dictionary.encode(rows), expected, rtol=0, atol=0)


@pytest.mark.parametrize("encoder", ["linear", "nnls"])
def test_maps_and_tokens_are_coded_position_by_position(encoder: str) -> None:
    dictionary, maps = made(encoder), numbers(2, 5, 3, 4)
    codes = dictionary.encode(maps)
    assert codes.shape == (2, 3, 4, 3)
    torch.testing.assert_close(codes[1, 2, 3], dictionary.encode(maps[1, :, 2, 3][None])[0])
    tokens = maps.flatten(2).movedim(1, 2)
    torch.testing.assert_close(dictionary.encode(tokens), codes.flatten(1, 2))


def test_positions_and_feature_maps_undo_each_other() -> None:
    maps = numbers(2, 5, 3, 4)
    assert positions(maps).shape == (24, 5)
    assert torch.equal(feature_maps(positions(maps), 3, 4), maps)


@pytest.mark.parametrize("encoder", ["linear", "nnls"])
def test_a_loaded_dictionary_codes_bit_for_bit_as_the_saved_one(encoder: str, tmp_path: Path) -> None:
    dictionary = made(encoder, atoms=numbers(5, 3).T, provenance={"seed": 4, "layer": "stage", "options": {"k": 3}})
    dictionary.save(tmp_path / "dictionary.safetensors")
    loaded = Dictionary.load(tmp_path / "dictionary.safetensors")
    rows = numbers(50, 5, seed=9)
    assert torch.equal(loaded.encode(rows), dictionary.encode(rows))
    assert torch.equal(loaded.atoms, dictionary.atoms)
    assert (loaded.name, loaded.encoder, loaded.signed) == ("made", encoder, True)
    assert loaded.provenance == dictionary.provenance


def test_writing_to_the_fitters_tensors_does_not_reach_the_dictionary() -> None:
    atoms = numbers(3, 5)
    dictionary = made(atoms=atoms)
    atoms.zero_()
    assert not dictionary.dead().any()


def test_facts_are_added_to_a_copy() -> None:
    dictionary = made(provenance={"rows": 10})
    assert dictionary.described(layer="stage").provenance == {"rows": 10, "layer": "stage"}
    assert dictionary.provenance == {"rows": 10}


def test_a_function_is_applied_to_every_tensor_of_a_copy() -> None:
    dictionary = made()
    doubled = dictionary.apply(lambda tensor: 2 * tensor)
    for part in ("atoms", "mean"):
        assert torch.equal(getattr(doubled, part), 2 * getattr(dictionary, part))
    assert torch.equal(doubled.parameters["filters"], 2 * dictionary.parameters["filters"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mean": torch.zeros(4)}, "given atoms (3, 5) and mean (4,), allowed are (k, d) and (d,)."),
        ({"encoder": "lineer"}, "unknown name 'lineer'"),
        ({"parameters": {}}, "encoder 'linear': given the parameters none, allowed are exactly filters."),
        ({"atoms": torch.full((3, 5), torch.nan)}, "atoms hold a number that is not finite"),
    ],
)
def test_a_dictionary_that_is_not_whole_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(LimenError) as fault:
        made(**changes)
    assert sentence in str(fault.value)


def test_activations_of_another_layer_are_refused() -> None:
    with pytest.raises(LimenError, match="given activations with 6 features, allowed is 5"):
        made().encode(numbers(7, 6))


@pytest.mark.parametrize("content", [b"", b"no tensors here"])
def test_a_file_that_is_no_dictionary_is_refused_by_its_path(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    with pytest.raises(LimenError, match=r"file.safetensors: not a dictionary file"):
        Dictionary.load(path)
    with pytest.raises(LimenError, match="no such dictionary file"):
        Dictionary.load(tmp_path / "absent")


def test_top_positions_name_the_strongest_place_of_the_strongest_images() -> None:
    codes = torch.zeros(4, 2, 3, 2)
    codes[2, 1, 2, 0], codes[0, 0, 1, 0], codes[2, 0, 0, 0] = 5.0, 3.0, 4.0
    codes[3, 1, 0, 1], codes[1, 0, 2, 1] = 2.0, 7.0
    assert top_positions(codes, 2).tolist() == [[[2, 1, 2], [0, 0, 1]], [[1, 0, 2], [3, 1, 0]]]


def test_top_positions_take_each_image_once() -> None:
    chosen = top_positions(numbers(6, 4, 4, 5).abs(), 6)
    assert all(sorted(images) == list(range(6)) for images in chosen[:, :, 0].tolist())


def test_top_positions_of_rows_are_the_rows_in_order() -> None:
    assert top_positions(torch.tensor([[1.0, 9.0], [3.0, 9.0], [2.0, 0.0]]), 2).tolist() == [[[1], [2]], [[0], [1]]]


def test_more_top_positions_than_images_are_refused() -> None:
    with pytest.raises(LimenError, match="given m = 4, allowed is 1 to 3"):
        top_positions(torch.zeros(3, 2), 4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"test": torch.zeros(3, 5)}, "allowed are (n, d) and (m, d)."),
        ({"test_labels": None}, "labels were given for one split only"),
        ({"train_labels": torch.zeros(2, 2)}, "train labels: given torch.float32 (2, 2) and 2 names"),
        ({"label_names": ("a",)}, "1 names, allowed is torch.bool (2, number of names)."),
        ({"train": torch.full((2, 4), torch.inf)}, "an activation is not finite"),
    ],
)
def test_concept_data_that_disagree_are_refused(changes: dict[str, object], sentence: str) -> None:
    labels = torch.zeros(2, 2, dtype=torch.bool)
    facts = {"train": torch.zeros(2, 4), "test": torch.zeros(2, 4), "train_labels": labels, "test_labels": labels}
    with pytest.raises(LimenError) as fault:
        ConceptData(**{**facts, "label_names": ("a", "b"), **changes})
    assert sentence in str(fault.value)
