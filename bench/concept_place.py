"""One layer of one network on a plan's pictures: what dictionaries are fitted on, judged on and shown with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .engine import Engine
from .images import ImageSet
from .plan import ConceptsSpec, Method
from .registry import METRICS
from .spaces import ConceptData, Dictionary
from .spaces.gather import by_position, concept_data
from .store import Draft

OF_ROWS = ("reconstruction", "sparsity", "stability", "structure")
"""Questions about the rows that a dictionary codes: asked of positions where it was fitted on positions."""
TRAIN_POSITIONS = 8
"""Positions drawn from each training picture for them; one from each test picture, so that rows are independent."""
STREAMED = 2**28
"""Numbers in the training positions above which they lie on disk, and no split is held by position."""
_BATCH = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class Place:
    """One layer of one network: what is known there is gathered when a cell first needs it.

    Attributes
    ----------
    network : what the table calls it
    engine, layer : where
    label : the place in roles
    train, test : pictures
    content : digests of the two
    spec : the plan's `concepts`
    evaluator : an engine on the network that judges monosemanticity, or None
    seed : the plan's
    """

    network: str
    engine: Engine
    layer: str
    label: str
    train: ImageSet
    test: ImageSet
    content: Sequence[str]
    spec: ConceptsSpec
    evaluator: Engine | None
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the activations here."""
        return {
            "network": self.network,
            "fingerprint": self.engine.network.fingerprint,
            "layer": self.layer,
            "images": self.spec.images.model_dump(),
            "content": list(self.content),
        }

    @cached_property
    def streamed(self) -> bool:
        """Whether the training positions are too many for memory."""
        first = by_position(self.engine.tap(self.engine.inputs(self.train.pictures[:1]), self.layer))
        return self.spec.positions and first.numel() * len(self.train) > STREAMED

    @cached_property
    def data(self) -> ConceptData:
        """Both splits, pooled and, where memory allows, by position; one row a picture."""
        return concept_data(
            self.engine,
            self.layer,
            self.train.pictures,
            self.test.pictures,
            train_labels=self.train.concepts,
            test_labels=self.test.concepts,
            label_names=self.train.concept_names,
            evaluator=self.evaluator,
            maps=not self.streamed,
        )

    @cached_property
    def rows(self) -> ConceptData:
        """Both splits as the rows that dictionaries are fitted on: a few positions of each picture, or the pictures."""
        if not self.spec.positions:
            return self.data
        return replace(
            self.data,
            train=self._drawn("train", TRAIN_POSITIONS),
            test=self._drawn("test", 1),
            train_labels=None,
            test_labels=None,
            label_names=(),
            train_maps=None,
            test_position_labels=None,
            layers={},
            noisy=None,
        )

    @cached_property
    def inputs(self) -> Tensor:
        """The test pictures as the network eats them."""
        return self.engine.inputs(self.test.pictures)

    @cached_property
    def targets(self) -> Tensor:
        """The class the network answers for each test picture."""
        return self.engine.scores(self.inputs).argmax(1)

    def asked(self, metric: Method) -> ConceptData:
        """Return the rows that a metric of dictionaries is asked about."""
        of_rows = METRICS.group(metric.name) in OF_ROWS and metric.options.get("at") != "positions"
        return self.rows if of_rows else self.data

    def head(self) -> Callable[[Tensor], Tensor] | None:
        """Return the network after the layer, as a function of what dictionaries are fitted on."""
        if self.spec.positions:
            return self.data.head
        weights, bias = self.data.head_weights, self.data.head_bias
        if weights is None or bias is None:
            return None
        return lambda pooled: pooled @ weights.T + bias

    def maps(self, split: Literal["train", "test"]) -> Iterator[Tensor]:
        """Yield the activations at every position (b, T, d) of a few pictures at a time, in order."""
        held = self.data.train_maps if split == "train" else self.data.test_maps
        if held is not None:
            yield from held.split(_BATCH)
            return
        pictures = (self.train if split == "train" else self.test).pictures
        for start in range(0, len(pictures), _BATCH):
            inputs = self.engine.inputs(pictures[start : start + _BATCH])
            yield by_position(self.engine.tap(inputs, self.layer))

    def _drawn(self, split: Literal["train", "test"], count: int) -> Tensor:
        """Draw `count` positions of each picture, (n * count, d)."""
        draws = self.engine.draws(self.seed, "positions", split)
        found = []
        for index, maps in enumerate(self.maps(split)):
            images, places, features = maps.shape
            chosen = draws.spawn(index).integers(places, images, count)
            found.append(maps.gather(1, chosen[:, :, None].expand(-1, -1, features)).reshape(-1, features))
        return torch.cat(found)


def describe(draft: Draft, fitted: Dictionary, place: Place) -> None:
    """Keep what a page shows of each atom: how often and how strongly it is active on test pictures, and its top crops.

    `atoms.parquet` has a row an atom: `mean` code and largest `peak` over positions of test pictures, `frequency` of
    positions and `pictures` where it is active. `crops.safetensors` holds `crops` uint8 (k, m, side, side, 3) and
    their `places` (k, m, 3): picture, row and column of the layer's grid, strongest first.
    """
    best, where, mean, frequency, pictures = [], [], [], [], []
    for maps in place.maps("test"):
        codes = fitted.encode(maps)
        active = codes != 0
        top = codes.max(dim=1)
        best.append(top.values)
        where.append(top.indices)
        mean.append(codes.mean(dim=1))
        frequency.append(active.float().mean(dim=1))
        pictures.append(active.any(dim=1).float())
    strongest = torch.cat(best)
    columns = {
        "mean": torch.cat(mean).mean(dim=0),
        "peak": strongest.amax(dim=0),
        "frequency": torch.cat(frequency).mean(dim=0),
        "pictures": torch.cat(pictures).mean(dim=0),
    }
    plain = {name: place.engine.numpy(column).astype(np.float64) for name, column in columns.items()}
    draft.write_rows(pd.DataFrame({"atom": np.arange(fitted.k), **plain}), "atoms.parquet")
    if place.spec.crops and place.data.grid:
        images = strongest.sort(dim=0, descending=True, stable=True).indices[: place.spec.crops].T
        spot = torch.cat(where).T.gather(1, images)
        width = place.data.grid[1]
        chosen = place.engine.numpy(torch.stack([images, spot // width, spot % width], dim=-1)).astype(np.int64)
        crops = _cut(chosen, place.test.pictures, place.data.grid)
        draft.write_tensors({"crops": crops, "places": chosen}, "crops.safetensors")


def _cut(chosen: np.ndarray, pictures: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Cut places (k, m, 3) of a grid out of the pictures: uint8 (k, m, side, side, 3)."""
    height, width = grid
    size = pictures.shape[1]
    side = min(size, max(size // 4, 2 * size // height))
    crops = np.zeros((*chosen.shape[:2], side, side, 3), dtype=np.uint8)
    for atom, place in itertools.product(range(chosen.shape[0]), range(chosen.shape[1])):
        image, row, column = chosen[atom, place]
        top = int(np.clip((row + 0.5) * size / height - side / 2, 0, size - side))
        left = int(np.clip((column + 0.5) * size / width - side / 2, 0, size - side))
        crops[atom, place] = pictures[image, top : top + side, left : left + side]
    return crops
