"""What the metrics of one row's codes have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ...records import Measurement
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import At, averaged, by_image, check, image_names, rows


def measured(
    metric: str,
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    at: At,
    measure: Callable[[Tensor], Tensor],
    convention: str,
) -> Measurement:
    """Measure the codes (n, k) of each row, average over positions, then over fits: one value an image."""
    check(metric, dictionaries, data)
    wanted = rows(metric, data, at)
    values = [by_image(one, wanted, lambda _, codes: measure(codes)) for one in dictionaries]
    return Measurement(
        values=averaged(values),
        samples=image_names(data),
        convention=f"{convention}, codes at {at} of the held-out split",
    )
