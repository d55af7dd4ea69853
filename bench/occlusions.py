"""What the causal occlusion task draws on: activations of atoms on pictures a part of which is covered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from .cells import Cells
from .engine import Draws
from .features import Fits
from .images import occluded, picture_hash
from .plan import OcclusionsSpec
from .spaces.gather import by_position
from .store import Artifact, Draft

Steps = Callable[[str], Callable[[int, int], None]]


def keep_occlusions(cells: Cells, fits: Fits, features: Artifact, steps: Steps) -> Artifact:
    """Keep the largest code of each atom on occluded copies of the pictures that the atoms favour.

    `occlusions.safetensors` holds `index` int64 (n,), rows of the pictures of `images/concepts`; `boxes` int64 (n, P, 4),
    left, top, right and bottom in their pixels; `peak` float32 (n, P, k) on the occluded pictures; and `whole` float32
    (n, k) on the pictures as they are. A picture is there if it is among the favourites of any atom.
    """
    place, dictionary = fits.place, fits.dictionaries[0]
    spec = place.spec.occlusions
    assert spec is not None
    pool = np.concatenate([place.train.pictures, place.test.pictures])

    def fill(draft: Draft) -> None:
        held = features.tensors("features.safetensors")["peak"]
        index = favourites(held, [picture_hash(one) for one in pool], spec.pictures)
        engine = place.engine
        found, boxes = [], []
        report = steps(f"occlusions  {fits.role}")
        with engine.meter() as cost:
            for number, row in enumerate(index):
                report(number, len(index))
                drawn = squares(pool.shape[1:3], spec, engine.draws(place.seed, "occlusions", int(row)))
                copies = np.stack([pool[row], *(occluded(pool[row], box, spec.grey) for box in drawn)])
                codes = dictionary.encode(by_position(engine.tap(engine.inputs(copies), place.layer)))
                found.append(engine.numpy(codes.amax(dim=1)))
                boxes.append(drawn)
        peaks = np.stack(found).astype(np.float32)
        tensors = {"index": index, "boxes": np.stack(boxes), "peak": peaks[:, 1:], "whole": peaks[:, 0]}
        draft.write_tensors(tensors, "occlusions.safetensors")
        draft.facts["cost"] = asdict(cost)

    config = {**place.identity, "splits": "train and test", "occlusions": spec.model_dump(), "seed": place.seed}
    parents = {"dictionary": fits.artifacts[0].key, "features": features.key}
    return cells.make("occlusions", config, fits.role, parents, fill)


def favourites(peak: np.ndarray, hashes: list[str], count: int) -> np.ndarray:
    """Return the rows of the `count` pictures that activate each atom most, of all atoms together, in order.

    Parameters
    ----------
    peak : array (N, k)
    hashes
        Digest of each picture; of copies the first counts.
    """
    unique = np.unique(np.unique(hashes, return_index=True)[1])
    order = np.argsort(-peak[unique], axis=0, kind="stable")[:count]
    return np.asarray(unique[np.unique(order)], dtype=np.int64)


def squares(shape: tuple[int, ...], spec: OcclusionsSpec, draws: Draws) -> np.ndarray:
    """Return the boxes (grid * grid, 4) of one picture: in each cell of a grid a square's place, drawn uniformly."""
    height, width = shape[:2]
    side = max(1, round(spec.share * min(height, width)))
    rows, columns = np.divmod(np.arange(spec.grid**2), spec.grid)
    shift = draws.numpy().random((2, spec.grid**2))
    top = np.floor((rows + shift[0]) / spec.grid * (height - side + 1)).astype(np.int64)
    left = np.floor((columns + shift[1]) / spec.grid * (width - side + 1)).astype(np.int64)
    return np.stack([left, top, left + side, top + side], axis=1)
