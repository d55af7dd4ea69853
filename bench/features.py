"""What studies of single features draw on: each atom's activation on every picture, and pictures made for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
import torch

from .cells import Cells
from .concept_place import Place
from .images import ImageSet, picture_hash
from .plan import Method
from .records import ImageRow, frame
from .spaces import Concepts, Dictionary
from .spaces.natural import natural
from .spaces.readout import concept_engine
from .store import Artifact, Draft
from .synthesis import SHARE, visualize

Steps = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, eq=False)
class Fits:
    """One way to fit, its replicates at a place, and the cost of one."""

    method: Method
    artifacts: Sequence[Artifact]
    place: Place

    @cached_property
    def dictionaries(self) -> list[Dictionary]:
        load = self.place.engine.place
        return [Dictionary.load(one.file("dictionary.safetensors")).apply(load) for one in self.artifacts]

    @cached_property
    def space(self) -> Concepts:
        """The concepts of the first replicate."""
        return Concepts(self.dictionaries[0], self.place.layer)

    @property
    def role(self) -> str:
        return f"{self.method.label} @ {self.place.label}"


def image_rows(images: ImageSet, start: int = 0) -> list[ImageRow]:
    """Return what is known of each picture of a set, numbered from `start`."""
    groups = images.groups or ("",) * len(images)
    return [
        ImageRow(
            image_id=image_id,
            index=start + index,
            label=int(images.labels[index]),
            class_name=images.classes[int(images.labels[index])],
            group=groups[index],
            sha256=picture_hash(images.pictures[index]),
        )
        for index, image_id in enumerate(images.ids)
    ]


def keep_pictures(cells: Cells, place: Place) -> Artifact:
    """Keep the pictures of both splits, training first: what the rows of `features` are about."""

    def fill(draft: Draft) -> None:
        first = image_rows(place.train)
        draft.write_rows(frame(ImageRow, [*first, *image_rows(place.test, len(first))]))
        draft.write_tensors({"pictures": _pool(place)}, "pictures.safetensors")

    config = {**place.spec.images.model_dump(), "split": "train and test", "content": list(place.content)}
    return cells.make("images", {**config, "name": place.test.name}, "concepts", {}, fill)


def _pool(place: Place) -> np.ndarray:
    return np.concatenate([place.train.pictures, place.test.pictures])


def keep_features(cells: Cells, fits: Fits) -> Artifact:
    """Keep the largest and the mean code of each atom over the positions of each picture.

    `features.safetensors` holds `peak` and `mean` float32 (N, k) over the pictures of `images/concepts`, and `train`
    uint8 (N,), 1 where the dictionary was fitted on the picture.
    """
    place, dictionary = fits.place, fits.dictionaries[0]

    def fill(draft: Draft) -> None:
        peaks, means, splits = [], [], []
        halves: tuple[Literal["train", "test"], ...] = ("train", "test")
        for split in halves:
            for maps in place.maps(split):
                codes = dictionary.encode(maps)
                peaks.append(codes.amax(dim=1))
                means.append(codes.mean(dim=1))
                splits += [split == "train"] * len(maps)
        number = place.engine.numpy
        values = {"peak": number(torch.cat(peaks)), "mean": number(torch.cat(means))}
        draft.write_tensors({**values, "train": np.asarray(splits, dtype=np.uint8)}, "features.safetensors")

    config = {**place.identity, "splits": "train and test"}
    return cells.make("features", config, fits.role, {"dictionary": fits.artifacts[0].key}, fill)


def keep_visuals(cells: Cells, fits: Fits, method: Method, steps: Steps) -> Artifact:
    """Make pictures for atoms of the first fit.

    `visuals.safetensors` holds `pictures` uint8 (atoms, m, S, S, 3) and `opacity` uint8 (atoms, m, S, S);
    `rows.parquet` a row a picture: `atom`, `seed`, projection on the atom `reached` on fresh views, its `null` at the
    start, the largest on a training picture (`natural`), and `spectrum_error`. The projection, not the code, is climbed:
    many encoders have no slope.
    """
    place, dictionary = fits.place, fits.dictionaries[0]
    spec, engine = place.spec, place.engine
    label = f"visualizations  {fits.role}/{method.label}"

    def fill(draft: Draft) -> None:
        atoms = _atoms(place, dictionary)
        directions = _directions(dictionary)
        concepts = concept_engine(engine, directions, place.layer, pool="max")
        look = natural(engine, place.train.pictures, round(SHARE * (engine.network.size or place.train.size)))
        peaks = torch.cat([directions.encode(maps).amax(dim=(0, 1))[None] for maps in place.maps("train")]).amax(dim=0)
        made, rows = [], []
        with engine.meter() as cost:
            for seed in range(spec.visualization_seeds):
                steps(label)(seed, spec.visualization_seeds)
                found = visualize(method.name, concepts, atoms, pictures=look, seed=place.seed + seed, **method.options)
                made.append([_bytes(engine.numpy(part)) for part in (found.pictures.movedim(1, -1), found.opacity)])
                columns = {name: engine.numpy(getattr(found, name)) for name in ("reached", "null", "spectrum_error")}
                rows.append(
                    pd.DataFrame({"atom": atoms, "seed": seed, **columns, "natural": engine.numpy(peaks)[atoms]})
                )
        pictures, opacity = (np.stack(parts, axis=1) for parts in zip(*made, strict=True))
        draft.write_tensors({"pictures": pictures, "opacity": opacity, "atoms": atoms}, "visuals.safetensors")
        draft.write_rows(pd.concat(rows, ignore_index=True))
        draft.facts["cost"] = asdict(cost)

    asked = {"atoms": spec.visualized, "seeds": spec.visualization_seeds}
    config = {**method.identity, **asked, "seed": place.seed, "layer": place.layer, "content": list(place.content)}
    role = f"{fits.role}/{method.label}"
    return cells.make("visualizations", config, role, {"dictionary": fits.artifacts[0].key}, fill)


def _directions(dictionary: Dictionary) -> Dictionary:
    """Return the same atoms, read by projection."""
    return Dictionary(
        name=f"{dictionary.name}, projections",
        atoms=dictionary.atoms,
        mean=dictionary.mean,
        encoder="linear",
        signed=True,
        parameters={"filters": dictionary.atoms},
    )


def _atoms(place: Place, dictionary: Dictionary) -> np.ndarray:
    """Draw the atoms that are visualised, in order; the draw is the same for dictionaries of one size."""
    count = place.spec.visualized or dictionary.k
    if count >= dictionary.k:
        return np.arange(dictionary.k)
    drawn = place.engine.draws(place.seed, "visualized", dictionary.k).permutation(dictionary.k)[:count]
    return np.sort(place.engine.numpy(drawn))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255).astype(np.uint8)
