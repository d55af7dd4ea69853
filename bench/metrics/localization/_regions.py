"""The region a metric of this folder looks at, and what its share of the image makes of chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ...engine import Engine
from ...registry import LimenError, unknown


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where the evidence is known to lie.

    Attributes
    ----------
    inside : (N, 1, H, W), 1 in the region, else 0
    area : (N,), the region's share of each image; 0 where it is missing
    defined : (N,) bool, whether the image has such a region
    about : text for a convention: the region's name, its mean share, and how many images lack it
    """

    inside: Tensor
    area: Tensor
    defined: Tensor
    about: str

    def only_defined(self, values: Tensor) -> Tensor:
        """Return values (N,) with NaN where the image has no such region."""
        return values.masked_fill(~self.defined, float("nan"))

    def columns(self, values: Tensor) -> dict[str, Tensor]:
        """Return the extra columns every metric of this folder has: the region's share, and 1 where there is no value."""
        return {"area": self.area, "undefined": values.isnan().type_as(values)}


def find_region(engine: Engine, regions: Mapping[str, np.ndarray], mask: str, maps: Tensor, metric: str) -> Region:
    """Return the named region on the device of the maps.

    Raises
    ------
    LimenError
        If the image set knows no such region, or its shape is not that of the maps.
    """
    if mask not in regions:
        raise unknown(f"metric '{metric}', option 'mask'", mask, regions)
    inside = engine.prepare(np.asarray(regions[mask], dtype=np.float32)[:, None])
    if inside.shape != maps.shape:
        raise LimenError(
            f"metric '{metric}', region '{mask}': given {tuple(inside.shape)}, allowed is the maps' shape "
            f"{tuple(maps.shape)}."
        )
    area = inside.flatten(1).double().mean(dim=1)
    shares = engine.numpy(area)
    there = shares[shares > 0]
    about = f"region '{mask}', {there.mean() if there.size else 0:.3f} of the image on average"
    if there.size < shares.size:
        about += f", missing in {shares.size - there.size} of {shares.size} images, which are left out"
    return Region(inside=inside, area=area, defined=area > 0, about=about)
