"""Whether the server lives, and whether it can really take an answer."""

from __future__ import annotations

import time

from flask import Blueprint, Response, jsonify
from sqlalchemy import Connection, delete

from .app import server
from .db import Busy, WriteFailed, insert_row
from .tables import meta

operations = Blueprint("operations", __name__)


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
        "free_mb": None if running.database.folder is None else int(running.free_mb()),
    }

    def touch(connection: Connection) -> None:
        connection.execute(delete(meta).where(meta.c.name == "ready"))
        insert_row(connection, meta, {"name": "ready", "value": str(time.time())})

    try:
        running.database.write(touch)
    except (Busy, WriteFailed):
        return jsonify({"ready": False, "message": "the data base takes no writes", **facts}), 503
    if not running.admits:
        return jsonify({"ready": False, "message": "the disk is nearly full", **facts}), 503
    return jsonify({"ready": True, **facts}), 200
