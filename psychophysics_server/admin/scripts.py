"""What scripts may read with a token: where the study stands, and its export."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from flask import Response, jsonify, request

from ..monitoring.standing import standing
from ..records import SOURCES
from ..web.refusal import Refusal
from ..web.server import server
from .access import route, who
from .download import zipped


@route("/api/standing", role="viewer")
def api_standing() -> Response:
    """Count people per source and cell."""
    running, now = server(), time.time()
    found = standing(running.database, running.study, now=now, stale_s=running.config.stale_s)
    file = running.study.file
    facts: dict[str, Any] = {
        "study": file.study,
        "version": file.version,
        "stimuli": running.study.key,
        "time": now,
        "queue": running.database.writer.waiting,
        "free_mb": running.disk_mb,
        **asdict(found),
    }
    return jsonify(facts)


@route("/api/export", role="analyst")
def api_export() -> Response:
    """Send the export as one ZIP file; `source` may be repeated."""
    chosen = request.args.getlist("source") or ["live"]
    if not set(chosen) <= set(SOURCES):
        raise Refusal(400, "bad_request", f"source: allowed are {', '.join(SOURCES)}.")
    return zipped(server(), who(), sources=chosen)
