"""`limen analyze power`: how likely a study finds what it assumes, by size, before anyone is paid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.registry import LimenError

if TYPE_CHECKING:
    from . import Task
    from .files import Analysis

STORE = ".limen/store"


def whole_numbers(text: str | None, name: str) -> tuple[int, ...]:
    """Read '20,40,80'.

    Raises
    ------
    LimenError
        If a part is no whole number.
    """
    found = []
    for part in (text or "").split(","):
        if not part.strip().isdigit():
            raise LimenError(
                f"--{name}: given '{text}'; allowed are whole numbers separated by commas, such as 20,40,80."
            )
        found.append(int(part))
    return tuple(dict.fromkeys(found))


def deviations_of(pairs: Sequence[str]) -> dict[str, float]:
    """Read 'participant=.5' or 'item:condition=.3'.

    Raises
    ------
    LimenError
        If a part is no name and number.
    """
    found = {}
    for pair in pairs:
        name, equals, value = pair.rpartition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise LimenError(f"--sd: given '{pair}'; allowed are a name and a number, such as participant=0.6.")
    return found


@click.command()
@click.argument("study_path", metavar="STUDY.yaml", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--participants", help="Sizes to try: people of each condition, or in all where everyone sees all [quota]."
)
@click.option(
    "--items", help="Sizes to try: items of the pool, of each condition where each has its own [the study's]."
)
@click.option("--effect", type=float, help="Difference of accuracies to find [what the bots of the study file say].")
@click.option("--accuracy", type=float, help="Accuracy at the reference [what the bots say].")
@click.option("--sd", "sds", multiple=True, help="Standard deviation in log-odds: participant=.6, item=.7, item:condition=.4.")  # fmt: skip
@click.option(
    "--sims", default=200, show_default=True, type=click.IntRange(1), help="Studies simulated for each effect."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--detectable/--no-detectable", default=True, show_default=True, help="Look for the smallest detectable effect.")  # fmt: skip
@click.option("--processes", type=click.IntRange(1), help="Worker processes [all cores].")
@click.option("--store", default=STORE, show_default=True, type=click.Path(path_type=Path), help="Folder of artifacts: a stimulus set there tells who meets which items.")  # fmt: skip
@click.option("--reliability", type=float, help="Instead, for importance maps: reliability of an image's pooled map to plan its players by.")  # fmt: skip
@click.option("--agreement", type=float, help="With --reliability: how far two players' maps of an image correlate.")
@click.option("--ceiling", type=(float, int), help="With --reliability: split-half ceiling of a pilot and its players an image.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for CSV and JSON; a run that was stopped goes on there.")  # fmt: skip
def power(
    study_path: Path, participants: str | None, items: str | None, effect: float | None, accuracy: float | None,
    sds: tuple[str, ...], sims: int, seed: int, detectable: bool, processes: int | None, store: Path, reliability: float | None,
    agreement: float | None, ceiling: tuple[float, int] | None, out: Path | None,
) -> None:  # fmt: skip
    """Simulate STUDY.yaml and count how often its analysis finds the assumed effect."""
    from stimuli.build import frozen
    from stimuli.study import load_study, resolve

    from . import grid
    from .assume import assume, decision
    from .files import Analysis, write
    from .shape import shape_of

    resolved = resolve(load_study(study_path))
    study = resolved.study
    if reliability is not None:
        click.echo(players(resolved, reliability, agreement, ceiling))
        return
    shape = shape_of(resolved, frozen(study, _store(store)) if store.is_dir() else None)
    chosen = decision(study, shape)
    told = assume(study, shape, chosen.contrast, effect=effect, accuracy=accuracy, sds=deviations_of(sds))
    sizes = {
        "participants": whole_numbers(participants, "participants") if participants else (study.quota,),
        "items": whole_numbers(items, "items") if items else (shape.items,),
    }
    tasks = grid(told.assumed, chosen, sizes, sims=sims, seed=seed, search=detectable)
    click.echo(assumptions(tasks[0], told.sources))
    cells = _run(tasks, processes or os.cpu_count() or 1, out)
    whole = Analysis(study=study.study, study_version=study.version, protocol=study.protocol, sources=told.sources,
                     cells=tuple(cells))  # fmt: skip
    show(whole)
    if out is not None:
        write(whole, out)
        click.echo(f"power: {out / 'power.json'}, {out / 'power.csv'}")


def players(resolved: Any, target: float, agreement: float | None, ceiling: tuple[float, int] | None) -> str:
    """Say how many players an image of a reveal game needs, at one agreement of two players or at several.

    Raises
    ------
    LimenError
        If the protocol has no importance maps, or the agreement is given twice.
    """
    from .reliability import AGREEMENTS, agreement_of, players_for, told

    study = resolved.study
    if resolved.design.card.analysis != "clickme":
        raise LimenError(
            f"study '{study.study}', --reliability: given protocol '{study.protocol}'; allowed are those with importance maps, "
            "such as clickme; leave it out to simulate the test."
        )
    if agreement is not None and ceiling is not None:
        raise LimenError("--agreement, --ceiling: given both; allowed is one of them.")
    known = agreement_of(*ceiling) if ceiling is not None else agreement
    planned = resolved.options.get("people")
    return told(
        [players_for(target, one, planned=planned) for one in (AGREEMENTS if known is None else (known,))],
        planned=planned,
    )


def _store(path: Path) -> Any:
    from bench.store import Store

    return Store(path)


def _run(tasks: Sequence[Task], processes: int, out: Path | None) -> list[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from . import ROUNDS, runner
    from .files import run_grid

    each = tasks[0].sims * (2 + (ROUNDS if tasks[0].search else 0))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("simulated studies", total=each * len(tasks))
        finished = iter(range(1, len(tasks) + 1))

        def done(cell: Any, resumed: bool) -> None:
            # A search may end early, and a cell from before costs nothing.
            bar.update(line, completed=each * next(finished))

        with runner(processes, tick=lambda count: bar.advance(line, count)) as run:
            return run_grid(tasks, run, folder=None if out is None else out / "cells", done=done)


_TESTS = {
    "oddone": "Welch's t over rules, as the analysis 'oddone' makes it",
    "utility": "mixed model of condition and session, participants and items crossed",
    "agreement": "t test over participants, as the analysis 'agreement' makes it",
    "preference": "Bradley-Terry model, clustered by participant",
}


def assumptions(task: Task, sources: Any) -> str:
    """Say in lines what is simulated, each number with its source."""
    assumed, shape, chosen = task.assumed, task.assumed.shape, task.decision
    what = "probability to be chosen less .5" if shape.analysis == "preference" else "difference of accuracies"
    levels = "levels that everyone meets" if shape.within else "groups of participants"
    items = "the same items" if shape.crossed else "items of its own"
    if shape.block:
        items = "rules of its own"
    lines = [
        f"{shape.protocol}: {chosen.contrast.label}, {what} {assumed.difference():+.3f} ({sources['effect']})",
        f"  test       {_TESTS.get(shape.analysis, shape.formula)}",
        f"             alpha {chosen.alpha:g}, {chosen.direction}, correction {chosen.correction} ({chosen.source})",
        f"  design     {len(shape.levels)} {levels}, each with {items}; {shape.trials} answers a person ({shape.source})",
    ]
    if shape.analysis != "preference":
        accuracies = ", ".join(f"{name} {value:.3f}" for name, value in assumed.accuracies().items())
        lines.append(f"  accuracy   {accuracies} ({sources['accuracy']}), lapses {assumed.lapse:g}")
    if shape.block:
        lines.append(
            f"  blocks     {shape.block} problems of one rule, {assumed.learning:+g} log-odds over each ({sources['learning']})"
        )
    for number, (name, value) in enumerate(assumed.sds.items()):
        lines.append(f"  {'SD log-odds' if number == 0 else '           '} {name} {value:g} ({sources[f'sd {name}']})")
    return "\n".join(lines)


def show(analysis: Analysis) -> None:
    """Print the grid."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Power by simulation, 95 % exact intervals", title_justify="left")
    for name in ("participants", "people", "items", "answers", "power", "type I", "failed fits", "detectable at .8"):
        table.add_column(name, justify="right")
    for row in (cell.record() for cell in analysis.cells):
        table.add_row(
            str(row["participants"]), str(row["people"]), str(row["items"]), str(row["trials"]),
            _rate(row, "power"), _rate(row, "type_i"), f"{row['failed_share']:.1%}", _detectable(row),
        )  # fmt: skip
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
    sims = analysis.cells[0].task.sims
    click.echo(
        f"{sims} studies for each effect, seed {analysis.cells[0].task.seed}; a fit that fails counts as no rejection. "
        "Type I: the same at no effect."
    )


def _rate(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def _detectable(row: dict[str, Any]) -> str:
    value, low, high = (row[f"detectable{end}"] for end in ("", "_low", "_high"))
    return "-" if value != value else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
