"""Fixtures shared by the rooms: an artificial bench run, and a small frozen stimulus set made from it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from bench.store import Artifact, Store
from stimuli.build import build
from stimuli.records import Bots, Checks, StudyFile

BEGUN = time.monotonic()
MINUTES = float(os.environ.get("LIMEN_LONG_MINUTES", "inf"))
"""Long tests that have not begun by then are skipped, and the summary names them: `.ci/run` has to end on slow machines."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a long test for which no time is left."""
    if item.get_closest_marker("long") is not None and time.monotonic() - BEGUN > 60 * MINUTES:
        pytest.skip(f"NO TIME LEFT after {MINUTES:g} minutes: {item.nodeid}")


@pytest.fixture(scope="session")
def fake_run() -> Callable[..., Artifact]:
    """Return `make_fake_run(store_path, *, name, n, labels, conflicts, seed) -> Artifact` of kind `runs`."""
    from fake_run import make_fake_run

    return make_fake_run


@pytest.fixture(scope="session")
def answering() -> Callable[..., Any]:
    """Return `answering(app) -> context manager that yields the address` of an application served over loopback."""
    from loopback import answering

    return answering


@pytest.fixture(scope="session")
def small_study_file() -> StudyFile:
    """Return the study behind `small_study`: 2 conditions, 2 lists, 2 sessions of 2 training and 3 test trials."""
    return StudyFile(
        study="small",
        version=1,
        protocol="utility",
        title="What will the machine say?",
        seed=3,
        run="demo",
        conditions=("baseline", "grad_cam"),
        contact="study@example.org",
        design={"sessions": 2, "train": 2, "test": 3, "lists": 2, "practice": 2, "lockout_ms": 0, "size": 64},
        quota=4,
        checks=Checks(catch_accuracy=0.5, practice_attempts=5),
        bots=Bots(accuracy={"baseline": (0.55, 0.6), "grad_cam": (0.75, 0.85)}),
    )


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    """Return a store that holds the artificial run; shared by the whole session, so do not change what is in it."""
    root = tmp_path_factory.mktemp("small") / "store"
    fake_run(root)
    return Store(root)


@pytest.fixture(scope="session")
def small_study(small_store: Store, small_study_file: StudyFile) -> Artifact:
    """Return a built stimulus set (kind `stimuli`) of `small_study_file`, in `small_store`."""
    return build(small_study_file, small_store)
