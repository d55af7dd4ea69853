"""From an export of the drawing protocol to the drawings that may count, and from files to the samples of models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.registry import LimenError
from bench.store import sha256_file

from . import importance
from .load.study import InputFile, Study


def read_drawings(export: str | Path, *, exclusions: bool = True) -> pd.DataFrame:
    """Read the drawings that may count: of test trials, of finished people of one kind, handed in or cut off by the time.

    Parameters
    ----------
    exclusions
        Whether excluded people are left out.

    Returns
    -------
    DataFrame
        The columns of the export's drawings.

    Raises
    ------
    LimenError
        If the folder is no export with drawings, or none is left.
    """
    rows = importance.read_part(export, "drawings", text={"strokes", "picture"}, exclusions=exclusions)
    kept = rows[(rows["outcome"] != "skipped") & (rows["points"] > 0)]
    if kept.empty:
        raise LimenError(f"{Path(export).name}: no drawing of a finished person is left.")
    return kept.reset_index(drop=True)


def holds_drawings(export: str | Path) -> bool:
    """Whether an export has drawings; one of the task 'uncover' has strokes of reveal trials in their place."""
    return any(Path(export).glob("data/study-*_description-drawings_data.csv"))


def strokes_of(row: Mapping[str, object]) -> tuple[np.ndarray, ...]:
    """Return the strokes of a drawing as points of the unit square, (n, 2) each."""
    size = np.array([float(str(row["width"])), float(str(row["height"]))])
    return tuple(np.asarray(one, dtype=float)[:, 1:] / size.max() for one in json.loads(str(row["strokes"])))


def with_samples(study: Study, files: Sequence[str | Path]) -> Study:
    """Set samples of models beside the drawings of a study; the report names the files with their hashes.

    Raises
    ------
    LimenError
        If the study is not of drawings, or a file is not there.
    """
    if not files:
        return study
    if not study.folder or not holds_drawings(study.folder):
        raise LimenError(f"{study.name}, --samples: this study holds no drawings; samples stand beside drawings alone.")
    for file in files:
        if not Path(file).is_file():
            raise LimenError(f"{file}: no such file; --samples takes safetensors files.")
    read = [InputFile(name=Path(file).name, sha256=sha256_file(Path(file)), rows=0) for file in files]
    return replace(study, samples=tuple(str(file) for file in files), files=(*study.files, *read))


def read_samples(files: Sequence[str | Path]) -> dict[str, dict[str, np.ndarray]]:
    """Read samples of models: a safetensors file a model, a tensor an exemplar.

    Each tensor has the item id of the exemplar as its name and holds uint8 (N, H, W), black ink on white: N drawings that
    the model made after seeing this exemplar alone.

    Returns
    -------
    dict
        Model (the file's name) -> item id -> pictures.

    Raises
    ------
    LimenError
        If a file cannot be read or a tensor is of another shape or type.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for given in files:
        path = Path(given)
        try:
            held = load_file(path)
        except (OSError, SafetensorError) as error:
            raise LimenError(f"{path}: cannot be read as safetensors ({error}).") from None
        for name, pictures in held.items():
            if pictures.ndim != 3 or pictures.dtype != np.uint8 or len(pictures) < 2:
                raise LimenError(
                    f"{path}, tensor '{name}': given {pictures.dtype} {pictures.shape}, allowed is uint8 (N, H, W) with N of "
                    "2 or more."
                )
        found[path.stem] = held
    return found
