"""Concept explanations of a plan's pictures: for each, what each concept weighs, where it is, and crops that hold it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from .craft import Craft, craft
from .engine import Engine
from .store import Artifact, Draft

if TYPE_CHECKING:
    from .cells import Cells
    from .plan import CraftSpec

ROLE = "craft"


def keep_concepts(
    cells: Cells, spec: CraftSpec, engine: Engine, pictures: np.ndarray, answered: np.ndarray, **place: Any
) -> Artifact:
    """Find the concepts of each class that the network answers, on the pictures it answers so, and keep them.

    `concepts.safetensors` has a row a picture, each in the terms of its own class's concepts: `importance` and
    `contributions` float (N, k), `codes` float32 (N, k, h, w) at the places of the layer, `crop_codes` float32
    (N, crops, k), and `answered` int64 (N,). `crops` float64 (crops, 4) says where every picture was cut: top, left,
    height and width, in shares of it.

    Parameters
    ----------
    cells : where the artifact goes
    spec : the plan's `craft`
    engine : Engine
    pictures : uint8 (N, H, W, 3)
    answered : int64 (N,)
        Class that the network answers for each.
    **place : `base` (keys of the images and the predictions), `suffix` of the role, `seed`

    Returns
    -------
    Artifact
        Of kind `concept_explanations`; a condition of the study protocol `utility`.

    References
    ----------
    Fel et al. 2023, CRAFT, arXiv:2211.10154.
    """

    def fill(draft: Draft) -> None:
        kept: dict[str, np.ndarray] = {}
        estimators = {}
        with engine.meter() as cost:
            for number in np.unique(answered).tolist():
                members = np.flatnonzero(answered == number)
                found = craft(engine, pictures[members], target_class=number, seed=place["seed"], **spec.model_dump())
                found.dictionary.save(draft.path / f"class-{number}.safetensors")
                estimators[number] = found.estimator
                for name, values in _rows(found).items():
                    whole = kept.setdefault(name, np.zeros((len(pictures), *values.shape[1:]), values.dtype))
                    whole[members] = values
                kept["crops"] = _places(found)
        draft.write_tensors({**kept, "answered": np.asarray(answered, dtype=np.int64)}, "concepts.safetensors")
        draft.facts["cost"] = asdict(cost)
        draft.facts["estimators"] = estimators

    config = {"method": ROLE, "version": 1, "options": spec.model_dump(), "seed": place["seed"]}
    config["network"] = engine.network.name
    return cells.make("concept_explanations", config, ROLE + place["suffix"], place["base"], fill)


def _rows(found: Craft) -> dict[str, np.ndarray]:
    each = len(found.crops) // len(found.pictures)
    return {
        "importance": found.importance,
        "contributions": found.contributions,
        "codes": found.codes,
        "crop_codes": found.crop_codes.reshape(len(found.pictures), each, found.k),
    }


def _places(found: Craft) -> np.ndarray:
    """Return where each picture was cut, in shares of its height and width, (crops, 4)."""
    each = len(found.crops) // len(found.pictures)
    height, width = found.pictures.shape[1:3]
    corners = found.crops.places[:each, 1:]
    sizes = np.broadcast_to(found.crops.size, corners.shape)
    return np.concatenate([corners, sizes], axis=1) / np.asarray([height, width, height, width], dtype=np.float64)
