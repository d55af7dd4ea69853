"""Soft identifiability: does one atom say which images hold one concept?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from ._probe import probe_accuracy
from ._reading import Labels, Reading, constant_accuracy, published_accuracy, read_matched


@metric(
    version=2,
    citation="arXiv:2502.12892",
    cost="one encode a dictionary; 101 thresholds x k atoms; one linear probe a label",
    of="dictionary",
    direction="up",
    bounds=(-float("inf"), 1.0),
    null="the same on random directions of the same activations, as many as there are atoms",
    ceiling="a supervised linear probe of each label, through the same correction",
)
def identifiability(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    preset: Literal["limen", "ra-sae"] = "limen",
    null_draws: int = 3,
) -> Measurement:
    """Predict each concept from the one atom that is matched to it, and correct the accuracy for chance.

    'limen': atoms and concepts are matched one to one and thresholds chosen on the training split, the test split is
    scored, and accuracy becomes `(accuracy - floor) / (1 - floor)`, 'floor' being what codes that know nothing, as many,
    reach in the same way: a little less than the better constant answer, since a threshold that chance chose can only lose.
    A concept without an atom scores 0. 'ra-sae': the published accuracy, the best atom and threshold of
    each concept on the scored split itself, which a code that knows nothing brings to the accuracy of 'never'.

    Parameters
    ----------
    dictionaries : one or more fits of one method; a concept's value is their average
    data : ConceptData with labels
    draws : Draws
    preset : 'limen' or 'ra-sae'
    null_draws : random sets of directions a dictionary

    Returns
    -------
    Measurement
        One value a concept; `extra` holds `accuracy`, `auroc` of the matched atom, `published`, `published_null` (random
        directions), `floor`, `constant`, `random_codes` (the value of other codes that know nothing) and `atom` (-1: none)
        in the first dictionary. A concept that a split always or never shows is left out, and the convention names it.

    Raises
    ------
    LimenError
        If there are no labels, or none that varies in both splits.

    References
    ----------
    arXiv:2502.12892, section 4.3 (the published variant)
    """
    if null_draws < 1:
        raise LimenError(f"metric 'identifiability', option 'null_draws': given {null_draws}, allowed is 1 or more.")
    labels, left_out = _labels(dictionaries, data)
    kept = ConceptData(data.train, data.test, labels.train, labels.test, labels.names)
    mean = data.train.mean(dim=0)
    column = "published" if preset == "ra-sae" else "corrected"
    readings, null, floors, others = [], [], [], []
    for index, one in enumerate(dictionaries):
        # Codes that know nothing depend on their number alone: fits of one size share a floor.
        blind = [
            _read(*_noise(draws.spawn("codes", draw), data, one.k), labels, one.signed) for draw in range(null_draws)
        ]
        floor = _average(blind, "accuracy")
        floors.append(floor)
        readings.append(_read(one.encode(data.train), one.encode(data.test), labels, one.signed).over(floor))
        for draw in range(null_draws):
            filters = draws.spawn(index, draw).normal(one.k, one.d).T
            turned = (data.train - mean) @ filters, (data.test - mean) @ filters
            null.append(_read(*turned, labels, one.signed).over(floor))
        others.append(_read(*_noise(draws.spawn("other codes", index), data, one.k), labels, one.signed).over(floor))
    floor, ceiling = np.mean(floors, axis=0), probe_accuracy(kept, draws.spawn("probe"))
    return Measurement(
        values=_average(readings, column),
        null=_average(null, column),
        ceiling=ceiling if preset == "ra-sae" else (ceiling - floor) / (1 - floor),
        samples=labels.names,
        convention=_convention(preset, dictionaries, left_out),
        extra={
            "accuracy": _average(readings, "accuracy"),
            "auroc": _average(readings, "auroc"),
            "published": _average(readings, "published"),
            "published_null": _average(null, "published"),
            "floor": floor,
            "constant": constant_accuracy(labels),
            "random_codes": _average(others, column),
            "atom": readings[0].atom,
        },
    )


def _noise(draws: Draws, data: ConceptData, k: int) -> tuple[Tensor, Tensor]:
    """Return codes of both splits that know nothing."""
    return draws.normal(len(data.train), k), draws.normal(len(data.test), k)


def _labels(dictionaries: Sequence[Dictionary], data: ConceptData) -> tuple[Labels, list[str]]:
    if not dictionaries or data.train_labels is None or data.test_labels is None:
        raise LimenError(
            f"metric 'identifiability': given {len(dictionaries)} dictionaries and "
            f"{'no labels' if data.train_labels is None else 'labels'}, allowed are one or more, and labels."
        )
    varies = np.ones(len(data.label_names), dtype=bool)
    for split in (host(data.train_labels), host(data.test_labels)):
        varies &= split.any(axis=0) & ~split.all(axis=0)
    if not varies.any():
        raise LimenError(
            f"metric 'identifiability': given the concepts {', '.join(data.label_names)}, of which none is both present "
            "and absent in both splits; allowed is one or more that vary."
        )
    keep = [index for index, good in enumerate(varies) if good]
    names = tuple(data.label_names[index] for index in keep)
    left_out = [name for name in data.label_names if name not in names]
    return Labels(data.train_labels[:, keep], data.test_labels[:, keep], names), left_out


def _read(train: Tensor, test: Tensor, labels: Labels, signed: bool) -> Reading:
    published = published_accuracy(test, labels.test)
    return read_matched(train, test, labels, signed=signed, published=published)


def _average(readings: Sequence[Reading], column: str) -> np.ndarray:
    return np.mean([getattr(reading, column) for reading in readings], axis=0)


def _convention(preset: str, dictionaries: Sequence[Dictionary], left_out: Sequence[str]) -> str:
    if preset == "ra-sae":
        text = (
            "accuracy of the best atom and percentile threshold (1 to 100) of each concept, chosen on the scored split"
        )
    else:
        side = "either side" if any(one.signed for one in dictionaries) else "above"
        text = (
            f"atoms matched one to one and percentile thresholds ({side}) chosen on train, accuracy on test, "
            "(accuracy - floor) / (1 - floor), the floor that of random codes"
        )
    return text + (f"; left out, as they do not vary: {', '.join(left_out)}" if left_out else "")
