"""`limen study freeze` and `limen study check-plan`: what was planned, under a hash, and what was done otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.registry import LimenError

if TYPE_CHECKING:
    from psychophysics_server.study.opening import Opening

STORE = ".limen/store"


@click.command()
@click.argument("study_path", metavar="STUDY.yaml", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="File of the plan [STUDY.plan.json]."
)
@click.option("--power", "power_path", type=click.Path(path_type=Path), help="Folder that `limen analyze power -o` wrote: where N comes from.")  # fmt: skip
@click.option("--store", default=STORE, show_default=True, type=click.Path(path_type=Path), help="Folder of artifacts.")
@click.option("--db", "database", help="Path or URL of the data base, to see that no answer is held [STORE/responses/STUDY.sqlite].")  # fmt: skip
def freeze(study_path: Path, out: Path | None, power_path: Path | None, store: Path, database: str | None) -> None:
    """Pre-register: freeze the plan of a study before its data."""
    from psychophysics_server.study.plan import HASH

    from ..power.files import read_power
    from . import compose, keep

    found, held = _opened(study_path, store, database)
    power = None if power_path is None else read_power(power_path)
    plan = compose(found.study.file, found.study.artifact, power=power, answers_held=held)
    file = out or study_path.with_suffix(".plan.json")
    keep(plan, file, found.library.store)
    if held.get("live"):
        click.echo(f"warning: {held['live']} sessions of participants are held already, and the plan says so", err=True)
    if power is None:
        click.echo("note: no power analysis was given (--power), and the plan says so", err=True)
    click.echo(f"plan: {file}, {file.with_suffix('.md')}")
    click.echo(f"SHA-256: {plan[HASH]}")


def _opened(study_path: Path, store: Path, database: str | None) -> tuple[Opening, dict[str, int]]:
    from sqlalchemy import func, select

    from psychophysics_server.storage.database import existing_database
    from psychophysics_server.storage.tables import sessions
    from psychophysics_server.study.opening import opening

    found = opening(study_path, str(store), database)
    if database is None and not Path(found.database).is_file():
        return found, {"live": 0}
    held = existing_database(found.database)
    try:
        with held.read() as connection:
            query = select(sessions.c.source, func.count()).where(sessions.c.stimuli == found.study.key)
            counts = {
                str(source): int(count) for source, count in connection.execute(query.group_by(sessions.c.source))
            }
    finally:
        held.close()
    return found, {"live": 0, **counts}


@click.command("check-plan")
@click.argument("plan_path", metavar="PLAN.json", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("export", metavar="EXPORT", type=click.Path(path_type=Path))
def check_plan(plan_path: Path, export: Path) -> None:
    """Compare an export with a frozen plan; exits with 1 if they differ."""
    from ..load import load
    from . import deviations, read_plan

    plan = read_plan(plan_path)
    found = deviations(plan, load(export))
    for one in found:
        click.echo(f"- {one}")
    if found:
        raise LimenError(f"{export.name}: {len(found)} deviations from the plan {plan['sha256']}; see above.")
    click.echo(f"As planned: {plan['sha256']}")
