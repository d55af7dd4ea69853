"""The crops of concepts that studies are made of: which picture and class each is from, read from a run's dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.overlay import enlarge
from bench.registry import LimenError, unknown

from ..protocol import POOL, Material
from ..records import StudyFile
from ..render import Album


@dataclass(frozen=True)
class Crops:
    """The strongest crops of each concept of one dictionary, strongest first.

    Attributes
    ----------
    role : the dictionary's role in the run
    pictures : uint8 (k, m, side, side, 3)
    source : int (k, m), row of the pool each crop is cut from
    classes : text (k, m), true class of that picture
    codes : float32 (k, m, k), the largest code of each concept on the picture the crop is from
    alive : atoms that are active at all
    cosines : float (k, k), cosine between the directions of two atoms
    """

    role: str
    pictures: np.ndarray
    source: np.ndarray
    classes: np.ndarray
    codes: np.ndarray
    alive: tuple[int, ...]
    cosines: np.ndarray

    def keep(self, album: Album, atom: int, place: int, size: int) -> str:
        """Keep a crop, enlarged to a width in pixels; return its name."""
        return album.add(enlarge(self.pictures[atom, place], size))

    def name(self, atom: int, place: int) -> str:
        """Name a crop for the table of items."""
        return f"{atom}/{place}"


def crop_needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> list[str]:
    """Name the dictionaries of the conditions at the study's layer, their features and the pictures they are about.

    Raises
    ------
    UnknownName
        If the run has no such dictionary, or kept no features of it.
    """
    found = [POOL]
    where = f"study '{study.study}', run '{study.run}'"
    for condition in study.conditions:
        label = f"{condition} @ {options['layer']}"
        for kind, role in (("dictionaries", f"dictionaries/{label} seed 0"), ("features", f"features/{label}")):
            if role not in offered:
                known = [name for name in offered if name.startswith(f"{kind}/")]
                raise unknown(f"{where}, key 'conditions' at key 'design.layer', {kind}", role, known)
            found.append(role)
    if POOL not in offered:
        raise LimenError(f"{where}: has no pictures of concepts; set 'features: true' in the plan's concepts.")
    return found


def read_crops(material: Material, condition: str, layer: str) -> Crops:
    """Read the crops of a condition's dictionary; they are cut from test pictures, which follow the training ones.

    Raises
    ------
    LimenError
        If the dictionary kept no crops, or features and crops are of different pictures.
    """
    role = f"dictionaries/{condition} @ {layer} seed 0"
    held = material.artifact(role)
    where = f"study '{material.study.study}', {role}"
    if "crops.safetensors" not in held.manifest["files"]:
        raise LimenError(f"{where}: has no crops; give the plan's concepts 'positions: true' and 'crops: 12' or more.")
    tensors = held.tensors("crops.safetensors")
    features = material.artifact(f"features/{condition} @ {layer}").tensors("features.safetensors")
    rows = material.pool.rows
    source = np.asarray(tensors["places"])[..., 0] + int(np.asarray(features["train"]).sum())
    if source.max() >= len(rows):
        raise LimenError(
            f"{where}: a crop is from picture {int(source.max())} and the run kept {len(rows)}; crops are of test pictures, "
            "which follow the training ones."
        )
    peaks = np.asarray(features["peak"])
    alive = tuple(int(atom) for atom in np.flatnonzero(peaks.max(axis=0) > 0))
    classes = rows["class_name"].to_numpy()[source]
    atoms = np.asarray(held.tensors("dictionary.safetensors")["atoms"], dtype=float)
    atoms = atoms / np.maximum(np.linalg.norm(atoms, axis=1, keepdims=True), np.finfo(float).tiny)
    return Crops(role, np.asarray(tensors["crops"]), source, classes, peaks[source], alive, atoms @ atoms.T)
