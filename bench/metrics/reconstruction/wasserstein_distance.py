"""Wasserstein distance: does each feature of the decoded activations have the distribution of the true one?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import averaged, check


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="one encode and one decode a dictionary; two sorts a feature",
    of="dictionary",
    direction="down",
    bounds=(0.0, float("inf")),
    null="random dictionaries of the same sizes, with their least-squares codes",
    ceiling="0, the same distribution of each feature",
    presets={"overcomplete": {"relative": False}},
)
def wasserstein_distance(
    dictionaries: Sequence[Dictionary], data: ConceptData, *, relative: bool = True
) -> Measurement:
    """Measure the 1-Wasserstein distance of each feature's true and decoded values: the mean gap of their ranks.

    Parameters
    ----------
    dictionaries : one or more fits of one method; a feature's value is their average
    data : ConceptData
    relative : divide by the distance of a feature from its own mean, averaged over rows and features, so that
        answering each feature's mean scores 1 on average, whatever features hardly move

    Returns
    -------
    Measurement
        One value a feature; NaN where the held-out rows are all the same.

    Raises
    ------
    LimenError
        If there is no dictionary.
    """
    check("wasserstein_distance", dictionaries, data)
    test = data.test.double()
    ranked = test.sort(dim=0).values
    spread = (test - test.mean(dim=0)).abs().mean()
    values = []
    for one in dictionaries:
        rebuilt = one.decode(one.encode(data.test)).double()
        gap = (ranked - rebuilt.sort(dim=0).values).abs().mean(dim=0)
        values.append(gap / spread if relative else gap)
    return Measurement(
        values=averaged(values),
        ceiling=np.zeros(test.shape[1]),
        samples=tuple(f"feature {feature}" for feature in range(test.shape[1])),
        convention="mean |difference of sorted values| of a feature, held-out rows and their reconstruction"
        + (", over the mean distance of all features from their means" if relative else ""),
    )
