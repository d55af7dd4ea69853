"""Many bots at once, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from ..db import Database
from ..frozen import FrozenStudy
from ..wire import MAX_BATCH
from .bot import Bot, Habits, Journey, MakeBrowser, Mind
from .browser import Browser, NoAnswer
from .inside import Inside
from .model import Psychometrics


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
    habits: Habits = Habits(),
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
    tick
        Called as each ends.
    """
    browser = partial(_browser, url, study.file.study, patience_s)
    mind = Psychometrics(study, seed=seed)
    return take_all(study, mind, browser, n=n, threads=threads, habits=habits, tick=tick)


def run_inside(
    study: FrozenStudy,
    database: Database,
    *,
    n: int,
    seed: int = 0,
    threads: int = 2,
    habits: Habits = Habits(twice=0.0, batch=MAX_BATCH),
    tick: Callable[[Journey], None] = lambda journey: None,
) -> list[Journey]:
    """Let `n` simulated people take a study in this process, without HTTP: for power, thousands in seconds.

    Their answers go through the functions behind the routes, are stored and acknowledged as everybody's, and have the
    source 'bot'. The same seed draws the same people and answers as over HTTP.
    """

    def browser(name: str) -> Browser:
        return Inside("", study.file.study, name, database=database, frozen=study)

    mind = Psychometrics(study, seed=seed)
    return take_all(study, mind, browser, n=n, threads=threads, habits=habits, tick=tick)


def _browser(url: str, study: str, patience_s: float, name: str) -> Browser:
    return Browser(url, study, name, patience_s=patience_s)


def take_all(
    study: FrozenStudy,
    mind: Mind,
    browser: MakeBrowser,
    *,
    n: int,
    threads: int,
    habits: Habits,
    tick: Callable[[Journey], None] = lambda journey: None,
) -> list[Journey]:
    """Let `n` minds take a study.

    Sessions are opened one after the other, so that the same seed on the same server meets the same cells; the
    people then take the study at the same time.
    """
    bots = [Bot(study, mind, index, browser(f"bot-{mind.seed}-{index:05d}"), habits) for index in range(n)]
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
