"""Detector overlap: planted detectors score 1, shuffled ones the null, and the sums are those of the plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import score_dictionaries
from bench.engine import Draws
from bench.metrics.identifiability.detector_overlap import published_sum
from bench.registry import LimenError
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import Dictionary

NAMES = ("ant", "bee", "cat")


def labels(images: int = 60, positions: int = 9, seed: int = 0) -> Tensor:
    """One concept or none at each position, bool (images, positions, 3)."""
    kind = Draws(seed).integers(4, images, positions)
    return torch.nn.functional.one_hot(kind, 4)[:, :, :3].bool()


def data(maps: Tensor, told: Tensor | None = None, names: tuple[str, ...] = NAMES) -> ConceptData:
    held = None if told is None else told.any(dim=1)
    pooled = maps.mean(dim=1)
    return ConceptData(
        pooled, pooled, held, held, names if told is not None else (), test_maps=maps, test_position_labels=told
    )


def identity(d: int, signed: bool = False) -> Dictionary:
    return Dictionary(name="planted", atoms=torch.eye(d), mean=torch.zeros(d), encoder="identity", signed=signed)


def test_detectors_that_mark_their_concept_score_one_in_any_order() -> None:
    told = labels()
    scored = score_dictionaries(
        "detector_overlap", [identity(4)], data(torch.cat([told, told[..., :1]], 2)[..., [3, 2, 1, 0]].float(), told)
    )
    np.testing.assert_allclose(scored.values, 1)
    np.testing.assert_allclose(scored.extra["others"], 0)
    np.testing.assert_allclose(scored.extra["s1"], 4)
    np.testing.assert_allclose(scored.extra["s2"], 3)
    assert scored.samples == NAMES


def test_random_detectors_score_the_null() -> None:
    told = labels(400)
    blind = Draws(5).bernoulli(0.25, 400, 9, 3)
    scored = score_dictionaries("detector_overlap", [identity(3)], data(blind, told))
    # Two independent quarters overlap in a sixteenth out of seven sixteenths.
    assert scored.null.mean() == pytest.approx(1 / 7, abs=0.02)
    assert scored.gain.mean == pytest.approx(0, abs=0.02)
    assert scored.extra["s1"][0] == pytest.approx(scored.extra["s1_null"][0], abs=0.06)


def test_values_are_those_of_the_plain_loop() -> None:
    told = labels()
    maps = told.float() + 0.7 * Draws(1).normal(60, 9, 3) - 0.5
    scored = score_dictionaries("detector_overlap", [identity(3)], data(maps, told))
    for index in range(3):
        says, truth = maps[..., index] > 0, told[..., index]
        assert scored.values[index] == pytest.approx(float((says & truth).sum() / (says | truth).sum()))


def test_signed_codes_say_yes_above_their_mean() -> None:
    told = labels()
    scored = score_dictionaries("detector_overlap", [identity(3, signed=True)], data(told.float() - 7, told))
    np.testing.assert_allclose(scored.values, 1)


def test_the_published_sums_are_the_integrals_of_counts() -> None:
    overlaps = np.array([[0.5, 0.1], [0.3, 0.2], [0.0, 0.9]])
    assert published_sum(overlaps, unique=False) == pytest.approx(0.5 + 0.3 + 0.9)
    assert published_sum(overlaps, unique=True) == pytest.approx(0.5 + 0.9)


def test_a_concept_without_a_detector_scores_nothing() -> None:
    told = labels()
    scored = score_dictionaries(
        "detector_overlap", [identity(2)], data(told[..., :2].float(), told[..., :2], NAMES[:2])
    )
    assert scored.values.tolist() == [1, 1]
    alone = Dictionary(
        name="one",
        atoms=torch.eye(3)[:1],
        mean=torch.zeros(3),
        encoder="linear",
        signed=False,
        parameters={"filters": torch.eye(3)[:1]},
    )
    scored = score_dictionaries("detector_overlap", [alone], data(told.float(), told))
    assert scored.values.tolist() == [1, 0, 0]


def test_a_concept_that_is_nowhere_is_left_out_by_name() -> None:
    told = labels()
    told[..., 1] = False
    scored = score_dictionaries("detector_overlap", [identity(3)], data(told.float(), told))
    assert scored.samples == ("ant", "cat")
    assert scored.convention.endswith("left out: bee")


@pytest.mark.parametrize(
    ("maps", "told", "options", "said"),
    [
        (torch.zeros(4, 9, 3), None, {}, "it reads 'test_position_labels', which these concept data lack"),
        (torch.zeros(4, 8, 3), labels(4), {}, "given labels of 9 positions for maps of 8"),
        (
            torch.zeros(4, 9, 3),
            torch.zeros(4, 9, 3, dtype=torch.bool),
            {},
            "given 3 concepts that no test position holds",
        ),
        (torch.zeros(4, 9, 3), labels(4), {"null_draws": 0}, "option 'null_draws': given 0, allowed is 1 or more"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    maps: Tensor, told: Tensor | None, options: dict[str, int], said: str
) -> None:
    with pytest.raises(LimenError, match=said):
        score_dictionaries("detector_overlap", [identity(3)], data(maps, told), **options)
