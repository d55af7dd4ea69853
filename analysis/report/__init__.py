"""Write a study's report: one self-contained page that answers first, and its numbers, tables and figures beside it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bench.registry import LimenError

from .. import format as write
from ..battery.utility import FORMULA
from ..drawings import with_samples
from ..load import ColumnMap, load, read_scores
from .analysis import Analysed, analyse
from .codebook import codebook, codebook_table
from .figures import draw
from .files import provenance_of, write_beside
from .page import Drawn, render_page
from .tables import make_tables

__all__ = ["Analysed", "analyse", "utility_lines", "write_report"]


def write_report(
    export: str | Path,
    out: str | Path,
    scores: str | Path | None = None,
    *,
    columns: str | Path | ColumnMap | None = None,
    baseline: str | None = None,
    samples: Sequence[str | Path] = (),
    timestamp: str | None = None,
    command: str = "",
) -> Path:
    """Analyse the responses of a study and write the report folder.

    Parameters
    ----------
    export : path
        Folder written by `limen study export`, of any protocol, or a tidy CSV.
    out : path
        Folder to make; it must not exist.
    scores : path, optional
        Bench score table, for the leaderboard and the link between scores and Utility.
    columns : path or ColumnMap, optional
        Column map of a tidy CSV.
    baseline : str, optional
        The condition others are compared with.
    samples : sequence of path
        Drawings of models to set beside people's, for the protocol `drawing` (`analysis.drawings.read_samples`).
    timestamp : str, optional
        Printed as the time of writing; the only part of a report that the input does not determine.
    command : str
        Printed under provenance.

    Returns
    -------
    Path
        The page, `out/report.html`; beside it `results.json`, `codebook.csv` and `.json`, `tables/*.csv`, and
        `figures/*.svg` and `*.png`.

    Raises
    ------
    LimenError
        If the folder exists, or for any fault of the input.
    """
    out = Path(out)
    if out.exists():
        raise LimenError(f"{out}: already exists, and a report overwrites nothing; give a new folder.")
    study = with_samples(load(export, columns=columns, baseline=baseline), samples)
    analysed = analyse(study, _scores(scores))
    stamp = timestamp if timestamp is not None else datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    book = codebook(study)
    sheets = {**make_tables(analysed), "codebook": (codebook_table(book),)}
    provenance = provenance_of(analysed, scores, stamp, command)
    drawn = Drawn(pictures=draw(analysed), tables=sheets, provenance=provenance, stamp=stamp)
    draft = out.parent / f".{out.name}.partial"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write_beside(draft, analysed, drawn, book)
    (draft / "report.html").write_text(render_page(analysed, drawn), encoding="utf-8")
    draft.rename(out)
    return out / "report.html"


def _scores(path: str | Path | None) -> pd.DataFrame | None:
    return None if path is None else read_scores(path)


def utility_lines(results: Mapping[str, Any]) -> list[str]:
    """Render the content of `results.json` as lines for the terminal: the answer, then accuracy and Utility by condition."""
    analyses = results["analyses"]
    ratios = {
        item["label"]: item
        for item in analyses["utility"]["estimates"]
        if item["quantity"] == f"utility ({FORMULA})" and item["interval"] == "log-delta"
    }
    lines = ["", results["answer"], "", f"{'condition':24} {'n':>4} {'accuracy':>9}   utility [95 %]"]
    for item in analyses["participant_means"]["estimates"]:
        if item["quantity"] != "accuracy":
            continue
        value, low, high = (_number(ratios.get(item["label"], {}).get(key)) for key in ("value", "low", "high"))
        ratio = "1 by definition" if item["label"] == results["baseline"] else _ratio(value, low, high)
        lines.append(f"{item['label']:24} {item['n']:>4} {write.percent(_number(item['value'])):>9}   {ratio}")
    return lines


def _ratio(value: float, low: float, high: float) -> str:
    return f"{write.number(value)} {write.interval(low, high)}"


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
