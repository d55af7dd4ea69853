"""`limen study bots` and `limen study observe`: simulated people in three tiers, and networks as observers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from .terminal import open_console, print_table, progress, study_options

Tier = Callable[..., None]
SHARE = click.FloatRange(0, 1)


@click.command()
@study_options
@click.option("--n", default=40, show_default=True, type=click.IntRange(min=1), help="How many simulated people.")
@click.option(
    "--tier",
    default="http",
    show_default=True,
    type=click.Choice(["model", "http", "browser"]),
    help="model: in this process, for power; http: a served study; browser: Chromium shows a served study.",
)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Address of the server.")
@click.option("--seed", default=0, show_default=True, help="Draws people and answers; the same seed resumes the same.")
@click.option(
    "--threads", default=8, show_default=True, type=click.IntRange(1, 256), help="How many are at it at a time (http)."
)
@click.option("--twice", default=0.05, show_default=True, type=SHARE, help="Share of submissions sent twice (http).")
@click.option("--reloads", default=0.15, show_default=True, type=SHARE, help="Share of people who open it again.")
@click.option("--shuffled", default=0.0, show_default=True, type=SHARE, help="Share sent out of order.")
@click.option("--tabs", default=0.0, show_default=True, type=SHARE, help="Share raced by a second window.")
@click.option("--must-fail", is_flag=True, help="Each also tries what must be refused (http).")
@click.option("--data-only", is_flag=True, help="Skip the trials' screens and their time (browser).")
def bots(study_path: Path, store: str, database: str | None, **given: Any) -> None:
    """Let simulated people take a study."""
    from ..study.opening import opening

    found = opening(study_path, store, database)
    tiers: dict[str, Tier] = {"model": _model, "http": _http, "browser": _browser}
    tiers[given["tier"]](found, **given)


def _model(found: Any, *, n: int, seed: int, reloads: float, shuffled: float, **_: Any) -> None:
    from ..bots.fleet import run_inside, summarise
    from ..bots.journey import Habits
    from ..storage.database import Database
    from ..wire.requests import MAX_BATCH

    habits = Habits(twice=0.0, reloads=reloads, shuffled=shuffled, batch=MAX_BATCH)
    console, database = open_console(), Database(found.database)
    try:
        with progress(console, f"{n} simulated people", n) as tick:
            journeys = run_inside(found.study, database, n=n, seed=seed, habits=habits, tick=tick)
    finally:
        database.close()
    print_table(console, summarise(found.study, journeys), "Simulated people")
    console.print(ended(journeys))


def _http(found: Any, *, n: int, url: str, seed: int, threads: int, **given: Any) -> None:
    from bench.registry import LimenError

    from ..bots.fleet import run_bots, summarise, wait_until_ready
    from ..bots.journey import Habits

    wait_until_ready(url)
    shares = {name: given[name] for name in ("twice", "reloads", "shuffled", "tabs", "must_fail")}
    console = open_console()
    with progress(console, f"{n} simulated people", n) as tick:
        journeys = run_bots(found.study, url=url, n=n, seed=seed, threads=threads, habits=Habits(**shares), tick=tick)
    print_table(console, summarise(found.study, journeys), "Simulated people")
    console.print(ended(journeys))
    lost = sum(journey.outcome == "lost" for journey in journeys)
    if lost:
        raise LimenError(f"server {url}: {lost} of {n} bots got no answer any more.")


def _browser(found: Any, *, n: int, url: str, data_only: bool, **_: Any) -> None:
    from ..bots.chromium import run_browsers
    from ..bots.fleet import wait_until_ready

    wait_until_ready(url)
    console = open_console()
    with progress(console, f"{n} simulated people in Chromium", n) as tick:
        journeys = run_browsers(url, found.study.file.study, n=n, data_only=data_only, tick=tick)
    console.print(f"{sum(journey.outcome == 'complete' for journey in journeys)} finished.")


def ended(journeys: Sequence[Any]) -> str:
    """Say in words what became of bots."""
    outcomes = Counter(journey.outcome for journey in journeys)
    words = {
        "left": "dropped out as planned",
        "screened_out": "failed the questions",
        "failed": "were not let in again",
        "full": "found no place",
        "lost": "lost the server",
    }
    parts = [f"{outcomes['complete']} finished"]
    parts += [f"{outcomes[name]} {text}" for name, text in words.items() if outcomes[name] or name == "left"]
    total = {key: sum(getattr(j, key) for j in journeys) for key in ("retries", "conflicts", "raced", "refused")}
    held = sum(len(journey.acknowledged) for journey in journeys)
    more = f"; {total['raced']} races of two windows ended in a conflict" if total["raced"] else ""
    more += f"; {total['refused']} submissions were refused as they must be" if total["refused"] else ""
    return (
        f"{', '.join(parts)}; {held} events acknowledged, {total['retries']} requests sent again, "
        f"{total['conflicts']} conflicts{more}."
    )


@click.command()
@study_options
@click.option("--answers", type=click.Path(path_type=Path, dir_okay=False), help="CSV: trial_id or item_id, response.")
@click.option("--observer", "named", help="module:function; takes a trial, returns (response, confidence).")
@click.option("--name", help="What the network is called [the file or function].")
@click.option("--n", type=click.IntRange(min=1), help="Sessions [one a cell].")
def observe(
    study_path: Path,
    store: str,
    database: str | None,
    answers: Path | None,
    named: str | None,
    name: str | None,
    n: int | None,
) -> None:
    """Let a network take a study as people do; its rows have the source 'network'."""
    from bench.registry import LimenError

    from ..bots.fleet import summarise
    from ..bots.observer import Observer, Written, load_observer
    from ..bots.observer import observe as watch
    from ..storage.database import Database
    from ..study.opening import opening

    if (answers is None) == (named is None):
        raise LimenError("limen study observe: give one of --answers FILE and --observer module:function.")
    found = opening(study_path, store, database)
    make: Callable[[], Observer]
    if answers is not None:
        written = Written(answers, found.study)
        make, called = (lambda: written), name or answers.stem
    else:
        make, called = load_observer(str(named)), name or str(named)
    sessions = n or len(found.study.cells)
    console, held = open_console(), Database(found.database)
    try:
        with progress(console, f"{sessions} sessions of {called}", sessions) as tick:
            journeys = watch(found.study, held, make, name=called, n=sessions, tick=tick)
    finally:
        held.close()
    print_table(console, summarise(found.study, journeys), f"Network {called}")
    console.print(ended(journeys))


COMMANDS = (bots, observe)
