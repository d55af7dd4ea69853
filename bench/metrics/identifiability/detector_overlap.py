"""Detector overlap: how many detectors mark the places where one labelled concept is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary

_NAME = "detector_overlap"
STEPS = 100
"""Thresholds of the published integral, .01 to 1; with that many it is the sum of overlaps to within .01 an atom."""


@metric(
    version=1,
    citation="arXiv:2509.23926",
    cost="one encode of all test positions a dictionary; two (k, C) products a null draw",
    of="dictionary",
    direction="up",
    bounds=(0.0, 1.0),
    null="the same detections in a random order of the positions",
    ceiling="1, a detector that marks exactly where the concept is",
)
def detector_overlap(
    dictionaries: Sequence[Dictionary], data: ConceptData, *, draws: Draws, null_draws: int = 3
) -> Measurement:
    """Match detectors to labelled concepts one to one and measure the overlap of where both are.

    A detector says yes where its code is above 0, a signed one where it is above its mean code. Overlap is intersection
    over union, over all positions of the test images. Concepts without an atom score 0.

    Parameters
    ----------
    dictionaries : one or more fits of one method; a concept's value is their average
    data : ConceptData with `test_maps` and `test_position_labels`
    draws : Draws
    null_draws : random orders of the positions, averaged

    Returns
    -------
    Measurement
        One value a concept; `extra` holds, repeated for each concept, `s1` (the integral over thresholds in 0 to 1 of the
        number of detectors whose best overlap is above) and `s2` (the same counting each concept they name once), both
        published sums that grow with k, `s1_null` and `s2_null`, and for each concept `others`, the largest overlap of
        its detector with another concept. A concept that no test position holds is left out, and the convention names it.

    Raises
    ------
    LimenError
        If maps or labels of positions are missing, or no position holds a concept.

    References
    ----------
    arXiv:2509.23926
    """
    labels, names, left_out = _labels(dictionaries, data, null_draws)
    columns: dict[str, list[np.ndarray]] = {}
    for index, one in enumerate(dictionaries):
        says = _detections(one, data)
        found = _overlaps(says, labels)
        blind = [_overlaps(says[draws.spawn(index, draw).permutation(len(says))], labels) for draw in range(null_draws)]
        matched, others = _matched(found)
        row = {
            "value": matched,
            "others": others,
            "null": np.mean([_matched(chance)[0] for chance in blind], axis=0),
            "s1": published_sum(found, unique=False),
            "s2": published_sum(found, unique=True),
            "s1_null": np.mean([published_sum(chance, unique=False) for chance in blind]),
            "s2_null": np.mean([published_sum(chance, unique=True) for chance in blind]),
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(np.broadcast_to(value, matched.shape))
    mean = {name: np.mean(values, axis=0) for name, values in columns.items()}
    return Measurement(
        values=mean.pop("value"),
        null=mean.pop("null"),
        ceiling=np.ones(len(names)),
        samples=names,
        convention="intersection over union at all test positions, codes above 0 (signed codes: above their mean), detectors "
        "matched to concepts one to one on the same positions"
        + (f"; left out: {', '.join(left_out)}" if left_out else ""),
        extra=mean,
    )


def published_sum(overlaps: np.ndarray, *, unique: bool) -> float:
    """Integrate over thresholds how many detectors (k, C) reach them with their best concept, or how many concepts do.

    The published S1 (detectors) and S2 (`unique`: each concept counts once).
    """
    best, named = overlaps.max(axis=1), overlaps.argmax(axis=1)
    counts = []
    for threshold in np.arange(1, STEPS + 1) / STEPS:
        above = best >= threshold
        counts.append(len(np.unique(named[above])) if unique else above.sum())
    return float(np.mean(counts))


def _labels(
    dictionaries: Sequence[Dictionary], data: ConceptData, null_draws: int
) -> tuple[Tensor, tuple[str, ...], list[str]]:
    if null_draws < 1:
        raise LimenError(f"metric '{_NAME}', option 'null_draws': given {null_draws}, allowed is 1 or more.")
    if not dictionaries:
        raise LimenError(f"metric '{_NAME}': given no dictionary, allowed is one or more.")
    data.require(_NAME, "test_maps", "test_position_labels")
    assert data.test_maps is not None
    assert data.test_position_labels is not None
    if data.test_position_labels.shape[1] != data.test_maps.shape[1]:
        raise LimenError(
            f"metric '{_NAME}': given labels of {data.test_position_labels.shape[1]} positions for maps of "
            f"{data.test_maps.shape[1]}; they must agree."
        )
    labels = data.test_position_labels.flatten(0, 1)
    held = host(labels.any(dim=0))
    if not held.any():
        raise LimenError(
            f"metric '{_NAME}': given {len(held)} concepts that no test position holds, allowed is one or more that "
            "some position does."
        )
    keep = [index for index, there in enumerate(held) if there]
    names = tuple(data.label_names[index] for index in keep)
    return labels[:, keep], names, [name for name in data.label_names if name not in names]


def _detections(one: Dictionary, data: ConceptData) -> Tensor:
    """Return where each detector says yes, bool (positions, k)."""
    assert data.test_maps is not None
    codes = one.encode(data.test_maps).flatten(0, 1)
    return codes > (codes.mean(dim=0) if one.signed else 0)


def _overlaps(says: Tensor, labels: Tensor) -> np.ndarray:
    """Return intersection over union of each detector and each concept, (k, C)."""
    yes, truth = says.float(), labels.float()
    both = (yes.T @ truth).double()
    union = yes.sum(dim=0).double()[:, None] + truth.sum(dim=0).double() - both
    return host(torch.where(union > 0, both / union.clamp_min(1), 0.0))


def _matched(overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each concept's overlap with its own detector, and that detector's largest with another concept."""
    atoms, concepts = linear_sum_assignment(overlaps, maximize=True)
    value, others = np.zeros(overlaps.shape[1]), np.zeros(overlaps.shape[1])
    for atom, concept in zip(atoms, concepts, strict=True):
        value[concept] = overlaps[atom, concept]
        others[concept] = max(np.delete(overlaps[atom], concept), default=0.0)
    return value, others
