"""Feature importance: how much of the network's answer goes through each atom."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import atom_names, check, joined

_IMAGES_AT_ONCE = 32


@metric(
    version=1,
    citation="arXiv:2407.06076",
    cost="one encode, one head forward and backward an image and dictionary",
    of="dictionary",
    # Importance describes a feature beside its complexity; a dictionary of important atoms is not a better one.
    direction="none",
    bounds=(0.0, float("inf")),
    null="random dictionaries of the same sizes",
)
def feature_importance(dictionaries: Sequence[Dictionary], data: ConceptData, *, share: bool = False) -> Measurement:
    """Measure `E |dy/dz * z|`, y the logit of the class that the network predicts, z the codes at all positions.

    The network answers what the dictionary rebuilt, `y = head(decode(z))`, and gradient times code is summed over the
    positions of an image before its size is taken.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData with `test_maps`, `head` and `targets`
    share : divide by the sum over atoms, so that dictionaries of other sizes can be compared

    Returns
    -------
    Measurement
        One value an atom of a fit, in logits (or shares); `extra` holds `signed`, the mean of `dy/dz * z`.

    Raises
    ------
    LimenError
        If there is no dictionary, or the data have no maps or head.
    """
    check("feature_importance", dictionaries, data)
    data.require("feature_importance", "test_maps", "head", "targets")
    sizes, signed = [], []
    for one in dictionaries:
        credit = _credit(one, data)
        size = credit.abs().mean(dim=0)
        sizes.append(size / size.sum() if share else size)
        signed.append(credit.mean(dim=0))
    return Measurement(
        values=joined(sizes),
        samples=atom_names(dictionaries),
        convention=(
            "mean |gradient x code| of the predicted class's logit after decoding, summed over positions, held-out images"
            + (", over the sum of all atoms" if share else "")
        ),
        extra={"signed": joined(signed)},
    )


def _credit(one: Dictionary, data: ConceptData) -> Tensor:
    """Return gradient x code of each test image, summed over positions, float64 (m, k)."""
    assert data.test_maps is not None
    assert data.head is not None
    assert data.targets is not None
    parts = []
    for maps, targets in zip(data.test_maps.split(_IMAGES_AT_ONCE), data.targets.split(_IMAGES_AT_ONCE), strict=True):
        codes = one.encode(maps).detach().requires_grad_()
        logits = data.head(one.decode(codes))
        (slopes,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), codes)
        parts.append((slopes.double() * codes.detach().double()).sum(dim=1))
    return torch.cat(parts)
