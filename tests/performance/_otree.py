"""oTree's production server beside ours: a form app of 20 pages, submitted by so many people at once."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from _load_ground import free_port, summed, wait_for_port

VERSION = "6.0.15"
PAGES = 20
SETTINGS = """
SESSION_CONFIGS = [dict(name="form", app_sequence=["form"], num_demo_participants=1)]
SESSION_CONFIG_DEFAULTS = dict(real_world_currency_per_point=1.0, participation_fee=0.0, doc="")
PARTICIPANT_FIELDS = []
SESSION_FIELDS = []
LANGUAGE_CODE = "en"
REAL_WORLD_CURRENCY_CODE = "USD"
USE_POINTS = False
ADMIN_USERNAME = "admin"
ADMIN_PASSWORD = "local"
DEMO_PAGE_INTRO_HTML = ""
SECRET_KEY = "local"
"""
APP = f"""
from otree.api import *
class C(BaseConstants):
    NAME_IN_URL = "form"
    PLAYERS_PER_GROUP = None
    NUM_ROUNDS = {PAGES}
class Subsession(BaseSubsession):
    pass
class Group(BaseGroup):
    pass
class Player(BasePlayer):
    answer = models.StringField()
    rt_ms = models.FloatField()
class Answer(Page):
    form_model = "player"
    form_fields = ["answer", "rt_ms"]
page_sequence = [Answer]
"""
PAGE = "{{ block title }}Answer{{ endblock }}{{ block content }}{{ formfields }}{{ next_button }}{{ endblock }}"


def binaries() -> Path | None:
    """Return the folder of oTree's own environment under LIMEN_PEERS, made if need be; None without the variable."""
    peers = os.environ.get("LIMEN_PEERS")
    if not peers:
        return None
    folder = Path(peers) / "otree"
    if not (folder / "bin" / "otree").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", f"otree=={VERSION}"], check=True)
    return (folder / "bin").resolve()


class OTree:
    """A production server of oTree on an SQLite file in a folder; `with` it."""

    def __init__(self, folder: Path, bins: Path) -> None:
        (folder / "form").mkdir(parents=True)
        (folder / "_static").mkdir()
        (folder / "settings.py").write_text(SETTINGS)
        (folder / "form" / "__init__.py").write_text(APP)
        (folder / "form" / "Answer.html").write_text(PAGE)
        self.port = free_port()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment["PATH"] = f"{bins}{os.pathsep}{environment['PATH']}"
        with (folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                [str(bins / "otree"), "prodserver", str(self.port)],
                cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> OTree:
        wait_for_port(self.port)
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(30)

    def call(self, line: http.client.HTTPConnection, method: str, path: str, body: str = "", kind: str = "") -> Any:
        """Send a request; return (status, location, body)."""
        line.request(method, path, body or None, {"Content-Type": kind} if kind else {})
        response = line.getresponse()
        return response.status, response.headers.get("location", ""), response.read()

    def participants(self, n: int) -> list[str]:
        """Make a session and return its participants' codes."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        wanted = json.dumps({"session_config_name": "form", "num_participants": n})
        _, _, made = self.call(line, "POST", "/api/sessions", wanted, "application/json")
        _, _, held = self.call(line, "GET", f"/api/sessions/{json.loads(made)['code']}")
        line.close()
        return [person["code"] for person in json.loads(held)["participants"]]


def submits(server: OTree, people: int, seconds: float) -> dict[str, Any]:
    """Let so many people submit page after page (POST, then GET of the next); latencies are of the POST."""
    rounds = max(1, round(seconds * 60 / people / PAGES))
    codes = server.participants(people * rounds)
    latencies: list[float] = []
    errors: list[int] = []
    end = time.perf_counter() + seconds

    def take(mine: list[str]) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)) as line:
            walk(line, mine)

    def walk(line: http.client.HTTPConnection, mine: list[str]) -> None:
        for code in mine:
            _, location, _ = server.call(line, "GET", f"/InitializeParticipant/{code}")
            path = urlsplit(location).path
            server.call(line, "GET", path)
            for _ in range(PAGES - 1):
                if time.perf_counter() > end:
                    return
                start = time.perf_counter()
                status, location, _ = server.call(
                    line, "POST", path, "answer=cat&rt_ms=812.25", "application/x-www-form-urlencoded"
                )
                latencies.append(1000 * (time.perf_counter() - start))
                path = urlsplit(location).path
                shown, _, _ = server.call(line, "GET", path)
                errors.extend(code for code in (status, shown) if code not in {200, 302})

    begin = time.perf_counter()
    threads = [threading.Thread(target=take, args=(codes[index::people],)) for index in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begin
    return {"answered": len(latencies), "errors": len(errors), "seconds": taken, **summed(latencies, taken)}
