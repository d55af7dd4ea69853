"""The promise under fire: bots on a bad network take a study from a server that is killed, filled up and set wrong."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from bench.registry import LimenError

from ..monitoring.verify import verify
from ..storage.database import existing_database
from ..storage.tables import alarms, codes, events
from ..study.frozen import FrozenStudy, Library
from .browser import NoAnswer
from .fleet import run_bots, wait_until_ready
from .journey import Habits, Journey
from .proxy import BadNetwork

SERVE = (
    "import time as t; r = t.time; t.time = lambda: r() + {shift}; from psychophysics_server.cli import study; study()"
)
DAY_S = 86_400.0
WORST = Habits(twice=0.1, reloads=0.5, shuffled=0.15, tabs=0.05, closed=0.5, clock=0.02, batch=3)
"""How the bots of an ordeal behave."""
PATIENCE_S = 300.0
"""How long a bot of an ordeal repeats one request."""
FULL_S = 120.0
"""How long the disk stays full at most."""


def free_port() -> int:
    """Return a port that nothing listens on, outside the range from which the system gives clients theirs.

    A server that is down for a moment finds it free again: a client that calls in vain, or any other program, could be
    given a port of that range meanwhile.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LimenError("port: none of 100 between 20000 and 32000 is free; end what listens there.")


