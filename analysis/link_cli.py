"""`limen analyze link`: do the scores of a benchmark predict what helps people, on each data set and over data sets?"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pandas as pd

from bench.registry import LimenError

from . import format as write
from .load import load, read_scores
from .results import Estimate, Result

if TYPE_CHECKING:
    from .measures.association import Reliability

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--scores", required=True, multiple=True, type=FILE, help="Score table of `limen bench table`; one a data set.")  # fmt: skip
@click.option("--utility", "utilities", required=True, multiple=True, type=FILE, help="CSV with columns condition and utility (of `limen analyze utility --csv`), in the order of --scores.")  # fmt: skip
@click.option("--name", "names", multiple=True, help="Name of each data set [the name of its --utility file].")
@click.option("--trials", multiple=True, type=FILE, help="Export behind each --utility: reliability by split halves of participants.")  # fmt: skip
@click.option("--baseline", help="The condition Utility is relative to, for --trials [baseline].")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of resampling and random orders.")
@click.option("-o", "--out", type=FILE, help="Folder for link.json and link.csv.")
def link(
    scores: tuple[Path, ...], utilities: tuple[Path, ...], names: tuple[str, ...], trials: tuple[Path, ...],
    baseline: str | None, seed: int, out: Path | None,
) -> None:  # fmt: skip
    """Put scores beside Utility: do they predict what helps people?

    Give --scores and --utility once for each data set.
    """
    from .models import ANALYSES

    called = _names(scores, utilities, names, trials)
    pairs = {
        name: _pair(one, other) for name, one, other in zip(called, scores, utilities, strict=True)
    }  # fmt: skip
    known = {
        name: _reliability(path, list(pairs[name][1]["condition"]), baseline, seed)
        for name, path in zip(called, trials, strict=False)
    }
    result: Result = ANALYSES.load("link_datasets")(pairs, reliabilities=known, seed=seed)
    _show(result, called)
    if out is not None:
        _write(result, out)


def _names(
    scores: Sequence[Path], utilities: Sequence[Path], names: Sequence[str], trials: Sequence[Path]
) -> list[str]:  # fmt: skip
    if len(scores) != len(utilities):
        raise LimenError(
            f"limen analyze link: given {len(scores)} score tables and {len(utilities)} tables of Utility; give one of each "
            "for a data set."
        )
    for what, given in (("--name", names), ("--trials", trials)):
        if given and len(given) != len(scores):
            raise LimenError(f"limen analyze link, {what}: given {len(given)} times; allowed are 0 or {len(scores)}.")
    called = list(names) or [path.stem for path in utilities]
    twice = next((name for name in called if called.count(name) > 1), None)
    if twice is not None:
        raise LimenError(f"limen analyze link: two data sets are called '{twice}'; tell them apart with --name.")
    return called


def _pair(scores: Path, utilities: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    table, human = read_scores(scores), read_utilities(utilities)
    if not set(human["condition"]) & set(table["label"]):
        raise LimenError(
            f"{utilities.name}: none of its conditions is a method of {scores.name}, so there is nothing to link."
        )
    return table, human


def _reliability(path: Path, conditions: list[str], baseline: str | None, seed: int) -> Reliability:
    from .measures.association import split_half_utility

    study = load(path, baseline=baseline)
    answers = study.answers()
    if study.baseline is None:
        raise LimenError(f"{path}: no condition is the baseline; name it with --baseline.")
    there = [name for name in conditions if name in set(answers["condition"])]
    return split_half_utility(answers, there, baseline=study.baseline, seed=seed)


def read_utilities(path: Path) -> pd.DataFrame:
    """Read a table of Utilities.

    Raises
    ------
    LimenError
        If it cannot be read, or lacks `condition` or `utility`, or a value is not a number.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise LimenError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]}).") from None
    for name in ("condition", "utility"):
        if name not in table.columns:
            raise LimenError(f"{path.name}: column {name} missing; there are {', '.join(map(str, table.columns))}.")
    numbers = pd.to_numeric(table["utility"], errors="coerce")
    if numbers.isna().any() or table["condition"].duplicated().any():
        raise LimenError(f"{path.name}: each condition needs one row and a numeric utility.")
    ends = {name: pd.to_numeric(table[name], errors="coerce") for name in ("low", "high") if name in table.columns}
    return table.assign(condition=table["condition"].astype(str), utility=numbers.astype(float), **ends)


