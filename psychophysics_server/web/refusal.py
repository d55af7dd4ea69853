"""Answers that are errors: what a view raises, and what each kind of error says to a participant."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, current_app, jsonify
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from ..storage.database import Busy, WriteFailed


class Refusal(Exception):
    """An answer that is an error: status, slug and a sentence a participant may read."""

    def __init__(self, status: int, slug: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": slug, "message": message, **more}


def answer_errors(app: Flask) -> None:
    """Give an application its answers to errors."""
    app.register_error_handler(Refusal, _refusal)
    app.register_error_handler(Busy, _busy)
    app.register_error_handler(WriteFailed, _busy)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ParseException, _broken_body)


def _refusal(error: Refusal) -> tuple[Response, int, dict[str, str]]:
    headers = {"Retry-After": "5"} if error.status == 503 else {}
    return jsonify(error.body), error.status, headers


def _busy(error: Exception) -> tuple[Response, int, dict[str, str]]:
    current_app.logger.warning("refused a write: %s", type(error).__name__)
    message = "The server is busy; your answers are kept here and sent again in a moment."
    return jsonify({"error": "busy", "message": message}), 503, {"Retry-After": "1"}


def _http_error(error: HTTPException) -> tuple[Response, int, dict[str, str]]:
    slugs = {404: "not_found", 405: "bad_request", 413: "too_large"}
    status = error.code or 500
    messages = {404: "There is nothing at this address.", 413: "This request is too large."}
    message = messages.get(status, "The server could not answer this request.")
    slug = slugs.get(status, "bad_request" if status < 500 else "server")
    allowed = getattr(error, "valid_methods", None)
    return jsonify({"error": slug, "message": message}), status, {"Allow": ", ".join(allowed)} if allowed else {}


def _broken_body(error: Exception) -> tuple[Response, int]:
    """Refuse a body whose chunks are not as HTTP wants them; gunicorn notices while the body is read."""
    return jsonify({"error": "bad_request", "message": "The request is not valid HTTP."}), 400
