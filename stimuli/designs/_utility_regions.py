"""How much of an explanation lies on a region of the picture: the fact that tells whether it shows a bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from bench.registry import LimenError, unknown

from ..protocol import Material

MASKS = "masks.safetensors"
FACTOR = "region_mass"
"""Column of the export: mean over the training examples in reach of the excess of their explanations on the region."""


def region_of(material: Material, given: str | None, *, scenario: str) -> str | None:
    """Return the name of the region: as given, else under 'bias' the cue or the background of the image set.

    Raises
    ------
    LimenError
        If the image set has no masks, or none of that name.
    """
    known = tuple(_masks(material))
    where = f"study '{material.study.study}', key 'design.region'"
    if given is not None:
        if given not in known:
            raise unknown(f"{where}, masks of run '{material.study.run}'", given, known)
        return given
    if scenario != "bias":
        return None
    for name in ("cue", "background"):
        if name in known:
            return name
    raise LimenError(
        f"{where}: nothing was given, and the images of run '{material.study.run}' have no mask 'cue' or 'background'; name "
        "another mask, or take the scenario 'given'."
    )


def excess(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of each map's strength within its mask, less the mask's share of the picture.

    Parameters
    ----------
    maps
        (N, h, w); magnitudes count. A map of nothing has no excess.
    masks
        bool (N, H, W). Maps of another size are enlarged linearly.

    Returns
    -------
    float array (N,): 0 where a map is spread evenly, up to 1
    """
    found = np.zeros(len(maps))
    for i, (one, mask) in enumerate(zip(np.abs(maps).astype(np.float64), masks, strict=True)):
        if one.shape != mask.shape:
            large = Image.fromarray(one.astype(np.float32)).resize(mask.shape[::-1], Image.Resampling.BILINEAR)
            one = np.asarray(large, dtype=np.float64)
        total = one.sum()
        found[i] = one[mask].sum() / total - mask.mean() if total > 0 else 0.0
    return found


def masks_of(material: Material, region: str, index: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the region of some explained pictures, bool (n, H, W)."""
    return np.asarray(_masks(material)[region][index] > 0)


def _masks(material: Material) -> Mapping[str, np.ndarray]:
    images = material.artifact("images")
    return images.tensors(MASKS) if MASKS in images.manifest["files"] else {}


def learnt(seen: Sequence[str], found: Mapping[str, float]) -> float:
    """Return the mean excess of the explanations that were seen; 0 where none is shown."""
    values = [found[item] for item in seen if item in found]
    return round(float(np.mean(values)), 6) if values else 0.0
