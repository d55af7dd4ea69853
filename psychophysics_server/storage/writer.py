"""The writer: one thread that commits in groups; an answer leaves after the commit that holds it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

Job = Callable[[Connection], Any]
Commit = Callable[[int, float], None]
"""Told after every commit: how many jobs it held, and the seconds COMMIT itself took."""
BATCH = 64
"""Largest number of jobs that share one commit."""
TRIES = 6
"""How often a job is run at most when other processes write to the same rows."""
_COLLISIONS = frozenset({"40001", "40P01", "23505"})
"""SQLSTATEs of PostgreSQL that another process can cause: serialisation, deadlock, a row that came first."""
_log = logging.getLogger(__name__)


class Busy(Exception):
    """The queue is full or the server is stopping: try again in a moment."""


class WriteFailed(Exception):
    """The data base refused the commit (disk full, locked by another program): nothing was stored."""


class _Unreachable(Exception):
    """No transaction could begin: no job is to blame."""


class _Item(NamedTuple):
    job: Job
    future: Future[Any]


class Writer:
    """One thread that owns every write: takes what waits, begins, applies all, commits once, then answers.

    If a batch fails, its jobs are run one by one, each in a transaction of its own, so that a bad one fails alone.

    Parameters
    ----------
    engine : Engine
        Its transactions must take the write lock at BEGIN (SQLite) or lock the rows they read to write (PostgreSQL).
    capacity : int
        Jobs that may wait; beyond it `submit` raises `Busy`.
    """

    def __init__(self, engine: Engine, *, capacity: int = 1024) -> None:
        self._engine = engine
        self._capacity = capacity
        self._jobs: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._busy_since: float | None = None
        self.on_commit: Commit | None = None
        self.before_commit: Callable[[Connection], None] | None = None
        self._thread = threading.Thread(target=self._work, name="limen-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of jobs in the queue, roughly."""
        return self._jobs.qsize()

    @property
    def stuck_s(self) -> float:
        """Seconds the batch in hand has taken so far; 0 if there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def submit(self, job: Job) -> Future[Any]:
        """Queue a job; its future is resolved after the commit that holds it.

        A job may be run more than once (its first transaction rolled back), so it must touch nothing but its
        connection. A job whose future is cancelled before its turn is not run.

        Raises
        ------
        Busy
            If the queue is full or the writer was closed.
        """
        future: Future[Any] = Future()
        with self._gate:
            if self._closed:
                raise Busy("the server is stopping")
            if self._jobs.qsize() >= self._capacity:
                raise Busy("too many answers are waiting to be stored")
            self._jobs.put(_Item(job, future))
        return future

    def run(self, job: Job, *, timeout: float = 30.0) -> Any:
        """Queue a job and wait for its commit; a job that did not get its turn in time is taken back.

        Raises
        ------
        Busy
            If it was not committed in `timeout` seconds. If it had begun, it may still be.
        """
        future = self.submit(job)
        try:
            return future.result(timeout)
        except (TimeoutError, CancelledError):
            if future.done() and not future.cancelled():
                return future.result()
            future.cancel()
            raise Busy("the data base takes too long") from None

    def close(self, *, patience_s: float = 60.0) -> bool:
        """Refuse new jobs, commit all that wait, and end the thread; False if the data base did not come back.

        After `patience_s` seconds those who still wait are told `Busy`, and the thread is left behind.
        """
        with self._gate:
            first, self._closed = not self._closed, True
        if first:
            self._jobs.put(None)
        self._thread.join(patience_s)
        if not self._thread.is_alive():
            return True
        left = 0
        while not self._jobs.empty():
            item = self._jobs.get()
            if item is not None and item.future.set_running_or_notify_cancel():
                left += 1
                item.future.set_exception(Busy("the server is stopping"))
        self._jobs.put(None)
        _log.error("the data base hangs: %d waiting writes were refused, those in hand may be lost", left)
        return False

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, last = [first], False
            while len(batch) < BATCH and not last:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                else:
                    batch.append(more)
            self._busy_since = time.monotonic()
            self._commit([item for item in batch if item.future.set_running_or_notify_cancel()])
            self._busy_since = None
            if last:
                return

    def _commit(self, batch: list[_Item]) -> None:
        """Commit a batch at once or, if that fails, job by job; every future is resolved in the end."""
        if len(batch) > 1:
            try:
                results = self._apply([item.job for item in batch])
            except _Unreachable as error:
                _fail(batch, error)
                return
            except BaseException:
                pass
            else:
                for item, result in zip(batch, results, strict=True):
                    item.future.set_result(result)
                return
        for index, item in enumerate(batch):
            try:
                result = self._alone(item.job)
            except _Unreachable as error:
                _fail(batch[index:], error)
                return
            except BaseException as error:
                _fail([item], error)
            else:
                item.future.set_result(result)

    def _alone(self, job: Job) -> Any:
        """Run one job in its own transaction, again if another process came in its way."""
        for tried in range(1, TRIES + 1):
            try:
                return self._apply([job])[0]
            except DBAPIError as error:
                if tried == TRIES or not _collided(error):
                    raise
        raise AssertionError("the last try returns or raises")

    def _apply(self, jobs: list[Job]) -> list[Any]:
        try:
            connection = self._engine.connect()
        except SQLAlchemyError as error:
            raise _Unreachable(plainly(error)) from None
        with connection:
            try:
                transaction = connection.begin()
            except SQLAlchemyError as error:
                raise _Unreachable(plainly(error)) from None
            with transaction:
                results = [job(connection) for job in jobs]
                if self.before_commit is not None:
                    self.before_commit(connection)
                began = time.perf_counter()
            took = time.perf_counter() - began
        self._tell(len(jobs), took)
        return results

    def _tell(self, jobs: int, took: float) -> None:
        """Report a commit; it stands, whatever becomes of the report."""
        try:
            if self.on_commit is not None:
                self.on_commit(jobs, took)
        except Exception:
            _log.exception("a commit could not be counted")


def _collided(error: DBAPIError) -> bool:
    """Whether the same job can succeed when it is run again: only where several processes write."""
    return getattr(error.orig, "sqlstate", None) in _COLLISIONS


def _fail(items: list[_Item], error: BaseException) -> None:
    wrapped = isinstance(error, (SQLAlchemyError, OSError, _Unreachable)) or not isinstance(error, Exception)
    for item in items:
        item.future.set_exception(WriteFailed(plainly(error)) if wrapped else error)


def plainly(error: BaseException) -> str:
    """Say why the data base refused, without the statement and without a value: PostgreSQL's details hold whole keys."""
    cause = getattr(error, "orig", None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    lines = str(primary or cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
