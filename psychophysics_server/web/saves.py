"""The save, answered before Flask is asked: the one request whose rate decides how many people a server can hold."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import pydantic
from flask import Flask
from werkzeug.exceptions import SecurityError
from werkzeug.sansio.utils import get_host

from ..sessions.append import append
from ..sessions.session import bearer_of, token_hash
from ..storage.writer import Busy, WriteFailed
from ..wire.requests import EventsRequest
from .operations import note, request_name
from .security import EVENTS, fixed_headers
from .server import Server

Answers = Callable[..., Iterable[bytes]]
PATH = "/api/events"
FAULT = "limen.fault"
"""Key of the environment under which the ordinary way finds why the data base refused a save."""


class Saves:
    """A layer around the application that answers the plain save: a known token, a valid batch, nothing to complain of.

    Whatever is not plain goes the ordinary way with its body as it came, also after the batch was stored: storing it
    again changes nothing, so there is one place that knows how to refuse.

    Parameters
    ----------
    application
        Answers everything else.
    app
        Its Flask application, for its log and its metrics.
    server : Server
        What the views share.
    """

    def __init__(self, application: Answers, app: Flask, server: Server) -> None:
        self._application, self._app, self._server = application, app, server
        self._hosts = list(server.config.hosts) or None
        tls = server.config.behind_proxy
        self._heads = {scheme: fixed_headers(tls=tls and scheme == "https") for scheme in ("http", "https")}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Store and acknowledge a plain save, or ask the application."""
        if environ.get("PATH_INFO") != PATH or environ.get("REQUEST_METHOD") != "POST" or environ.get("SCRIPT_NAME"):
            return self._application(environ, start_response)
        body = self._plain_save(environ, start_response)
        return self._application(environ, start_response) if body is None else [body]

    def _plain_save(self, environ: dict[str, Any], start_response: Any) -> bytes | None:
        began = time.perf_counter()
        token = self._token(environ)
        length = environ.get("CONTENT_LENGTH") or ""
        if not token or not length.isdecimal() or int(length) > EVENTS or environ.get("HTTP_TRANSFER_ENCODING"):
            return None
        held = self._server.doors.get(token)
        if held is None:
            return None
        sent = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = io.BytesIO(sent)
        try:
            batch = EventsRequest.model_validate_json(sent).events
        except (pydantic.ValidationError, ValueError, RecursionError):
            return None
        if self._server.limits.session.wait(held[0]):
            return None
        try:
            done = append(self._server.database, held[1], held[0], batch, token=token)
        except (Busy, WriteFailed) as error:
            environ[FAULT] = error
            return None
        if done.unknown or done.gone or done.conflicts:
            return None
        body = json.dumps(done.public(), separators=(",", ":"), sort_keys=True).encode() + b"\n"
        name = request_name(environ.get("HTTP_X_REQUEST_ID", ""))
        start_response(
            "200 OK",
            [*self._heads[environ["wsgi.url_scheme"]], ("X-Request-ID", name), ("Content-Length", str(len(body)))],
        )
        note(self._app, request=name, method="POST", route=PATH, status=200, door=held, began=began, appended=done)
        return body

    def _token(self, environ: dict[str, Any]) -> str:
        """Return the hash of the request's token, '' if it has none or names a host that this server is not."""
        if self._hosts is not None:
            try:
                get_host(environ["wsgi.url_scheme"], environ.get("HTTP_HOST"), None, self._hosts)
            except SecurityError:
                return ""
        token = bearer_of(environ.get("HTTP_AUTHORIZATION", ""))
        return token_hash(token) if token else ""
