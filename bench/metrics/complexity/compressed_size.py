"""Compressed size: how many bytes a map needs, beside the bytes it would need if nothing repeated."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import metric

LEVELS = 256


@metric(
    version=1,
    citation="this project",
    cost="none",
    of="maps",
    # As with sparseness: a map is not better for being simple.
    direction="none",
    bounds=(0.0, 1.0),
    null="a uniform random map: 1, nothing can be packed",
)
def compressed_size(engine: Engine, images: Tensor, targets: Tensor, maps: Tensor) -> Measurement:
    """Measure the share of a map's bytes that are left after it is quantised to 256 levels and packed without loss.

    Each map is divided by its own largest absolute value and cut into 256 levels of equal width, one byte a place. The
    bytes are packed by DEFLATE (level 9, no header) as they are, as differences along a row, and as differences from
    the plane through three neighbours; the smallest of the three counts.

    Parameters
    ----------
    engine : Engine, brings the maps to the host
    images : (N, C, H, W), unused
    targets : (N,) int64, unused
    maps : (N, 1, H, W)

    Returns
    -------
    Measurement
        Values (N,) in (0, 1], relative to the same bytes stored unpacked; `extra['bytes']` is the packed size.

    Notes
    -----
    An upper bound of a map's description length: what a reader who knows the codec would have to be told. Another build
    of zlib can differ by a few bytes.
    """
    sizes = maps.abs().double()
    largest = sizes.amax(dim=tuple(range(1, sizes.ndim)), keepdim=True)
    levels = torch.where(largest > 0, (sizes / largest * LEVELS).floor(), 0).clamp(max=LEVELS - 1)
    packed = [_packed(plane) for plane in engine.numpy(levels)[:, 0].astype(np.uint8)]
    sizes_in_bytes = levels.new_tensor(packed)
    stored = len(_deflate(np.zeros(levels[0].numel(), dtype=np.uint8), level=0))
    return Measurement(
        values=(sizes_in_bytes / stored).clamp(max=1),
        convention=(
            f"|map| over its own largest, {LEVELS} levels; the smallest of three DEFLATE streams (levels, row differences, "
            "plane differences) over the bytes stored unpacked"
        ),
        extra={"bytes": sizes_in_bytes},
    )


def _packed(plane: np.ndarray) -> int:
    """Return the bytes of the shortest stream; differences are modulo 256, so each can be undone."""
    along = np.diff(plane, axis=-1, prepend=np.uint8(0))
    across = np.diff(along, axis=0, prepend=np.uint8(0))
    return min(len(_deflate(stream)) for stream in (plane, along, across))


def _deflate(plane: np.ndarray, level: int = 9) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL)
    return packer.compress(plane.tobytes()) + packer.flush()
