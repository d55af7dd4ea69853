"""Frozen studies: what the server reads from a stimulus set, once, into memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.config import load_config, parse_config
from bench.records import check_columns
from bench.registry import LimenError, unknown
from bench.store import Artifact, Store, sha256_bytes
from stimuli.interface import check_words
from stimuli.records import CellRow, StudyFile, TrialRow
from stimuli.trials import Payload, parse_payload, pictures_of

from .factors import Factor, read_factors

PICTURE = re.compile(r"^pictures/([0-9a-f]{64})\.png$")
DEFAULT_ATTEMPTS = 3
"""Practice attempts where the study's checks name no limit."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial of a cell, with its payload (public) and its answer (server only) already parsed."""

    trial_id: str
    trial_type: str
    block: str
    session: int
    phase: str
    position: int
    item_id: str
    is_catch: bool
    k_seen: int
    payload: Mapping[str, Any]
    answer: Mapping[str, Any] = field(repr=False)
    factors: Mapping[str, Any] = field(default_factory=dict)
    """Within-subject factors of the design; the browser never sees them."""

    @cached_property
    def shown(self) -> Payload:
        """The payload as its trial type reads it."""
        return parse_payload(self.trial_type, self.payload, where=f"trial {self.trial_id}")

    @cached_property
    def payload_sha256(self) -> str:
        """SHA-256 of the payload as JSON with sorted keys and no spaces."""
        return sha256_bytes(json.dumps(self.payload, sort_keys=True, separators=(",", ":")).encode())

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Hashes of the pictures the trial is about, without references and examples."""
        beside = {"references", "reservoir"}
        return tuple(pictures_of({name: part for name, part in self.payload.items() if name not in beside}))

    @property
    def expected(self) -> str:
        """The right answer, '' where nothing is asked."""
        value = self.answer.get("expected")
        return "" if value is None else str(value)

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every right answer: one, or the side of a scale; () where nothing is asked."""
        several = self.answer.get("accepted")
        return tuple(map(str, several)) if several else ((self.expected,) if self.expected else ())

    @property
    def options(self) -> tuple[str, ...]:
        """The answers a participant can give, in displayed order (left, right)."""
        return tuple(str(option) for option in self.payload.get("options") or ())

    @property
    def asks(self) -> bool:
        """Whether there is a right answer."""
        return self.expected != ""


@dataclass(frozen=True)
class FrozenStudy:
    """A study version: its file, its cells, its trials and its pictures; identified by the artifact's key."""

    artifact: Artifact
    file: StudyFile
    cells: tuple[CellRow, ...]
    trials: Mapping[str, tuple[Trial, ...]]
    pictures: Mapping[str, Path]

    @property
    def key(self) -> str:
        """Key of the stimulus set: the identity of the study version."""
        return self.artifact.key

    @property
    def attempts(self) -> int:
        """Largest number of times the practice block is shown."""
        return self.file.checks.practice_attempts or DEFAULT_ATTEMPTS

    @cached_property
    def trial_index(self) -> Mapping[str, Mapping[str, Trial]]:
        """Cell -> trial id -> trial."""
        return {cell: {trial.trial_id: trial for trial in trials} for cell, trials in self.trials.items()}

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """The design's within-subject factors: columns of the export."""
        given = (trial.factors for trials in self.trials.values() for trial in trials)
        return read_factors(given, where=f"stimulus set {self.key}")

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """Conditions that have cells, in the order of the study file."""
        present = {cell.condition for cell in self.cells}
        return tuple(name for name in self.file.conditions if name in present)


def open_frozen(artifact: Artifact) -> FrozenStudy:
    """Read a stimulus set into memory.

    Raises
    ------
    LimenError
        If a table lacks a column, a cell has no trials, or a trial id repeats within a cell.
    """
    where = f"stimulus set {artifact.key}"
    data = json.loads(artifact.file("study.json").read_text(encoding="utf-8"))
    file = parse_config(data, StudyFile, where=f"{where}, study.json")
    if file.texts is None:
        raise LimenError(f"{where}: the study has no texts; build it again with `limen stimuli build`.")
    check_words(file, where=f"{where}, study.json")
    cell_table, trial_table = artifact.rows("cells.parquet"), artifact.rows("trials.parquet")
    check_columns(cell_table, CellRow, f"{where}, cells.parquet")
    if "factors" not in trial_table:  # sets frozen before factors were part of the row
        trial_table = trial_table.assign(factors="{}")
    check_columns(trial_table, TrialRow, f"{where}, trials.parquet")
    cells = tuple(
        CellRow(cell=str(row.cell), condition=str(row.condition), list=int(row.list), quota=int(row.quota))
        for row in _records(cell_table)
    )
    trials = {cell.cell: _trials(trial_table[trial_table["cell"] == cell.cell], where, cell.cell) for cell in cells}
    pictures = {found[1]: artifact.path / name for name in artifact.manifest["files"] if (found := PICTURE.match(name))}
    frozen = FrozenStudy(artifact, file, cells, trials, pictures)
    _ = frozen.factors  # a clash is told now, not when the answers are in
    return frozen


