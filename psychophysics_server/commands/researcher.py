"""Commands of `limen study` about people and money: ask the recruiter, decide, list payments, pause."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import click

from .terminal import existing, open_console, print_rows, print_table, study_options

AUTHOR = click.option("--author", help="Who decides, for the audit log [the account at this machine].")


@click.command()
@study_options
@click.option("--remote", help="Id of the study at the recruiter [LIMEN_PROLIFIC_STUDY].")
def poll(study_path: Path, store: str, database: str | None, remote: str | None) -> None:
    """Ask the recruiter how its submissions stand, and compare."""
    from ..recruitment.polling import poll as ask
    from ..recruitment.recruiter import from_environment, open_recruiter
    from ..storage.database import existing_database

    found, _ = existing(study_path, store, database)
    recruiter = open_recruiter(found.study.file.recruitment.source, from_environment())
    held = existing_database(found.database)
    try:
        named = remote or recruiter.environment.get(f"LIMEN_{recruiter.name.upper()}_STUDY", "")
        done = ask(held, found.study, recruiter, remote=named)
    finally:
        held.close()
    print_table(open_console(), done.agreement, f"Submissions at {recruiter.name}")
    click.echo(f"{done.listed} submissions, {done.changed} with a new status")


@click.command()
@study_options
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--again", "batch", metavar="LIST", help="Write an earlier list again; nothing is listed anew.")
@AUTHOR
def payments(
    study_path: Path, store: str, database: str | None, output: Path, batch: str | None, author: str | None
) -> None:
    """Write lists for the recruiter: approve, reject, bonus; for a person to review."""
    from ..admin.figures import pay
    from ..people.payments import list_again, list_payments
    from ..recruitment.recruiter import from_environment, open_recruiter
    from ..storage.database import existing_database

    found, _ = existing(study_path, store, database)
    recruiter = open_recruiter(found.study.file.recruitment.source, from_environment())
    held = existing_database(found.database)
    try:
        if batch is None:
            done = list_payments(held, found.study, recruiter, output, author=_author(author))
        else:
            done = list_again(held, found.study, recruiter, output, batch=batch)
        with held.read() as connection:
            realised = pay(connection, found.study, "live")
    finally:
        held.close()
    currency = found.study.file.recruitment.currency
    click.echo(
        f"{done.folder}: list {done.batch}: {done.counts['approve']} to approve, {done.counts['reject']} to reject, "
        f"{done.counts['bonus']} bonuses ({done.total:.2f} {currency}); {done.waiting} wait for a decision"
    )
    for line in _hourly(realised):
        click.echo(line, err=line.startswith("warning"))


def _hourly(realised: Any) -> list[str]:
    """Say what people earned per hour, and warn below the minimum that the study names."""
    if realised.hourly is None:
        return []
    said = f"realised pay {realised.hourly:.2f} {realised.currency} per hour (median {realised.median_minutes:.1f} minutes)"
    if not realised.too_low:
        return [said]
    return [said, f"warning: below the minimum of {realised.minimum:.2f} {realised.currency} per hour; give a bonus"]


@click.command()
@study_options
@click.option("--participant", "person", required=True, metavar="P", help="Pseudonym (p...) or the recruiter's id.")
@click.argument("kind", type=click.Choice(["exclude", "include", "approve", "reject", "bonus"]))
@click.argument("amount", type=float, required=False)
@click.option("--reason", required=True, help="Why; it is kept, and a rejection tells it to the person.")
@AUTHOR
def decide(
    study_path: Path,
    store: str,
    database: str | None,
    person: str,
    kind: str,
    amount: float | None,
    reason: str,
    author: str | None,
) -> None:
    """Decide on a person: exclude or include in the analysis; approve, reject, or give a bonus AMOUNT."""
    from ..people.decisions import Decision, find_session
    from ..people.decisions import decide as keep
    from ..storage.database import existing_database

    found, _ = existing(study_path, store, database)
    held = existing_database(found.database)
    try:
        session = find_session(held, found.study, person)
        decision = Decision(session=session, kind=kind, reason=reason, author=_author(author), amount=amount)
        done = keep(held, found.study, decision)
    finally:
        held.close()
    for caution in done.cautions:
        click.echo(f"warning: {caution}", err=True)
    click.echo(f"{session}: {kind}{'' if amount is None else f' {amount:.2f}'} (decision {done.number})")


@click.command()
@study_options
@click.option("--reason", default="", help="Why, for the audit log.")
@AUTHOR
def pause(study_path: Path, store: str, database: str | None, reason: str, author: str | None) -> None:
    """Admit no newcomers; whoever is in goes on."""
    _set_pause(study_path, store, database, paused=True, reason=reason, author=author)


@click.command()
@study_options
@click.option("--reason", default="", help="Why, for the audit log.")
@AUTHOR
def resume(study_path: Path, store: str, database: str | None, reason: str, author: str | None) -> None:
    """Admit newcomers again."""
    _set_pause(study_path, store, database, paused=False, reason=reason, author=author)


def _set_pause(
    study_path: Path, store: str, database: str | None, *, paused: bool, reason: str, author: str | None
) -> None:
    from ..sessions.pause import pause as stop
    from ..sessions.pause import resume as go_on
    from ..storage.database import existing_database

    found, _ = existing(study_path, store, database)
    held = existing_database(found.database)
    act, who = stop if paused else go_on, _author(author)
    try:
        changed = held.write(lambda connection: act(connection, found.study, account=who, detail=reason))
    finally:
        held.close()
    state = "paused" if paused else "open"
    click.echo(f"{found.study.file.study}: is {state}{'' if changed else ' already'}")


@click.command()
@click.option("--source", help="One recruiter; all if left out.")
def recruiters(source: str | None) -> None:
    """List the recruiters there are, and what each needs from the environment."""
    from ..recruitment.recruiter import RECRUITERS, open_recruiter

    rows = []
    for name in RECRUITERS.names() if source is None else [source]:
        found = open_recruiter(name)
        needs = [f"{need.name}{'' if need.required else ' (optional)'}: {need.what}" for need in found.needs]
        rows.append({"name": name, "summary": RECRUITERS.card(name).summary, "environment": "\n".join(needs)})
    print_rows(open_console(), rows, "Recruiters")


def _author(given: str | None) -> str:
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "(command line)"


@click.command()
@click.argument("study_path", metavar="STUDY.yaml", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--n", "number", type=click.IntRange(1, 100_000), help="Draw so many ids that nobody can guess.")
@click.option("--ids", "ids_path", type=click.Path(path_type=Path, dir_okay=False), help="File with one id a line.")
@click.option("--host", default="http://127.0.0.1:8000", show_default=True, help="Address of the server.")
def links(study_path: Path, number: int | None, ids_path: Path | None, host: str) -> None:
    """Print one entry link a person as CSV; signed where the study file says `recruitment.signed`."""
    from bench.config import load_config
    from bench.registry import LimenError
    from stimuli.records import StudyFile

    from ..recruitment.recruiter import as_csv, from_environment, open_recruiter
    from ..recruitment.signing import draw_ids, entry_links, link_secret, read_ids

    if (number is None) == (ids_path is None):
        raise LimenError("study links: was given both of --n and --ids, or neither; allowed is one of them.")
    file = load_config(study_path, StudyFile)
    secret = link_secret(file, from_environment())
    people = draw_ids(number or 0) if ids_path is None else read_ids(_lines(ids_path))
    made = entry_links(file, open_recruiter(file.recruitment.source), people, secret=secret, host=host)
    click.echo(as_csv([["id", "link"], *made]), nl=False)
    if secret is None:
        click.echo(f"{study_path}: recruitment.signed is off, so an id alone opens its person's session.", err=True)


def _lines(path: Path) -> list[str]:
    from bench.registry import LimenError

    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LimenError(f"{path}: cannot be read as text ({error}).") from None


COMMANDS: tuple[click.Command, ...] = (poll, payments, decide, pause, resume, recruiters, links)
"""All of them, for the group `limen study`."""
