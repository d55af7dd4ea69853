"""What the commands on a served study share: its options, the data base that is there, and tables in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

STORE = ".limen/store"
Command = Callable[..., Any]


def study_options(command: Command) -> Command:
    """Add what every command on a served study takes."""
    file = click.Path(path_type=Path, dir_okay=False)
    command = click.option("--db", "database", help="Path or URL of the data base [STORE/responses/STUDY.sqlite].")(
        command
    )
    command = click.option("--store", default=STORE, show_default=True, help="Folder of artifacts.")(command)
    return click.argument("study_path", metavar="STUDY.yaml", type=file)(command)


def existing(study_path: Path, store: str, database: str | None) -> tuple[Any, Any]:
    """Open a study that is served already: what was found, and its configuration."""
    from ..study.opening import opening
    from ..web.server import ServerConfig

    found = opening(study_path, store, database)
    return found, ServerConfig(library=found.library, study=found.study, database=found.database)


def open_console() -> Any:
    """Open the terminal; a pipe or file gets lines wide enough for a table."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=120)


def print_table(console: Any, records: Sequence[Any], title: str) -> None:
    """Print data classes as a table."""
    print_rows(console, [asdict(record) for record in records], title)


def print_rows(console: Any, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Print rows as a table; numbers stand to the right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    numeric = {name for name in (rows[0] if rows else ()) if all(isinstance(row[name], (int, float)) for row in rows)}
    for name in rows[0] if rows else ("nobody yet",):
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold", min_width=len(name) + 1)
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)


@contextmanager
def progress(console: Any, label: str, total: int) -> Iterator[Callable[[Any], None]]:
    """Show a bar; what it gives is called as each of `total` things is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        task = bar.add_task(label, total=total)
        yield lambda _: bar.advance(task)
