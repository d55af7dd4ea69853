"""What lies beside a report's page: figures as SVG and PNG, tables as CSV and LaTeX, the codebook, and every number as JSON."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from bench.store import sha256_file

from .. import tables
from ..latex import latex
from ..results import plain
from . import figures as report_figures
from . import tables as report_tables
from .analysis import Analysed
from .codebook import write_codebook
from .methods import limits, methods
from .page import Drawn
from .plan import plan_facts

SCHEMA = 2
PACKAGES = ("limen", "numpy", "scipy", "pandas", "matplotlib", "jinja2")


def provenance_of(analysed: Analysed, scores: str | Path | None, stamp: str, command: str) -> dict[str, Any]:
    """Name every file that was read, with its hash, and what it says it was made from."""
    study = analysed.study
    files = [{"file": item.name, "sha256": item.sha256, "rows": item.rows} for item in study.files]
    if scores is not None:
        path = Path(scores)
        rows = 0 if analysed.scores is None else len(analysed.scores)
        files.append({"file": path.name, "sha256": sha256_file(path), "rows": rows})
    return {
        "schema": SCHEMA,
        "study": study.name,
        "study_version": study.version,
        "protocol": study.protocol,
        "stimuli": str(study.trials["stimuli"].iloc[0]),
        "observers": study.source,
        "written": stamp,
        "command": command,
        "software": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "files": files,
        "export": plain(study.provenance),
    }


def write_beside(folder: Path, analysed: Analysed, drawn: Drawn, book: pd.DataFrame) -> None:
    """Write everything but the page into the folder."""
    for name in ("figures", "tables"):
        (folder / name).mkdir()
    for picture in report_figures.unique(drawn.pictures):
        (folder / "figures" / f"{picture.name}.svg").write_text(picture.svg, encoding="utf-8")
        (folder / "figures" / f"{picture.name}.png").write_bytes(picture.png)
    for sheet in report_tables.unique(drawn.tables):
        sheet.frame.to_csv(folder / "tables" / f"{sheet.name}.csv", index=False)
        (folder / "tables" / f"{sheet.name}.tex").write_text(latex(sheet), encoding="utf-8")
    if "participant_means" in analysed.results:
        people = tables.participants_frame(analysed.results["participant_means"], analysed.study)
        people.to_csv(folder / "tables" / "participants.csv", index=False)
    write_codebook(book, folder)
    text = json.dumps(content(analysed, drawn), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")


def content(analysed: Analysed, drawn: Drawn) -> dict[str, Any]:
    """Return what `results.json` holds: every number of the report, at full precision."""
    study = analysed.study
    return {
        "schema": SCHEMA,
        "answer": analysed.answer,
        "further": analysed.further,
        "protocol": study.protocol,
        "simulated": study.simulated,
        "conditions": list(study.conditions),
        "baseline": study.baseline,
        "chance": study.chance,
        "primary": next(iter(analysed.results)),
        "analyses": {name: result.json() for name, result in analysed.results.items()},
        "flow": plain(analysed.flow),
        "exclusions": plain(analysed.exclusions),
        "without_exclusions": None if analysed.everyone is None else analysed.everyone.json(),
        "methods": [
            {"heading": one.heading, "text": one.text, "points": list(one.points)} for one in methods(analysed)
        ],
        "limits": limits(analysed),
        "plan": plain(plan_facts(analysed)) or None,
        "warnings": list(analysed.warnings),
        "provenance": drawn.provenance,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
