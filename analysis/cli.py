"""`limen analyze`: from responses to a report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd

from bench.registry import LimenError, unknown

from . import format as write
from .link_cli import link
from .load import Study, load
from .models import ANALYSES
from .models.utility import FORMULAS
from .power.cli import power
from .results import Estimate, Result

_DATA = click.argument("data", type=click.Path(path_type=Path))
_COLUMNS = click.option(
    "--columns", type=click.Path(path_type=Path), help="YAML file that maps our column names to a tidy CSV's."
)
_BASELINE = click.option("--baseline", help="The condition others are compared with (default: 'baseline').")


@click.group()
def analyze() -> None:
    """Analyse the responses of a study."""


analyze.add_command(link)
analyze.add_command(power)


@analyze.command("list")
def list_analyses() -> None:
    """List the analyses there are."""
    for name in ANALYSES.names():
        card = ANALYSES.card(name)
        click.echo(f"{name:20} {card.summary} [{card.citation}]")


@analyze.command()
@_DATA
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="New folder for the report.")
@click.option("--scores", type=click.Path(path_type=Path), help="Score table of `limen bench table --format csv`.")
@_COLUMNS
@_BASELINE
@click.option(
    "--samples",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Drawings of a model (safetensors, a tensor an exemplar), beside people's; repeat for several.",
)
@click.option("--timestamp", help="Time printed in the report; the same input and time give the same bytes.")
@click.option("--pdf", is_flag=True, help="Also print the page as report.pdf (needs Chromium).")
def report(
    data: Path, out: Path, scores: Path | None, columns: Path | None, baseline: str | None, samples: tuple[Path, ...],
    timestamp: str | None, pdf: bool
) -> None:  # fmt: skip
    """Write the report of DATA: an export folder of any protocol, or a tidy CSV with --columns."""
    from .report import write_report

    parts = ["limen", "analyze", "report", data.name, "-o", out.name]
    for option, value in (("--scores", scores), ("--columns", columns)):
        parts += [option, value.name] if value else []
    parts += ["--baseline", baseline] if baseline else []
    parts += [part for given in samples for part in ("--samples", given.name)]
    page = write_report(
        data, out, scores, columns=columns, baseline=baseline, samples=samples, timestamp=timestamp,
        command=shlex.join(parts),
    )  # fmt: skip
    click.echo(f"report: {page}")
    if pdf:
        from .pdf import print_pdf

        click.echo(f"pdf: {print_pdf(page)}")


@analyze.command()
@_DATA
@_COLUMNS
@_BASELINE
@click.option("--formula", type=click.Choice(FORMULAS), default="ratio_of_means", show_default=True)
@click.option(
    "--csv", "csv_path", type=click.Path(path_type=Path), help="Also write `condition, utility, low, high, n`."
)
def utility(data: Path, columns: Path | None, baseline: str | None, formula: str, csv_path: Path | None) -> None:
    """Print the Utility of each condition of DATA."""
    study = load(data, columns=columns, baseline=baseline)
    if study.baseline is None or study.within:
        raise LimenError(
            f"{data.name}: Utility compares people of several conditions with a baseline, and this study has none."
        )
    result = ANALYSES.load("utility")(study.answers(), baseline=study.baseline)
    items = [item for item in result.of(f"utility ({formula})") if item.interval == "log-delta"]
    _print_utilities(study, result, items, formula)
    if csv_path is not None:
        if csv_path.exists():
            raise LimenError(f"{csv_path}: already exists, and nothing is overwritten; give a new file.")
        frame = pd.DataFrame(
            {"condition": i.label, "utility": i.value, "low": i.low, "high": i.high, "n": i.n} for i in items
        )
        frame.to_csv(csv_path, index=False)
        click.echo(f"utilities: {csv_path}")


def _print_utilities(study: Study, result: Result, items: list[Estimate], formula: str) -> None:
    from rich.console import Console
    from rich.table import Table

    observers = "simulated observers" if study.simulated else "participants"
    click.echo(f"Utility ({formula}) against '{study.baseline}', {observers}")
    table = Table()
    table.add_column("condition")
    for name in ("n", "utility", "log-delta 95 %", "bootstrap 95 %"):
        table.add_column(name, justify="right")
    samples = {
        item.label: item for item in result.of(f"utility ({formula})") if item.interval == "bootstrap over participants"
    }
    for item in sorted(items, key=lambda item: -item.value):
        other = samples.get(item.label)
        cells = (write.interval(item.low, item.high), write.interval(other.low, other.high) if other else write.DASH)
        table.add_row(item.label, str(item.n), write.number(item.value), *cells)
    Console().print(table)


@analyze.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("formula")
@click.option("--family", default="gaussian", show_default=True, help="gaussian or binomial.")
@click.option("--ml", is_flag=True, help="Maximum likelihood instead of REML (gaussian), to compare fixed parts.")
@click.option("--trials", help="Column with the number of trials behind a binomial response.")
@click.option("--offset", help="Column that is added to the linear predictor as it is.")
@click.option("--missing", default="error", show_default=True, help="error, or drop rows with missing values.")
@click.option("--factor", "factors", multiple=True, help="Column to be read as categories although it holds numbers.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the fit, at full precision.")
def fit(
    data: Path,
    formula: str,
    family: str,
    ml: bool,
    trials: str | None,
    offset: str | None,
    missing: str,
    factors: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Fit a mixed model to the tidy table DATA (CSV or Parquet).

    FORMULA is 'response ~ fixed + (effects | group)', for example
    'correct ~ condition + (1|participant) + (1|item)'.
    """
    from .mixed_models import mixedlm

    if json_path is not None and json_path.exists():
        raise LimenError(f"{json_path}: already exists, and nothing is overwritten; give a new file.")
    table = read_tidy(data, factors)
    # What is allowed is checked, and told, by the model.
    chosen: dict[str, Any] = {"family": family, "missing": missing}
    model = mixedlm(formula, table, **chosen, reml=not ml, trials=trials, offset=offset)
    results = model.fit()
    click.echo(results.summary())
    if json_path is not None:
        json_path.write_text(json.dumps(results.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        click.echo(f"fit: {json_path}")
    if not results.converged:
        raise LimenError(f"formula '{model.parsed.text}': the fit did not converge, so nothing was estimated.")


def read_tidy(path: Path, factors: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table, CSV or Parquet, and turn the named columns into categories.

    Raises
    ------
    LimenError
        If it cannot be read, or lacks a column.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise LimenError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]}).") from None
    for name in factors:
        if name not in table.columns:
            raise unknown(f"{path.name}, --factor, column", name, table.columns)
        table[name] = table[name].astype(str).where(table[name].notna())
    return table