def _records(table: Any) -> Iterator[Any]:
    yield from table.itertuples(index=False)


def _trials(table: Any, where: str, cell: str) -> tuple[Trial, ...]:
    trials = tuple(
        Trial(
            trial_id=str(row.trial_id),
            trial_type=str(row.trial_type),
            block=str(row.block),
            session=int(row.session),
            phase=str(row.phase),
            position=int(row.position),
            item_id=str(row.item_id),
            is_catch=bool(row.is_catch),
            k_seen=int(row.k_seen),
            payload=json.loads(row.payload),
            answer=json.loads(row.answer),
            factors=json.loads(row.factors),
        )
        for row in _records(table.sort_values("position"))
    )
    if not trials:
        raise LimenError(f"{where}: cell '{cell}' has no trials.")
    if len({trial.trial_id for trial in trials}) != len(trials):
        raise LimenError(f"{where}: a trial id repeats within cell '{cell}'.")
    return trials


class Library:
    """The stimulus sets of a store, opened when first asked for; older versions stay readable for running sessions."""

    def __init__(self, store: Store | str | Path) -> None:
        self.store = store if isinstance(store, Store) else Store(store)
        self._open: dict[str, FrozenStudy] = {}

    def by_key(self, key: str) -> FrozenStudy:
        """Return the study version with this key.

        Raises
        ------
        LimenError
            If the store does not hold it.
        """
        if key not in self._open:
            self._open[key] = open_frozen(self.store.open("stimuli", key))
        return self._open[key]

    def newest(self, study: str, version: int | None = None) -> FrozenStudy:
        """Return the newest stimulus set of a study (and version).

        Raises
        ------
        LimenError
            If it was not built; says how.
        """
        found: list[Artifact] = []
        for artifact in self.store.all("stimuli"):
            held = json.loads(artifact.file("study.json").read_text(encoding="utf-8"))
            if held.get("study") == study and version in (None, held.get("version")):
                found.append(artifact)
        if not found:
            wanted = study if version is None else f"{study} version {version}"
            raise LimenError(
                f"store {self.store.root}: no stimulus set of study {wanted}; run `limen stimuli build STUDY.yaml` first."
            )
        return self.by_key(found[-1].key)

    def picture(self, sha256: str) -> Path | None:
        """Find a picture of any opened study by its hash."""
        for study in list(self._open.values()):
            if sha256 in study.pictures:
                return study.pictures[sha256]
        return None


def load_study(study_path: str | Path, library: Library) -> FrozenStudy:
    """Open the newest stimulus set of a study file, and refuse a file that was changed after its build.

    Raises
    ------
    LimenError
        If the file is faulty, its set was not built, or the two differ without a new version.
    """
    file = load_config(study_path, StudyFile)
    frozen = library.newest(file.study, file.version)
    changed = _changed(file, frozen.file)
    if changed:
        raise LimenError(
            f"{study_path}: '{changed[0]}' differs from the stimulus set built for version {file.version}; "
            "raise `version` and run `limen stimuli build` again."
        )
    return frozen


def _changed(file: StudyFile, built: StudyFile) -> list[str]:
    """Name the keys whose given values differ; the builder may fill in what the file leaves out, or says to be null."""
    said = {name for name in file.model_fields_set if getattr(file, name) is not None}
    names = [name for name in StudyFile.model_fields if name in said and name not in {"design", "analysis"}]
    differing = [name for name in names if name != "bots" and getattr(file, name) != getattr(built, name)]
    for name in ("design", "analysis"):
        given, held = getattr(file, name), getattr(built, name)
        if any(key not in held or held[key] != value for key, value in given.items()):
            differing.append(name)
    return differing


def cell_row(study: FrozenStudy, cell: str) -> CellRow:
    """Return one cell by name.

    Raises
    ------
    UnknownName
        If the study has no such cell.
    """
    for row in study.cells:
        if row.cell == cell:
            return row
    raise unknown(f"study {study.file.study}, cell", cell, [row.cell for row in study.cells])
