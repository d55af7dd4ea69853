"""Many bots at once, and what became of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from ..storage.database import Database
from ..study.frozen import FrozenStudy
from ..wire.requests import MAX_BATCH
from .bot import Bot, MakeBrowser, Mind
from .browser import Browser, NoAnswer
from .inside import Inside, OneTransaction
from .journey import Habits, Journey
from .model import Psychometrics

PLAIN = Habits()
INSIDE = Habits(twice=0.0, batch=MAX_BATCH)
"""Bots without HTTP gather what they can: a saved request is time."""
GROUP = 25
"""People who share a commit there."""


def wait_until_ready(url: str, *, patience_s: float = 20.0) -> None:
    """Wait for the server to take a write.

    Raises
    ------
    NoAnswer
        If it does not within `patience_s`.
    """
    browser = Browser(url, "", "", patience_s=patience_s)
    try:
        browser.request("GET", "/readyz")
    except NoAnswer as error:
        raise NoAnswer(f"{str(error).rstrip('.')}; start `limen study serve STUDY.yaml` first.") from None
    finally:
        browser.close()


@dataclass(frozen=True)
class Summary:
    """One line a condition: how many took it, and how often they were right."""

    condition: str
    entered: int
    finished: int
    left: int
    careless: int
    accuracy: float
    """Over test questions (no catch trials) of careful bots, as the bots remember; NaN if there are none."""


def run_bots(
    study: FrozenStudy,
    *,
    url: str,
    n: int,
    seed: int = 0,
    threads: int = 8,
    patience_s: float = 60.0,
    habits: Habits = PLAIN,
    over: threading.Event | None = None,
    tick: Callable[[Journey], None] = lambda journey: None,
) -> list[Journey]:
    """Let `n` simulated people take a study over HTTP.

    Parameters
    ----------
    study
        The frozen study, read from this machine's store.
    url
        Address of the server.
    seed
        Draws people and answers; the same seed again resumes the same bots.
    threads
        How many are at it at a time.
    patience_s
        How long one request is repeated.
    habits
        How they misbehave.
    over
        Ends their patience early: who has no answer then is lost.
    tick
        Called as each ends.
    """
    browser = partial(_browser, url, study.file.study, patience_s, over)
    mind = Psychometrics(study, seed=seed)
    return take_all(study, mind, browser, people=range(n), threads=threads, habits=habits, tick=tick)


def run_inside(
    study: FrozenStudy,
    database: Database,
    *,
    n: int,
    seed: int = 0,
    habits: Habits = INSIDE,
    tick: Callable[[Journey], None] = lambda journey: None,
) -> list[Journey]:
    """Let `n` simulated people take a study in this process, without HTTP: for power, thousands in a minute.

    Their answers go through the functions behind the routes, and have the source 'bot'; people share commits. The same
    seed draws the same people and answers as over HTTP.
    """
    return inside(study, database, Psychometrics(study, seed=seed), n=n, habits=habits, tick=tick)


def inside(
    study: FrozenStudy,
    database: Database,
    mind: Mind,
    *,
    n: int,
    habits: Habits = INSIDE,
    source: str = "bot",
    tick: Callable[[Journey], None] = lambda journey: None,
) -> list[Journey]:
    """Let `n` minds take a study in this process; `source` is what their rows say."""

    def group(people: Sequence[int], connection: Connection) -> list[Journey]:
        shared = OneTransaction(connection)

        def browser(name: str) -> Browser:
            return Inside("", study.file.study, name, source=source, database=shared, frozen=study)

        return take_all(study, mind, browser, people=people, threads=1, habits=habits)

    journeys: list[Journey] = []
    for start in range(0, n, GROUP):
        ended = database.write(partial(group, range(start, min(start + GROUP, n))))
        for journey in ended:
            tick(journey)
        journeys += ended
    return journeys


def _browser(url: str, study: str, patience_s: float, over: threading.Event | None, name: str) -> Browser:
    return Browser(url, study, name, patience_s=patience_s, over=over)


def take_all(
    study: FrozenStudy,
    mind: Mind,
    browser: MakeBrowser,
    *,
    people: Sequence[int],
    threads: int,
    habits: Habits,
    tick: Callable[[Journey], None] = lambda journey: None,
) -> list[Journey]:
    """Let minds take a study.

    Sessions are opened one after the other, so that the same seed on the same server meets the same cells; the
    people then take the study at the same time.
    """
    bots = [Bot(study, mind, index, browser(f"bot-{mind.seed}-{index:05d}"), habits) for index in people]
    for bot in bots:
        bot.enter()
        bot.browser.close()

    def take(bot: Bot) -> Journey:
        try:
            journey = bot.take()
        except NoAnswer:
            bot.journey.outcome = "lost"
            journey = bot.journey
        tick(journey)
        return journey

    if threads == 1:
        return [take(bot) for bot in bots]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(take, bots))


def summarise(study: FrozenStudy, journeys: Sequence[Journey]) -> list[Summary]:
    """Count and average the journeys per condition."""
    table = []
    for condition in study.conditions:
        mine = [journey for journey in journeys if journey.condition == condition]
        careful = [journey for journey in mine if not journey.careless]
        asked = sum(journey.asked for journey in careful)
        table.append(
            Summary(
                condition=condition,
                entered=len(mine),
                finished=sum(journey.outcome == "complete" for journey in mine),
                left=sum(journey.outcome == "left" for journey in mine),
                careless=sum(journey.careless for journey in mine),
                accuracy=sum(journey.right for journey in careful) / asked if asked else float("nan"),
            )
        )
    return table
