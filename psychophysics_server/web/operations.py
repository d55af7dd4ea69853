"""Whether the server lives, whether it can really take an answer, what it did, and a line a request in the log."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import re
import secrets
import time
from typing import Any

from flask import Blueprint, Flask, Response, current_app, g, jsonify, request
from flask.blueprints import BlueprintSetupState
from sqlalchemy import Connection, update

from ..monitoring.metrics import metrics_of
from ..sessions.append import Appended
from ..sessions.doors import Door
from ..sessions.session import bearer_of, token_hash
from ..storage.database import Busy, WriteFailed, insert_once
from ..storage.tables import meta
from .refusal import Refusal
from .server import server

operations = Blueprint("operations", __name__)
READY_S = 5.0
"""A server whose data base needs longer than this for one row is not ready."""
TOKEN = "LIMEN_METRICS_TOKEN"
"""Environment: whoever sends it as a bearer token may read the metrics from anywhere."""
METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"})
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_log = logging.getLogger("psychophysics_server.requests")


@operations.record
def _count_from_the_start(state: BlueprintSetupState) -> None:
    if isinstance(state.app, Flask) and "limen" in state.app.extensions:
        metrics_of(state.app)


@operations.get("/healthz")
def healthz() -> Response:
    """Say that the process is alive."""
    return jsonify({"alive": True})


@operations.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Write to the data base and look at the disk; 200 only if both are well."""
    running = server()
    facts = {
        "queue": running.database.writer.waiting,
        "free_mb": running.disk_mb,
    }
    try:
        running.database.writer.run(_touch, timeout=READY_S)
    except (Busy, WriteFailed):
        return jsonify({"ready": False, "message": "the data base takes no writes", **facts}), 503
    if not running.admits:
        return jsonify({"ready": False, "message": "the disk is nearly full", **facts}), 503
    return jsonify({"ready": True, **facts}), 200


def _touch(connection: Connection) -> None:
    row = {"name": "ready", "value": str(time.time())}
    if not insert_once(connection, meta, row):
        connection.execute(update(meta).where(meta.c.name == "ready").values(value=row["value"]))


@operations.get("/metrics")
def metrics() -> Response:
    """Show the metrics, to this machine or to whoever holds the token."""
    if not _may_read_metrics():
        raise Refusal(403, "metrics", f"Metrics are for this machine, or for a bearer token that matches {TOKEN}.")
    held = metrics_of(current_app)
    if held is None:
        raise Refusal(404, "not_found", "There are no metrics here; the server needs `pip install 'limen[metrics]'`.")
    text, kind = held.page()
    return Response(text, content_type=kind)


def _may_read_metrics() -> bool:
    wanted = os.environ.get(TOKEN, "")
    if wanted:
        return hmac.compare_digest(_bearer().encode(), wanted.encode())
    if any(name in request.headers for name in FORWARDED):
        return False  # a proxy on this machine speaks for somebody else
    try:
        return ipaddress.ip_address(request.remote_addr or "").is_loopback
    except ValueError:
        return False


def _bearer() -> str:
    return bearer_of(request.headers.get("Authorization", ""))


@operations.before_app_request
def _begin() -> None:
    g.began = time.perf_counter()
    g.request_id = request_name(request.headers.get("X-Request-ID", ""))


def request_name(given: str) -> str:
    """Return the name that came with a request, or draw one."""
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


@operations.after_app_request
def _end(response: Response) -> Response:
    """Count the request and write its line."""
    response.headers["X-Request-ID"] = name = g.get("request_id", "")
    token, running = _bearer(), server()
    note(
        current_app,
        request=name,
        method=request.method if request.method in METHODS else "other",
        route=None if request.url_rule is None else request.url_rule.rule,
        status=response.status_code,
        door=running.doors.get(token_hash(token)) if token else None,
        began=g.get("began", time.perf_counter()),
        appended=g.get("appended"),
    )
    return response


def note(app: Flask, *, status: int, door: Door | None, began: float, appended: Appended | None, **facts: Any) -> None:
    """Count a request and write its line: the route as it is declared, never what was typed."""
    seconds = time.perf_counter() - began
    counted = metrics_of(app)
    if counted is not None:
        counted.answered(status, seconds, appended)
    if not _log.isEnabledFor(logging.INFO):
        return
    study = app.extensions["limen"].study if door is None else door[1]
    session = None if door is None else door[0]
    told = {"study": study.file.study, "session": session, "status": status, "ms": round(1000 * seconds, 3)}
    _log.info("answered", extra={**told, **facts})
