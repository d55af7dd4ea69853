"""The command line: `limen study`, which serves a study, simulates people, and hands its rows on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .opening import STORE

Command = Callable[..., Any]


@click.group()
def study() -> None:
    """Protocols; serve a study, simulate people, export."""


def _study_options(command: Command) -> Command:
    """Add what every command on a served study takes."""
    file = click.Path(path_type=Path, dir_okay=False)
    command = click.option("--db", "database", help="Path or URL of the data base [STORE/responses/STUDY.sqlite].")(
        command
    )
    command = click.option("--store", default=STORE, show_default=True, help="Folder of artifacts.")(command)
    return click.argument("study_path", metavar="STUDY.yaml", type=file)(command)


@study.command()
@_study_options
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--dev", is_flag=True, help="Local work: previews need no secret key; refuses to face a network.")
@click.option("--pilot", is_flag=True, help="Mark newcomers as pilot; they never mix with live people.")
@click.option("--stale-minutes", type=click.FloatRange(min=1), help="Silence after which a place is open again.")
def serve(
    study_path: Path,
    store: str,
    database: str | None,
    port: int,
    host: str,
    dev: bool,
    pilot: bool,
    stale_minutes: float,
) -> None:
    """Serve a study under gunicorn until SIGTERM."""
    from .app import ServerConfig, new_preview_key
    from .opening import opening
    from .serve import serve as run

    found = opening(study_path, store, database)
    key = "preview" if dev else os.environ.get("LIMEN_PREVIEW_KEY") or new_preview_key()
    config = ServerConfig(
        library=found.library,
        study=found.study,
        database=found.database,
        dev=dev,
        pilot=pilot,
        stale_minutes=stale_minutes,
        completion_code=_completion_code(found.study.file.recruitment.source, dev),
        preview_key=key,
    )
    run(config, host=host, port=port, announce=lambda: _announce(config, host, port))


def _completion_code(source: str, dev: bool) -> str | None:
    """Read the study's one code at Prolific from the environment, the only place for secrets."""
    from bench.registry import LimenError

    if source != "prolific" or dev:
        return None
    code = os.environ.get("LIMEN_PROLIFIC_CODE", "")
    if not code:
        raise LimenError(
            "study, recruitment.source 'prolific': the completion code of the study at Prolific is missing; "
            "set LIMEN_PROLIFIC_CODE in the environment."
        )
    return code


def _announce(config: Any, host: str, port: int) -> None:
    from .recruit import PARAMETER

    file = config.study.file
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/study/{file.study}/"
    query = {
        "prolific": "?PROLIFIC_PID={{%PROLIFIC_PID%}}&STUDY_ID={{%STUDY_ID%}}&SESSION_ID={{%SESSION_ID%}}",
        "mock": f"?{PARAMETER['mock']}=anyone",
        "link": "",
    }[file.recruitment.source]
    click.echo(f"{file.title} (study {file.study}, version {file.version}, stimuli {config.study.key})")
    click.echo(f"  participants  {address}{query}")
    click.echo(f"  preview       {address}?preview={config.preview_key}")
    click.echo(f"  answers       {config.database}")
    click.echo("  stop with Ctrl-C; answers in flight are stored first")
