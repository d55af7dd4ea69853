"""The export: a folder after Psych-DS that a reader needs nothing else to understand."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Connection, func, select

from bench.records import frame
from bench.registry import LimenError
from bench.store import environment, sha256_bytes, sha256_file

from .checks import RULES
from .codebook import codebook, describe
from .db import Database
from .frozen import FrozenStudy
from .guard import refuse_leaks
from .people import UNFINISHED, PersonRows, people
from .records import EXPORT_SCHEMA, SOURCES, ResponseRow, SessionRow
from .rows import as_json
from .tables import alarms, codes, participants, sessions, tombstones

NAMED = {"bots": "bot", "pilot": "pilot", "preview": "preview"}
"""What `--include` takes -> source."""


@dataclass(frozen=True)
class Exported:
    """What an export holds, for the terminal."""

    folder: Path
    responses: int
    excluded: int
    people: int
    flow: list[dict[str, Any]]


def export(
    database: Database, study: FrozenStudy, folder: str | Path, *, sources: Collection[str] = ("live",), stale_s: float
) -> Exported:
    """Write one study version's rows into a new folder.

    Parameters
    ----------
    folder
        Must not exist, or be empty.
    sources
        Which of 'live', 'pilot', 'preview', 'bot' to export.
    stale_s
        Seconds of silence after which an unfinished session is called EXPIRED.

    Raises
    ------
    LimenError
        If the folder holds something, or a row would give a person away; then nothing is written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LimenError(f"export, folder {folder}: exists already and is not empty; nothing is overwritten.")
    with database.read() as connection:
        found = list(people(connection, study, sources=sources, stale_s=stale_s))
        facts = _facts(connection, study, sources)
        private = set(connection.execute(select(participants.c.recruiter_id)).scalars())
    tables = _tables(study, found)
    known = _known(study)
    for name, table in tables.items():
        refuse_leaks(table, name, known=known, private=private)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        flow = sample_flow(study, [person.session for person in found])
        _write(draft, study, tables, {**facts, "flow": flow, "sources": sorted(sources)})
        draft.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    main, excluded = (tables[name] for name in _names(study)[:2])
    return Exported(folder, len(main), len(excluded), len(found), flow)


def _names(study: FrozenStudy) -> tuple[str, str, str]:
    """File names after Psych-DS: values are letters and digits only."""
    name = re.sub("[^a-z0-9]", "", study.file.study)
    start = f"data/study-{name}"
    return (
        f"{start}_data.csv",
        f"{start}_description-excluded_data.csv",
        f"{start}_description-sessions_data.csv",
    )


def _tables(study: FrozenStudy, found: Sequence[PersonRows]) -> dict[str, pd.DataFrame]:
    rows = [row for person in found for row in person.responses]
    main, excluded, people_name = _names(study)
    return {
        main: frame(ResponseRow, [row for row in rows if not row.excluded]),
        excluded: frame(ResponseRow, [row for row in rows if row.excluded]),
        people_name: frame(SessionRow, [person.session for person in found]),
    }


def _known(study: FrozenStudy) -> set[str]:
    trials = [trial for cell in study.trials.values() for trial in cell]
    known = {study.key, study.file.study, *study.trials, *study.conditions}
    for trial in trials:
        known |= {trial.item_id, trial.trial_id, trial.block, trial.expected, *trial.options}
    return known


def _facts(connection: Connection, study: FrozenStudy, sources: Collection[str]) -> dict[str, Any]:
    mine = select(sessions.c.session).where(sessions.c.stimuli == study.key, sessions.c.source.in_(sorted(sources)))

    def count(table: Any, **where: Any) -> int:
        query = select(func.count()).select_from(table).where(table.c.session.in_(mine)).filter_by(**where)
        return int(connection.execute(query).scalar_one())

    chains = (
        select(sessions.c.session, sessions.c.chain).where(sessions.c.session.in_(mine)).order_by(sessions.c.session)
    )
    joined = "".join(f"{row.session}{row.chain}" for row in connection.execute(chains))
    return {
        "alarms": count(alarms),
        "codes_complete": count(codes, kind="complete"),
        "codes_manual": count(codes, kind="manual"),
        "withdrawn": count(tombstones),
        "chain": sha256_bytes(joined.encode()),
    }


def sample_flow(study: FrozenStudy, found: Sequence[SessionRow]) -> list[dict[str, Any]]:
    """Count people per step and condition: entered, consented, finished, failed each check, analysed."""
    declared = [name for name in RULES if getattr(study.file.checks, name) is not None]
    steps: list[tuple[str, list[SessionRow]]] = [
        ("entered", list(found)),
        ("withdrawn", [row for row in found if row.state == "WITHDRAWN"]),
        ("consented", [row for row in found if row.consented]),
        ("finished", [row for row in found if row.finished]),
        *((f"failed {name}", [r for r in found if name in r.exclusion_reason.split(";")]) for name in declared),
        ("analysed", [row for row in found if row.finished and not row.excluded]),
    ]
    return [
        {"step": step, "all": len(rows), **{name: sum(r.condition == name for r in rows) for name in study.conditions}}
        for step, rows in steps
    ]


def _write(draft: Path, study: FrozenStudy, tables: dict[str, pd.DataFrame], facts: dict[str, Any]) -> None:
    (draft / "data").mkdir()
    files = {}
    for name, table in tables.items():
        table.to_csv(draft / name, index=False, lineterminator="\n")
        files[name] = {"rows": len(table), "sha256": sha256_file(draft / name)}
    declared = {
        name: value for name, value in study.file.checks.model_dump().items() if name in RULES and value is not None
    }
    provenance = {
        "schema": EXPORT_SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "study": study.file.study,
        "study_version": study.file.version,
        "title": study.file.title,
        "stimuli": study.key,
        "parents": dict(study.artifact.manifest["parents"]),
        "stimuli_files": sha256_bytes(json.dumps(study.artifact.manifest["files"], sort_keys=True).encode()),
        "conditions": list(study.conditions),
        "checks": declared,
        "excluded_means": f"a declared check failed, or '{UNFINISHED}'",
        "study_file": study.file.model_dump(mode="json"),
        "protocol": json.loads(study.artifact.file("protocol.json").read_text(encoding="utf-8")),
        "files": files,
        **facts,
        **environment(),
    }
    (draft / "provenance.json").write_text(as_json(provenance), encoding="utf-8")
    (draft / "codebook.md").write_text(codebook(study.file.title, declared), encoding="utf-8")
    (draft / "dataset_description.json").write_text(as_json(_description(study, facts)), encoding="utf-8")


def _description(study: FrozenStudy, facts: dict[str, Any]) -> dict[str, Any]:
    columns = {column.name: column for record in (SessionRow, ResponseRow) for column in describe(record)}
    return {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "name": f"{study.file.title} ({study.file.study}, version {study.file.version})",
        "description": (
            f"Responses to the protocol '{study.file.protocol}', stimulus set {study.key}, "
            f"sources: {', '.join(facts['sources'])}."
        ),
        "schemaVersion": "Psych-DS 1.0.0",
        "version": str(study.file.version),
        "variableMeasured": [
            {"@type": "PropertyValue", "name": c.name, "description": " ".join(c.meaning.split()) or c.name}
            for c in columns.values()
        ],
    }


def included(names: Sequence[str]) -> list[str]:
    """Turn the values of `--include` into sources; live people are always in."""
    chosen = {"live", *(NAMED[name] for name in names)}
    return [source for source in SOURCES if source in chosen]
