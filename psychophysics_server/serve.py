"""The server process: gunicorn with many threads; one process on SQLite, as many as wanted on PostgreSQL.

One process keeps one writer, so that all who wait share a commit; on PostgreSQL rows are locked between processes.
"""

from __future__ import annotations

import atexit
import importlib.util
import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from bench.registry import LimenError

from .app import create_app
from .monitoring.logs import Form, configuration
from .monitoring.metrics import SHARED
from .storage.database import Database
from .storage.engines import database_url, is_sqlite
from .web.server import ServerConfig
from .web.worker import PatientWorker, QuietLogger

THREADS = 48


class Embedded(BaseApplication):
    """gunicorn, configured from here and not from files or the environment."""

    def __init__(self, config: ServerConfig, options: dict[str, Any]) -> None:
        self._config = config
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        """Take over the options."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Build the application in the worker, so that its writer thread lives there."""
        self.flask = create_app(self._config)
        return self.flask


def serve(
    config: ServerConfig,
    *,
    host: str,
    port: int,
    announce: Callable[[], None],
    workers: int = 1,
    log: Form = "text",
) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered and the queue is committed before the end.

    Parameters
    ----------
    announce
        Called once the socket listens.
    workers
        Processes; more than one needs PostgreSQL.
    log
        'text' tells of what needs a person's eye; 'json' of every request as well.

    Raises
    ------
    LimenError
        If the port is taken, the data base cannot be opened, several processes would share an SQLite file, or --dev
        would face a network.
    """
    if workers > 1 and is_sqlite(database_url(config.database)):
        raise LimenError(
            f"server, workers {workers}: SQLite has one writer, so one process serves it; allowed is 1, or more with "
            "--db postgresql+psycopg://…"
        )
    if config.dev and not _loopback(host):
        raise LimenError(f"server, host '{host}': --dev may never face a network; allowed are 127.0.0.1 and localhost.")
    _check_port(host, port)
    Database(config.database).close()
    if workers > 1:
        _share_metrics()
    options = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "workers": workers,
        "threads": THREADS,
        "worker_class": PatientWorker,
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
        "timeout": 60,
        "graceful_timeout": 30,
        "keepalive": 15,
        "loglevel": "warning",
        "accesslog": None,
        "logger_class": QuietLogger,
        "control_socket_disable": True,
        "proc_name": "limen",
        "when_ready": lambda _: announce(),
        "worker_exit": _drain,
        "child_exit": _forget,
        "logconfig_dict": configuration(log),
    }
    Embedded(config, options).run()


def _drain(arbiter: Any, worker: Any) -> None:
    application = getattr(worker.app, "flask", None)
    if application is not None:
        application.extensions["limen"].close()


def _share_metrics() -> None:
    """Let the processes add their metrics up, in a folder that lasts as long as the server."""
    folder = tempfile.mkdtemp(prefix="limen-metrics-")
    os.environ[SHARED] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _forget(arbiter: Any, worker: Any) -> None:
    """Take the gauges of a process that ended out of the sum."""
    if os.environ.get(SHARED) and importlib.util.find_spec("prometheus_client") is not None:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LimenError(
                f"server, address {host}:{port}: cannot be used ({os.strerror(error.errno or 0)}); choose another --port."
            ) from None
