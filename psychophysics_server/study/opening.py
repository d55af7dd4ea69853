"""From what a user types (a study file, a store, a data base) to what a command works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .frozen import FrozenStudy, Library, load_study


@dataclass(frozen=True)
class Opening:
    """A study version, the library it is in, and where its answers are."""

    library: Library
    study: FrozenStudy
    database: str | Path


def opening(study_path: Path, store: str, database: str | None) -> Opening:
    """Open the study of a file.

    Raises
    ------
    LimenError
        If the file is faulty or its stimulus set was not built.
    """
    library = Library(store)
    study = load_study(study_path, library)
    return Opening(library, study, database or Path(store) / "responses" / f"{study.file.study}.sqlite")
