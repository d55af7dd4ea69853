"""Commands of `limen study` about rows: export them, check an export, take a participant's copy in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.registry import LimenError

from .terminal import existing, open_console, print_rows, study_options


@click.command()
@study_options
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option(
    "--include",
    multiple=True,
    type=click.Choice(["bots", "networks", "pilot", "preview"]),
    help="Add rows of these sources to those of live people; may be repeated.",
)
@click.option(
    "--format",
    "style",
    default="csv",
    show_default=True,
    type=click.Choice(["csv", "parquet"]),
    help="parquet adds typed tables in products/ beside the CSV files.",
)
@click.option(
    "--with-texts", is_flag=True, help="Also write free text, in a file of its own, to be read by a person first."
)
def export(
    study_path: Path,
    store: str,
    database: str | None,
    output: Path,
    include: tuple[str, ...],
    style: Any,
    with_texts: bool,
) -> None:
    """Write tidy rows, codebook and provenance into a folder."""
    from ..export.folder import export as write
    from ..export.folder import included
    from ..storage.database import existing_database

    found, config = existing(study_path, store, database)
    held = existing_database(found.database)
    try:
        done = write(
            held,
            found.study,
            output,
            sources=included(include),
            stale_s=config.stale_s,
            format=style,
            with_texts=with_texts,
        )
    finally:
        held.close()
    print_rows(open_console(), done.flow, f"Sample flow of {found.study.file.study}")
    click.echo(f"{done.folder}: {done.people} people, {done.responses} response rows, {done.excluded} excluded rows")
    if done.texts and not with_texts:
        click.echo(f"{done.texts} answers hold free text, which was left out; --with-texts writes it for review.")


@click.command("check-export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--with-texts", is_flag=True, help="Free text may be in it: a person has read it.")
def check(folder: Path, with_texts: bool) -> None:
    """Look an export through: Psych-DS, hashes, ids, and nothing that leads to a person."""
    from ..export.check import check_export

    result = check_export(folder, with_texts=with_texts)
    for fault in result.faults:
        click.echo(fault, err=True)
    if result.faults:
        raise LimenError(f"export {folder}: {len(result.faults)} faults; see above.")
    click.echo(f"{folder}: {result.files} files, {result.rows} rows, no fault")


@click.command("import-backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@study_options
def import_backup(file: Path, study_path: Path, store: str, database: str | None) -> None:
    """Store the copy of unsent answers that a participant sent in, each once."""
    from ..sessions.unsent import import_copy
    from ..storage.database import existing_database

    found, _ = existing(study_path, store, database)
    held = existing_database(found.database)
    try:
        done = import_copy(held, found.study, file)
    finally:
        held.close()
    click.echo(
        f"session {done.session}: {len(done.stored)} events stored, {len(done.held)} held already, "
        f"{len(done.faults)} that cannot count; held without a gap up to {done.high_water}"
    )


COMMANDS: tuple[click.Command, ...] = (export, check, import_backup)
