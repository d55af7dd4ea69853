"""The server process: gunicorn, one process with many threads, because one process keeps one writer."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from bench.registry import LimenError

from .app import ServerConfig, create_app
from .db import Database
from .worker import PatientWorker

THREADS = 16


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


def serve(config: ServerConfig, *, host: str, port: int, announce: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered and the queue is committed before the end.

    Parameters
    ----------
    announce
        Called once the socket listens.

    Raises
    ------
    LimenError
        If the port is taken, the data base cannot be opened, or --dev would face a network.
    """
    if config.dev and not _loopback(host):
        raise LimenError(f"server, host '{host}': --dev may never face a network; allowed are 127.0.0.1 and localhost.")
    _check_port(host, port)
    Database(config.database).close()
    options = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "workers": 1,
        "threads": THREADS,
        "worker_class": PatientWorker,
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
        "timeout": 60,
        "graceful_timeout": 30,
        "keepalive": 15,
        "loglevel": "warning",
        "accesslog": None,
        "control_socket_disable": True,
        "proc_name": "limen",
        "when_ready": lambda _: announce(),
        "worker_exit": _drain,
    }
    Embedded(config, options).run()


def _drain(arbiter: Any, worker: Any) -> None:
    application = getattr(worker.app, "flask", None)
    if application is not None:
        application.extensions["limen"].close()


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