@analyze.command()
@click.argument("export", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of artifacts, perhaps the bench's store.",
)
@click.option("--store", default=".limen/store", show_default=True, type=click.Path(path_type=Path), help="Store that holds the stimulus set of EXPORT.")  # fmt: skip
@click.option("--condition", help="Only the rounds of one condition (default: all).")
@click.option("--people", default=5, show_default=True, type=click.IntRange(2), help="Fewest people an image needs.")
@click.option("--min-boxes", default=2, show_default=True, type=click.IntRange(1), help="Fewest boxes of a round.")
@click.option("--max-boxes", type=click.IntRange(1), help="Most boxes of a round (default: any).")
@click.option(
    "--side", default=64, show_default=True, type=click.IntRange(4), help="Longer side of the maps, in pixels."
)
@click.option(
    "--kernel",
    default=7,
    show_default=True,
    type=click.IntRange(1),
    help="Side of the blur in pixels of the maps, odd.",
)
@click.option(
    "--sigma", default=1.2, show_default=True, type=float, help="Standard deviation of the blur, in pixels of the maps."
)
def maps(
    export: Path, out: Path, store: Path, condition: str | None, people: int, min_boxes: int, max_boxes: int | None,
    side: int, kernel: int, sigma: float,
) -> None:  # fmt: skip
    """Write the human importance maps of EXPORT, a reveal game, for `human_alignment` in a bench plan."""
    from bench.store import Store

    from .importance import write_maps
    from .measures.importance_maps import Filters, Smoothing

    filters = Filters(min_boxes=min_boxes, max_boxes=max_boxes, min_people=people)
    how = Smoothing(kernel=kernel, sigma=sigma)
    artifact = write_maps(export, out, Store(store), condition=condition, filters=filters, how=how, side=side)
    facts = artifact.summary
    for rule, count in facts["rounds"].items():
        click.echo(f"  {rule}: {count}")
    click.echo(f"{facts['images']} images, split-half ceiling {facts['ceiling']:.3f} (null {facts['null']:.3f})")
    click.echo(f"maps: {artifact.path}")
