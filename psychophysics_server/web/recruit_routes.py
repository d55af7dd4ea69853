"""What recruiters reach: the address of their webhooks."""

from __future__ import annotations

import time

from flask import Blueprint, Response, current_app, jsonify, request
from sqlalchemy import Connection

from ..recruitment.recruiter import BadWebhook
from ..recruitment.submissions import hear
from .refusal import Refusal
from .server import server

recruit = Blueprint("recruit", __name__)


@recruit.post("/recruit/<name>/webhook")
def webhook(name: str) -> Response:
    """Take a signed message about a submission; the same message again changes nothing."""
    running = server()
    recruiter = running.recruiter_of(running.study)
    if name != recruiter.name or not recruiter.listens:
        raise Refusal(404, "not_found", "There is nothing at this address.")
    now = time.time()
    try:
        told = recruiter.receive(dict(request.headers), request.get_data(cache=False), now=now)
    except BadWebhook as error:
        current_app.logger.warning("recruiter %s: a message was refused: %s", recruiter.name, error)
        raise Refusal(401, "signature", "The message could not be verified.") from None
    if told is None:
        return jsonify({"stored": False})
    message = told

    def job(connection: Connection) -> bool:
        return hear(connection, recruiter.name, message, now=now)

    return jsonify({"stored": bool(running.database.write(job))})
