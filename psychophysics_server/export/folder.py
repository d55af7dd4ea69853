"""The export: a folder after Psych-DS that a reader needs nothing else to understand."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, func, select

from bench.registry import LimenError
from bench.store import environment, sha256_bytes, sha256_file

from ..people.checks import RULES
from ..people.rows import as_json
from ..records import EXPORT_SCHEMA, SOURCES, SessionRow
from ..storage.database import Database
from ..storage.tables import alarms, codes, participants, sessions, tombstones
from ..study.frozen import FrozenStudy
from ..study.plan import frozen_plan
from .codebook import codebook
from .guard import data_leak, refuse_leaks, texts_in
from .kinds import EXCLUDED, MAIN, MODEL, Kinds
from .people import BATCH, UNFINISHED, PersonRows, people
from .psych_ds import description, file_name
from .sheets import Sheet

NAMED = {"bots": "bot", "networks": "network", "pilot": "pilot", "preview": "preview"}
"""What `--include` takes -> source."""
Format = Literal["csv", "parquet"]


@dataclass(frozen=True)
class Exported:
    """What an export holds, for the terminal."""

    folder: Path
    responses: int
    excluded: int
    people: int
    flow: list[dict[str, Any]]
    texts: int = 0
    """Answers with free text; its words are written only if asked for."""


@dataclass
class _Written:
    """What went into the files so far."""

    found: list[SessionRow] = field(default_factory=list)
    texts: int = 0


def export(
    database: Database,
    study: FrozenStudy,
    folder: str | Path,
    *,
    sources: Collection[str] = ("live",),
    stale_s: float,
    format: Format = "csv",
    with_texts: bool = False,
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
    format
        'parquet' adds typed tables in `products/` beside the CSV files.
    with_texts
        Also write free text, into a file of its own, for a person to read before it goes anywhere.

    Raises
    ------
    LimenError
        If the folder holds something, or a row would give a person away; then nothing is written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LimenError(f"export, folder {folder}: exists already and is not empty; nothing is overwritten.")
    kinds = Kinds(study, with_texts)
    with _draft(folder) as draft, database.read() as connection:
        if connection.dialect.name == "postgresql":  # one view of the data base from the first to the last row
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        names = list(connection.execute(_mine(study, sources).order_by(sessions.c.session)).scalars())
        facts = _facts(connection, study, sources)
        private = frozenset(connection.execute(select(participants.c.recruiter_id)).scalars())
        sheets = _sheets(draft, kinds, names, format)
        guard = _Guard(_known(study) | set(names), private)
        everyone = people(connection, study, sources=sources, stale_s=stale_s)
        try:
            written = _fill(sheets, kinds, everyone, guard)
        finally:
            for sheet in sheets.values():
                sheet.close()
        flow = sample_flow(study, written.found)
        more = {"flow": flow, "sources": sorted(sources), "texts_held": written.texts, "texts_written": with_texts}
        _write_facts(draft, kinds, sheets, {**facts, **more}, guard)
    main, excluded = sheets[MAIN].rows, sheets[EXCLUDED].rows
    return Exported(folder, main, excluded, len(written.found), flow, written.texts)


@dataclass(frozen=True)
class _Guard:
    known: frozenset[str] | set[str]
    private: frozenset[str]


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Give a folder to write into, which takes its name at the end or leaves no trace."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _mine(study: FrozenStudy, sources: Collection[str]) -> Any:
    return select(sessions.c.session).where(sessions.c.stimuli == study.key, sessions.c.source.in_(sorted(sources)))


def _sheets(draft: Path, kinds: Kinds, names: Sequence[str], format: Format) -> dict[str, Sheet]:
    levels, found = kinds.levels(names), {}
    for kind in kinds.all:
        path = file_name(kinds.study.file.study, kind.part)
        binary = draft / path.replace("data/", "products/").replace("_data.csv", ".parquet")
        found[kind.part] = Sheet(
            draft / path, kind.types, parquet=binary if format == "parquet" else None, levels=levels
        )
    return found


def _fill(sheets: dict[str, Sheet], kinds: Kinds, everyone: Iterator[PersonRows], guard: _Guard) -> _Written:
    written, waiting = _Written(), defaultdict[str, list[dict[str, Any]]](list)
    known, private = frozenset(guard.known), guard.private

    def flush() -> None:
        for part, rows in waiting.items():
            sheet = sheets[part]
            table = sheet.table(rows)
            refuse_leaks(table, f"data/{sheet.csv.name}", known=known, private=private, before=sheet.rows)
            sheet.append(table)
        waiting.clear()

    for count, person in enumerate(everyone, start=1):
        written.found.append(person.session)
        written.texts += sum(row.has_text for row in person.responses)
        for part, row in kinds.rows(person, private=private):
            waiting[part].append(row)
        if count % BATCH == 0:
            flush()
    flush()
    return written


def _known(study: FrozenStudy) -> set[str]:
    trials = [trial for cell in study.trials.values() for trial in cell]
    known = {study.key, study.file.study, *study.trials, *study.conditions, *study.pictures}
    for trial in trials:
        known |= {trial.item_id, trial.trial_id, trial.block, trial.expected, *trial.options}
        known |= {str(trial.answer.get("repeat_of")), str(trial.answer.get("definition")), ";".join(trial.subjects)}
        known |= {str(trial.payload.get("word")), *(str(value) for value in trial.factors.values())}
    return known


def _facts(connection: Connection, study: FrozenStudy, sources: Collection[str]) -> dict[str, Any]:
    mine = _mine(study, sources)

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
    by_hand = [name for name in ("researcher",) if any(name in row.exclusion_reason.split(";") for row in found)]
    steps: list[tuple[str, list[SessionRow]]] = [
        ("entered", list(found)),
        ("withdrawn", [row for row in found if row.state == "WITHDRAWN"]),
        ("consented", [row for row in found if row.consented]),
        ("finished", [row for row in found if row.finished]),
        *((f"failed {name}", [r for r in found if name in r.exclusion_reason.split(";")]) for name in declared),
        *((f"excluded by {name}", [r for r in found if name in r.exclusion_reason.split(";")]) for name in by_hand),
        ("analysed", [row for row in found if row.finished and not row.excluded]),
    ]
    return [
        {"step": step, "all": len(rows), **{name: sum(r.condition == name for r in rows) for name in study.conditions}}
        for step, rows in steps
    ]


def _write_facts(draft: Path, kinds: Kinds, sheets: dict[str, Sheet], facts: dict[str, Any], guard: _Guard) -> None:
    study, files = kinds.study, {}
    for sheet in sheets.values():
        for path in (sheet.csv, sheet.parquet):
            if path is not None:
                name = path.relative_to(draft).as_posix()
                files[name] = {"rows": sheet.rows, "sha256": sha256_file(path)}
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
        "factors": {f.name: {"type": f.type, "levels": list(f.levels)} for f in study.factors},
        "categories": {name: known for name, known in sheets[MODEL].levels.items() if name != "participant_id"},
        "checks": declared,
        "excluded_means": f"a declared check failed, or '{UNFINISHED}', or 'researcher' (decided by hand)",
        "study_file": study.file.model_dump(mode="json"),
        "protocol": json.loads(study.artifact.file("protocol.json").read_text(encoding="utf-8")),
        "files": files,
        **({"plan": plan} if (plan := frozen_plan(study.artifact)) else {}),
        **facts,
        **environment(),
    }
    described = description(
        name=f"{study.file.title} ({study.file.study}, version {study.file.version})",
        text=(
            f"Responses to the protocol '{study.file.protocol}', stimulus set {study.key}, "
            f"sources: {', '.join(facts['sources'])}."
        ),
        version=str(study.file.version),
        kinds=kinds.all,
    )
    own = {
        text
        for name in ("study_file", "protocol", "parents", "packages", "plan")
        for _, text in texts_in(provenance.get(name))
    }
    known = frozenset({*guard.known, *own, described["name"], study.file.title})
    for name, held in (("provenance.json", provenance), ("dataset_description.json", described)):
        if found := data_leak(held, known=known, private=guard.private):
            raise LimenError(f"export, {name}, key '{found[0]}': holds {found[1]}; nothing was written.")
        (draft / name).write_text(as_json(held), encoding="utf-8")
    (draft / "codebook.md").write_text(codebook(study.file.title, declared, kinds.all), encoding="utf-8")


def included(names: Sequence[str]) -> list[str]:
    """Turn the values of `--include` into sources; live people are always in."""
    chosen = {"live", *(NAMED[name] for name in names)}
    return [source for source in SOURCES if source in chosen]