def _show(result: Result, names: Sequence[str]) -> None:
    methods = ", ".join(f"{name} {result.facts['methods'][name]}" for name in names)
    click.echo(f"Methods with scores and Utility: {methods}")
    single = [item for item in result.estimates if item.unit == "methods" and "drawn" not in item.quantity]
    _print(
        "Each data set; 95 % intervals over methods; p from permutations, null = 95 % of the orders", _SINGLE, single
    )
    _print("What they hang on; corrected = without the measurement error of both sides", _DETAIL, single)
    if len(names) > 1:
        _print("Over data sets: p of these (orders within each), interval of others like them", _POOLED, [i for i in result.estimates if "pooled" in i.quantity])  # fmt: skip
        _print("Between data sets, on the scale of atanh", _SPREAD, [i for i in result.estimates if "spread" in i.quantity])  # fmt: skip
    for flag, text in result.json()["flags"].items():
        if flag != "few_datasets" or len(names) > 1:
            click.echo(f"note: {text}")


def _whole(value: Any) -> str:
    if value is None or not math.isfinite(float(value)):
        return "> 100,000" if value == math.inf else write.DASH
    return f"{int(value):,}"


def _ends(item: Estimate, name: str) -> str:
    return write.interval(item.extra.get(f"{name}_low", math.nan), item.extra.get(f"{name}_high", math.nan))


def _with_interval(item: Estimate, name: str) -> str:
    value = item.extra.get(name, math.nan)
    return f"{write.number(value)} {_ends(item, name)}" if math.isfinite(value) else write.DASH


Column = tuple[str, Any]
_HEAD: tuple[Column, ...] = (
    ("metric", lambda item: item.label),
    ("coefficient", lambda item: item.quantity),
    ("n", lambda item: str(item.n)),
    ("value", lambda item: write.number(item.value)),
    ("interval", lambda item: write.interval(item.low, item.high)),
)
_SINGLE: tuple[Column, ...] = (
    *_HEAD,
    ("null", lambda item: _ends(item, "null")),
    ("p", lambda item: write.p_value(item.p)),
    ("smallest p", lambda item: write.p_value(item.extra.get("smallest_p", math.nan))),
)
_DETAIL: tuple[Column, ...] = (
    *_HEAD[:2],
    ("exact interval", lambda item: _ends(item, "exact")),
    ("without one", lambda item: _ends(item, "leave_one_out")),
    ("most moved by", lambda item: item.extra.get("most_influential") or write.DASH),
    ("n for .8", lambda item: _whole(item.extra.get("methods_for_power"))),
    ("corrected", lambda item: _with_interval(item, "corrected")),
)
_POOLED: tuple[Column, ...] = (
    *_HEAD,
    ("new data set", lambda item: _ends(item, "prediction")),
    ("p", lambda item: write.p_value(item.p)),
    ("p Holm", lambda item: write.p_value(item.p_adjusted)),
    ("sets for .8", lambda item: _whole(item.extra.get("datasets_for_power"))),
    ("left out", lambda item: item.extra.get("left_out") or write.DASH),
)
_SPREAD: tuple[Column, ...] = (*_HEAD, ("p of none", lambda item: write.p_value(item.p)))


def _print(title: str, columns: Sequence[Column], items: Sequence[Estimate]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name, _ in columns:
        left = name in ("metric", "coefficient", "most moved by", "left out")
        table.add_column(name, justify="left" if left else "right")
    for item in items:
        table.add_row(*(read(item) for _, read in columns))
    console = Console()
    (console if console.is_terminal else Console(width=130)).print(table)


def _write(result: Result, out: Path) -> None:
    files = {"link.json": json.dumps(result.json(), indent=2, allow_nan=False) + "\n",
             "link.csv": result.table().to_csv(index=False, lineterminator="\n")}  # fmt: skip
    for name in files:
        if (out / name).exists():
            raise LimenError(f"{out / name}: already exists, and nothing is overwritten; give a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    click.echo(f"link: {out / 'link.json'}, {out / 'link.csv'}")
