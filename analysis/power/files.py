"""A power analysis on disk: each grid cell when it is done, so that a killed run goes on, and the whole as CSV and JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from bench.registry import LimenError
from bench.store import canonical_json, sha256_bytes

from ..results import NAN, plain
from . import Cell, Run, Task, run_cell
from .curve import Point

SCHEMA = 1
ENDS = ("detectable", "detectable_low", "detectable_high")


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A whole power analysis: what was assumed, where from, and the cells."""

    study: str
    study_version: int
    protocol: str
    sources: Mapping[str, str]
    cells: tuple[Cell, ...]

    def table(self) -> pd.DataFrame:
        """Return one row a grid cell."""
        return pd.DataFrame([cell.record() for cell in self.cells])

    def json(self) -> dict[str, Any]:
        """Return the assumptions and the cells as plain values."""
        task = self.cells[0].task
        assumed, shape = task.assumed, task.assumed.shape
        accuracies = {} if shape.analysis == "preference" else assumed.accuracies()
        return {
            "schema": SCHEMA,
            "limen": version("limen"),
            "study": self.study,
            "study_version": self.study_version,
            "protocol": self.protocol,
            "analysis": shape.analysis,
            "formula": shape.formula,
            "design": plain(asdict(shape)),
            "contrast": plain(asdict(task.decision)),
            "assumed": {
                "effect": assumed.difference(),
                "accuracies": plain(accuracies),
                "log_odds": plain({name: list(values) for name, values in assumed.logits.items()}),
                "shifts": plain(assumed.shifts),
                "sd": plain(assumed.sds),
                "lapse": assumed.lapse,
                "sources": dict(self.sources),
            },
            "simulations": task.sims,
            "seed": task.seed,
            "cells": [_cell_json(cell) for cell in self.cells],
        }


def _cell_json(cell: Cell) -> dict[str, Any]:
    points = [
        {"effect": cell.task.assumed.difference(p.scale), "power": p.rate, "low": p.interval()[0], "high": p.interval()[1],
         **asdict(p)}
        for p in sorted(cell.points, key=lambda one: one.scale)
    ]  # fmt: skip
    return {**plain(cell.record()), "points": plain(points)}


def key_of(task: Task) -> str:
    """Hash all that decides a cell's result, this program's version included."""
    return sha256_bytes(canonical_json([SCHEMA, version("limen"), plain(asdict(task))]).encode())[:24]


def run_grid(
    tasks: Sequence[Task], run: Run, *, folder: Path | None = None, done: Callable[[Cell, bool], None] | None = None
) -> list[Cell]:
    """Simulate the cells of a grid, those in `folder` excepted, and keep each there as soon as it is whole.

    Parameters
    ----------
    folder : path, optional
        Of finished cells.
    done : callable, optional
        `done(cell, resumed)` after each.
    """
    cells = []
    for task in tasks:
        file = None if folder is None else folder / f"{key_of(task)}.json"
        held = _read(file, task) if file is not None and file.exists() else None
        cell = held or run_cell(task, run)
        if file is not None and held is None:
            _keep(file, cell)
        cells.append(cell)
        if done is not None:
            done(cell, held is not None)
    return cells


def _keep(file: Path, cell: Cell) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    values = {name: _text(getattr(cell, name)) for name in ENDS}
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"points": [asdict(one) for one in cell.points], **values}), encoding="utf-8")
    draft.replace(file)


def _text(value: float) -> float | str:
    """Write what JSON has no number for as its name."""
    return value if math.isfinite(value) else repr(value)


def _read(file: Path, task: Task) -> Cell | None:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        points = tuple(Point(**one) for one in held["points"])
        ends = {name: float(held.get(name, NAN)) for name in ENDS}
        by = {one.scale: one for one in points}
        return Cell(
            task=task, power=by[1.0], type_i=by[0.0], points=points, failed=sum(p.failed for p in points),
            fits=sum(p.n for p in points), **ends,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not whole: it is simulated again


def write(analysis: Analysis, folder: Path) -> None:
    """Write `power.csv` and `power.json`; the same analysis again gives the same bytes.

    Raises
    ------
    LimenError
        If the folder holds another analysis.
    """
    texts = {
        "power.json": json.dumps(analysis.json(), indent=2, sort_keys=True, allow_nan=False) + "\n",
        "power.csv": analysis.table().to_csv(index=False, lineterminator="\n"),
    }
    for name, text in texts.items():
        file = folder / name
        if file.exists() and file.read_text(encoding="utf-8") != text:
            raise LimenError(f"{file}: holds another power analysis, and nothing is overwritten; give a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def read_power(path: Path) -> dict[str, Any]:
    """Read a `power.json`.

    Raises
    ------
    LimenError
        If it is none.
    """
    file = path / "power.json" if path.is_dir() else path
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LimenError(f"{file}: cannot be read as a power analysis ({str(error).splitlines()[0]}).") from None
    if not isinstance(held, dict) or held.get("schema") != SCHEMA or "cells" not in held:
        raise LimenError(f"{file}: is no power analysis; give the folder that `limen analyze power -o` wrote.")
    return held
