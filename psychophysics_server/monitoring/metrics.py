"""Metrics for Prometheus: what a server did since it started, and where its studies stand; an optional extra."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from flask import Flask
from sqlalchemy import func, select

from ..sessions.append import Appended
from ..storage.database import Database
from ..storage.tables import alarms, codes, sessions

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several processes add up; `limen study serve --workers` sets it."""


class Metrics:
    """The counters of one process, and how to show them with what the data base says.

    Raises
    ------
    ModuleNotFoundError
        If `prometheus_client` is not installed.
    """

    def __init__(self, database: Database) -> None:
        import prometheus_client as prometheus
        from prometheus_client.metrics_core import GaugeMetricFamily

        self._database = database
        self._prometheus, self._gauge = prometheus, GaugeMetricFamily
        self.registry = prometheus.CollectorRegistry()
        here: dict[str, Any] = {"registry": self.registry}
        self.saves = prometheus.Counter("limen_saves", "Events stored", **here)
        self.duplicates = prometheus.Counter("limen_duplicates", "Events sent again and stored once", **here)
        self.conflicts = prometheus.Counter("limen_conflicts", "Events refused: the number held another body", **here)
        self.requests = prometheus.Counter("limen_requests", "Requests by status", ["status"], **here)
        self.acknowledgement = prometheus.Histogram(
            "limen_acknowledgement_seconds", "From a save's arrival to its answer", buckets=SECONDS, **here
        )
        self.commit = prometheus.Histogram(
            "limen_commit_seconds", "COMMIT itself, with its sync to disk", buckets=SECONDS, **here
        )
        self.group = prometheus.Histogram(
            "limen_commit_jobs", "Writes that shared one commit", buckets=(1, 2, 4, 8, 16, 32, 64), **here
        )
        self.queue = prometheus.Gauge("limen_queue_jobs", "Writes that wait", multiprocess_mode="livesum", **here)
        database.writer.on_commit = self.committed

    def committed(self, jobs: int, seconds: float) -> None:
        """Count a commit."""
        self.commit.observe(seconds)
        self.group.observe(jobs)

    def answered(self, status: int, seconds: float, done: Appended | None) -> None:
        """Count a request, and what became of its batch if it was a save."""
        self.requests.labels(str(status)).inc()
        self.queue.set(self._database.writer.waiting)
        if done is None:
            return
        self.acknowledgement.observe(seconds)
        self.saves.inc(done.stored)
        self.duplicates.inc(len(done.acknowledged) - done.stored)
        self.conflicts.inc(len(done.conflicts))

    def collect(self) -> Iterator[Any]:
        """Ask the data base: sessions by source and state, codes by kind, alarms (a Prometheus collector)."""
        gauge = self._gauge
        with self._database.read() as connection:
            standing = gauge("limen_sessions", "Sessions by source and state", labels=["source", "state"])
            query = select(sessions.c.source, sessions.c.state, func.count()).group_by(
                sessions.c.source, sessions.c.state
            )
            for source, state, number in connection.execute(query):
                standing.add_metric([source, state], number)
            released = gauge("limen_codes", "Codes given out, by kind; `manual` waits for a person", labels=["kind"])
            for kind, number in connection.execute(select(codes.c.kind, func.count()).group_by(codes.c.kind)):
                released.add_metric([kind], number)
            number = connection.execute(select(func.count()).select_from(alarms)).scalar_one()
        yield from (standing, released, gauge("limen_alarms", "Conflicting bodies that were kept apart", number))

    def page(self) -> tuple[bytes, str]:
        """Return the text of all metrics, over all processes, and its content type."""
        shown = self._prometheus.CollectorRegistry()
        if os.environ.get(SHARED):
            from prometheus_client.multiprocess import MultiProcessCollector

            MultiProcessCollector(shown)
        else:
            shown.register(self.registry)
        shown.register(self)
        return self._prometheus.generate_latest(shown), self._prometheus.CONTENT_TYPE_LATEST


def metrics_of(app: Flask) -> Metrics | None:
    """Return an application's metrics, made when they are first asked for; None without the extra."""
    held = app.extensions.get("limen.metrics", False)
    if held is False:
        try:
            held = Metrics(app.extensions["limen"].database)
        except ModuleNotFoundError:
            held = None
        app.extensions["limen.metrics"] = held
    found: Metrics | None = held
    return found