class Process:
    """`limen study serve` as a process of its own, which can be killed as a power cut would.

    Parameters
    ----------
    database
        Path or URL.
    log
        File that takes what the server prints.
    """

    def __init__(self, study_path: Path, store: Path, database: str, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = database
        self.log = log
        self._arguments = ["serve", str(study_path), "--store", str(store), "--db", database, "--port", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, clock_shift_s: float = 0.0) -> None:
        """Start it and wait until it takes writes; its clock is wrong by `clock_shift_s`.

        Raises
        ------
        LimenError
            If it ends instead.
        """
        root = str(Path(__file__).resolve().parents[2])
        environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        code = SERVE.format(shift=clock_shift_s)
        with self.log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, *self._arguments],
                env=environment, stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip
        self.wait()

    def wait(self, *, patience_s: float = 60.0) -> None:
        """Wait until it takes writes."""
        end = time.monotonic() + patience_s
        while True:
            try:
                return wait_until_ready(self.url, patience_s=0.5)
            except NoAnswer:
                if self.running.poll() is not None or time.monotonic() > end:
                    said = self.log.read_text(errors="replace").strip().splitlines()[-1:]
                    raise LimenError(f"server {self.url}: did not start ({' '.join(said)}).") from None

    @property
    def running(self) -> subprocess.Popen[bytes]:
        """The process that listens."""
        assert self._process is not None, "the server was not started"
        return self._process

    @property
    def workers(self) -> list[int]:
        """Process ids of those that answer requests."""
        pid = self.running.pid
        with contextlib.suppress(OSError):
            return [int(name) for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Signal the process, and with SIGKILL its workers too; return its exit status."""
        process = self.running
        with contextlib.suppress(ProcessLookupError):
            if how is signal.SIGKILL:
                os.killpg(process.pid, how)
            else:
                process.send_signal(how)
        try:
            return process.wait(90)
        except subprocess.TimeoutExpired:
            raise LimenError(f"server {self.url}: did not end within 90 s of {how.name}.") from None

    def kill_workers(self) -> None:
        """Kill those that answer requests; the process that listens starts others."""
        for pid in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Let no file of the workers grow, as on a disk that is full."""
        held: dict[int, tuple[int, int]] = {}
        for pid in self.workers:
            with contextlib.suppress(OSError):
                held[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, held[pid][1]))
        try:
            yield
        finally:
            for pid, limits in held.items():
                with contextlib.suppress(OSError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens during an ordeal.

    Attributes
    ----------
    bots : people
    kills : SIGKILLs of the server, spread over the run; one in `whole` takes the listening process with it
    disk : whether the disk fills up half-way (SQLite only: PostgreSQL's files are another program's)
    lost_requests, lost_responses : shares, see `BadNetwork`
    patience_s : how long the bots may take after the last kill
    """

    bots: int = 200
    kills: int = 100
    whole: int = 5
    disk: bool = True
    lost_requests: float = 0.3
    lost_responses: float = 0.2
    seed: int = 0
    threads: int = 8
    habits: Habits = WORST
    patience_s: float = 3600.0


@dataclass(kw_only=True)
class Outcome:
    """What happened, and what must all be nought or empty."""

    happened: dict[str, int] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    """Promise -> how often it was broken."""
    faults: list[str] = field(default_factory=list)
    """Sentences of `verify`."""
    journeys: list[Journey] = field(default_factory=list, repr=False)
    seconds: float = 0.0


def ordeal(study: FrozenStudy, process: Process, plan: Plan, *, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Let bots take a study while everything goes wrong, and count what became of every acknowledged event.

    Parameters
    ----------
    process
        A server of this study that was started.
    say
        Is told of the progress.
    """
    begun, outcome, done = time.monotonic(), Outcome(), threading.Event()
    seed, network = plan.seed, BadNetwork(
        process.url, lost_requests=plan.lost_requests, lost_responses=plan.lost_responses, seed=plan.seed
    )  # fmt: skip

    over = threading.Event()

    def run() -> None:
        try:
            outcome.journeys = run_bots(
                study, url=network.url, n=plan.bots, seed=seed, threads=plan.threads, patience_s=PATIENCE_S,
                habits=plan.habits, over=over,
            )  # fmt: skip
        finally:
            done.set()

    with network:
        thread = threading.Thread(target=run, name="ordeal", daemon=True)
        thread.start()
        try:
            kills, full = _harm(process, network, plan, done, study=study, say=say)
            _see_out(process, done, plan)
        finally:
            over.set()
            thread.join(60)
        outcome.happened = {"sessions": plan.bots, **network.counts, "kills": kills, "times the disk was full": full}
    recount(study, process, outcome)
    outcome.seconds = time.monotonic() - begun
    return outcome


def _see_out(process: Process, done: threading.Event, plan: Plan) -> None:
    """Wait for the bots after the last kill, for as long as there is a server that could answer them."""
    end = time.monotonic() + plan.patience_s
    while not done.wait(1.0):
        if process.running.poll() is not None:
            said = " ".join(process.log.read_text(errors="replace").strip().splitlines()[-1:])
            raise LimenError(f"server {process.url}: ended by itself while bots were at it ({said}).")
        if time.monotonic() > end:
            raise LimenError(f"ordeal: the bots did not end within {plan.patience_s:g} s of the last kill.")


def _harm(
    process: Process, network: BadNetwork, plan: Plan, done: threading.Event, *, study: FrozenStudy,
    say: Callable[[str], None],
) -> tuple[int, int]:  # fmt: skip
    """Kill the server evenly over the requests that the bots will make; fill its disk half-way."""
    draw = random.Random(plan.seed)
    trials = sum(map(len, study.trials.values())) / len(study.trials)
    gap = max(1.0, plan.bots * (trials / plan.habits.batch + 6) / (plan.kills + 1 + 2 * plan.disk))
    kills = full = 0
    due = network.relayed + gap
    while kills < plan.kills:
        while network.relayed < due and not done.wait(0.002):
            pass
        if done.is_set():
            break
        if plan.disk and not full and kills >= plan.kills // 2:
            refused, end = network.counts["refused as busy"], time.monotonic() + FULL_S
            with process.full_disk():
                while network.counts["refused as busy"] < refused + 5 and time.monotonic() < end:
                    if done.wait(0.01):
                        break
            full += network.counts["refused as busy"] > refused
        if plan.whole and kills % plan.whole == 0:
            process.end(signal.SIGKILL)
            process.start(clock_shift_s=draw.uniform(-DAY_S, DAY_S))
        else:
            process.kill_workers()
            process.wait()
        kills += 1
        due = network.relayed + gap
        say(f"kill {kills} of {plan.kills}")
    return kills, full


def recount(study: FrozenStudy, process: Process, outcome: Outcome) -> None:
    """Compare what the bots remember of acknowledgements and codes with what is held."""
    database = existing_database(process.database)
    try:
        with database.read() as connection:
            held = {(row.session, row.seq): row for row in connection.execute(select(events))}
            alarmed = len(connection.execute(select(alarms.c.id)).all())
            released = {row.session: row.code for row in connection.execute(select(codes).filter_by(kind="complete"))}
        result = verify(database, Library(study.artifact.path.parent.parent))
    finally:
        database.close()
    journeys = outcome.journeys
    acknowledged = {(j.session, seq): body for j in journeys for seq, body in j.acknowledged.items()}
    counted = Counter((r.session, r.trial_id, r.attempt) for r in held.values() if r.trial_id and not r.fault)
    ended = Counter(journey.outcome for journey in journeys)
    for key in ("retries", "raced", "reloads"):
        outcome.happened[key] = sum(int(getattr(journey, key)) for journey in journeys)
    outcome.happened |= {
        "events acknowledged": len(acknowledged),
        "events held": len(held),
        "codes released": len(released),
        "people who finished": ended["complete"],
        "people who dropped out": ended["left"],
    }
    outcome.broken = {
        "acknowledged events that are not held as they were sent": sum(
            key not in held or held[key].body != body for key, body in acknowledged.items()
        ),
        "trials that count twice": sum(count > 1 for count in counted.values()),
        "events held that cannot count": sum(bool(row.fault) for row in held.values()),
        "codes without every trial": sum("has a completion code" in fault for fault in result.faults),
        "codes that a bot was told and the data base does not hold": sum(
            released.get(j.session) != j.code for j in journeys if j.outcome == "complete"
        ),
        "people whom the server lost": sum(ended.values()) - ended["complete"] - ended["left"],
        "people missing": outcome.happened["sessions"] - len(journeys),
        "conflicts beside those of the second windows": sum(j.conflicts for j in journeys)
        + abs(alarmed - outcome.happened["raced"]),
        "faults that verify finds": len(result.faults),
    }
    outcome.faults = result.faults
