"""The command line: `limen study`, which serves a study, simulates people, and hands its rows on."""

from __future__ import annotations

import json
import os
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from .commands.accounts import COMMANDS as ADMIN_COMMANDS
from .commands.bots import COMMANDS as BOTS_COMMANDS
from .commands.export import COMMANDS as EXPORT_COMMANDS
from .commands.researcher import COMMANDS
from .commands.storage import COMMANDS as STORAGE_COMMANDS
from .commands.terminal import existing, open_console, print_rows, print_table, study_options


class Extended(click.Group):
    """A group to which later packages add commands, as entry points of `limen.study`, loaded when called or listed."""

    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group="limen.study")}

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *self._points()})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        own = super().get_command(context, name)
        point = self._points().get(name)
        return own if own is not None or point is None else point.load()


@click.group(cls=Extended)
def study() -> None:
    """Protocols; serve a study, simulate people, export."""


for command in (*COMMANDS, *ADMIN_COMMANDS, *BOTS_COMMANDS, *EXPORT_COMMANDS, *STORAGE_COMMANDS):
    study.add_command(command)


@study.command()
@study_options
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--dev", is_flag=True, help="Local work: previews need no secret key; refuses to face a network.")
@click.option("--pilot", is_flag=True, help="Mark newcomers as pilot; they never mix with live people.")
@click.option("--allowed-host", "hosts", multiple=True, help="Host name to answer to; may be repeated [any].")
@click.option("--behind-proxy", is_flag=True, help="A proxy with TLS stands in front and sets X-Forwarded-Proto.")
@click.option("--oracle", "oracle_url", help="Address of `limen bench oracle` on this machine, for reveal trials.")
@click.option("--oracle-top", default=5, show_default=True, type=click.IntRange(min=1), help="Rank that wins a round.")
@click.option("--stale-minutes", type=click.FloatRange(min=1), help="Silence after which a place is open again.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes; PostgreSQL only if several."
)
@click.option(
    "--log", default="text", show_default=True, type=click.Choice(["text", "json"]), help="json has a line a request."
)
def serve(
    study_path: Path,
    store: str,
    database: str | None,
    port: int,
    host: str,
    dev: bool,
    pilot: bool,
    hosts: tuple[str, ...],
    behind_proxy: bool,
    oracle_url: str | None,
    oracle_top: int,
    stale_minutes: float,
    workers: int,
    log: Any,
) -> None:
    """Serve a study under gunicorn until SIGTERM."""
    from .recruitment.recruiter import from_environment, open_recruiter, required
    from .serve import serve as run
    from .study.opening import opening
    from .web.oracle import HttpOracle
    from .web.server import ServerConfig, new_preview_key, new_secret_key

    found, environment = opening(study_path, store, database), from_environment()
    if not dev:
        required(open_recruiter(found.study.file.recruitment.source, environment))
    key = "preview" if dev else os.environ.get("LIMEN_PREVIEW_KEY") or new_preview_key()
    config = ServerConfig(
        library=found.library,
        study=found.study,
        database=found.database,
        dev=dev,
        pilot=pilot,
        stale_minutes=stale_minutes,
        environment=environment,
        preview_key=key,
        secret_key=os.environ.get("LIMEN_SECRET_KEY") or new_secret_key(),
        hosts=hosts,
        behind_proxy=behind_proxy,
        oracle=None if oracle_url is None else HttpOracle(oracle_url, top=oracle_top),
    )
    run(config, host=host, port=port, announce=lambda: _announce(config, host, port), workers=workers, log=log)


def _announce(config: Any, host: str, port: int) -> None:
    from .recruitment.recruiter import open_recruiter
    from .storage.database import database_name
    from .web.built import BUILD, built_files

    file = config.study.file
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/study/{file.study}/"
    recruiter, signed = open_recruiter(file.recruitment.source), file.recruitment.signed
    query = f"?{recruiter.parameter}=…&signature=… (`limen study links`)" if signed else recruiter.query
    click.echo(f"{file.title} (study {file.study}, version {file.version}, stimuli {config.study.key})")
    click.echo(f"  participants  {address}{query}")
    click.echo(f"  preview       {address}?preview={config.preview_key}")
    click.echo(f"  dashboard     {address.partition('/study/')[0]}/admin/")
    click.echo(f"  answers       {database_name(config.database)}")
    if recruiter.guessable and not signed:
        click.echo(
            f"  note          whoever guesses an id (?{recruiter.parameter}=ID) goes on as that person; `recruitment.signed` in the"
        )
        click.echo("                study file and `limen study links` prevent it")
    click.echo("  stop with Ctrl-C; answers in flight are stored first")
    if built_files(config.static / "dist") is None:
        click.echo(f"warning: the front-end is not built, so browsers see a message only; run `{BUILD}`", err=True)


@study.command()
@study_options
def verify(study_path: Path, store: str, database: str | None) -> None:
    """Recount every session: hashes, chain, gaps, schedule, checks, codes."""
    from bench.registry import LimenError

    from .monitoring.verify import verify as recount
    from .storage.database import existing_database

    found, _ = existing(study_path, store, database)
    held = existing_database(found.database)
    try:
        result = recount(held, found.library)
    finally:
        held.close()
    for fault in result.faults:
        click.echo(fault, err=True)
    click.echo(
        f"{result.sessions} sessions ({result.complete} complete, {result.withdrawn} withdrawn), {result.events} events, "
        f"{result.quarantined} kept that cannot count, {result.alarms} alarms, {result.manual_codes} codes for review"
    )
    if result.faults:
        raise LimenError(f"data base {found.database}: {len(result.faults)} faults; see above.")
    click.echo("Every event is as it was sent, and every completion code stands on a whole session.")


@study.command()
@study_options
def monitor(study_path: Path, store: str, database: str | None) -> None:
    """Show people per cell and state."""
    import time

    from .monitoring.standing import standing
    from .storage.database import existing_database

    found, config = existing(study_path, store, database)
    held = existing_database(found.database)
    try:
        now = standing(held, found.study, now=time.time(), stale_s=config.stale_s)
    finally:
        held.close()
    console = open_console()
    print_table(console, now.cells, f"{found.study.file.study}, version {found.study.file.version}")
    console.print(f"{now.alarms} alarms (two windows disagreed), {now.manual_codes} codes wait for review")


@study.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def protocols(as_json: bool) -> None:
    """List the human experiments there are."""
    from stimuli.study import protocols as known

    cards = [card.facts() for card in known()]
    if as_json:
        click.echo(json.dumps(cards, indent=2))
        return
    columns = ("name", "summary", "trial_type", "analysis", "citation")
    print_rows(open_console(), [{name: card[name] for name in columns} for card in cards], "Protocols")


@study.command()
def openapi() -> None:
    """Print the OpenAPI document of the server's JSON routes."""
    from flask import Flask

    from .app import register_dashboard, register_routes
    from .web.openapi import document

    bare = Flask(__package__ or "limen", static_folder=None)
    register_routes(bare)
    register_dashboard(bare)
    click.echo(json.dumps(document(bare), indent=2))


@study.command()
@click.argument("protocol")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; standard output if left out.")
def init(protocol: str, output: Path | None) -> None:
    """Write a commented study file for a protocol."""
    from bench.registry import LimenError
    from stimuli.study import init_study

    text = init_study(protocol)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise LimenError(f"{output}: exists already; nothing is overwritten.") from None
    click.echo(f"{output}: edit it, then `limen stimuli build {output}`")
