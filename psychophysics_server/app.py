"""The application factory: configuration in, Flask application out; nothing global."""

from __future__ import annotations

import json
import math
import secrets
import shutil
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, got_request_exception, jsonify, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from .db import Busy, Database, WriteFailed
from .doors import Doors
from .files import Files
from .frozen import FrozenStudy, Library
from .oracle import Oracle
from .ratelimit import Limits
from .recruitment import Recruiter, open_recruiter
from .security import refuse_to_start, secure
from .signing import link_secret

BUILD = "make frontend"
"""Builds the front-end in place."""
STATIC = Path(__file__).resolve().parent / "static"


def new_preview_key() -> str:
    """Draw the secret that opens previews."""
    return secrets.token_urlsafe(16)


def new_secret_key() -> str:
    """Draw the secret that signs the dashboard's cookie."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Everything a server is started with.

    Attributes
    ----------
    library : the stimulus sets of a store
    study : the study version that newcomers take
    database : path or URL
    dev : local work only; the preview key may be an example
    pilot : mark newcomers as pilot instead of live
    preview_key : opens previews; drawn at random if not given
    secret_key : signs the dashboard's cookie; drawn at random if not given, which ends every login at a restart
    hosts : names this server answers to (the Host header); any if empty
    behind_proxy : a proxy with TLS stands in front and says so in X-Forwarded-Proto
    environment : variables that recruiters read their codes and secrets from
    stale_minutes : a silent session holds no place in the balance after this; default 3 times the study's length
    disk_limit_mb : below it, newcomers are refused
    capacity : writes that may wait
    static : folder whose `dist/` holds the built front-end
    oracle : who is asked what is recognised in reveal trials; None where no network is at hand
    """

    library: Library
    study: FrozenStudy
    database: str | Path
    dev: bool = False
    pilot: bool = False
    preview_key: str = field(default_factory=new_preview_key, repr=False)
    secret_key: str = field(default_factory=new_secret_key, repr=False)
    hosts: tuple[str, ...] = ()
    behind_proxy: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stale_minutes: float | None = None
    disk_limit_mb: float = 200.0
    capacity: int = 1024
    static: Path = STATIC
    oracle: Oracle | None = None

    @property
    def stale_s(self) -> float:
        """Seconds of silence after which a session is stale."""
        minutes = self.stale_minutes
        return 60.0 * (max(30.0, 3 * self.study.file.recruitment.minutes) if minutes is None else minutes)


@dataclass(frozen=True)
class Failure:
    """An error of ours while answering: when, and what kind where; never what was sent."""

    time: float
    text: str


class Server:
    """What the views share: configuration, studies and the data base."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.library = config.library
        self.study = config.study
        self.link_secret = link_secret(config.study.file, config.environment)
        self.database = Database(config.database, capacity=config.capacity)
        self.failures: deque[Failure] = deque(maxlen=20)
        self.doors = Doors()
        self.limits = Limits()
        self._recruiters: dict[str, Recruiter] = {}
        self.recruiter_of(self.study)

    def recruiter_of(self, study: FrozenStudy) -> Recruiter:
        """Return the recruiter of a study version."""
        source = study.file.recruitment.source
        if source not in self._recruiters:
            self._recruiters[source] = open_recruiter(source, self.config.environment)
        return self._recruiters[source]

    def free_mb(self) -> float:
        """Return the free space of the disk the answers are written to, in MB; 0 if it is gone, inf if elsewhere."""
        folder = self.database.folder
        try:
            return math.inf if folder is None else shutil.disk_usage(folder).free / 1e6
        except OSError:
            return 0.0

    @property
    def disk_mb(self) -> int | None:
        """Whole MB of free disk; None if the answers are written on another machine."""
        free = self.free_mb()
        return None if math.isinf(free) else int(free)

    @property
    def admits(self) -> bool:
        """Whether there is disk left for newcomers."""
        return self.free_mb() >= self.config.disk_limit_mb

    def close(self) -> None:
        """Drain and close."""
        self.database.close()


def server() -> Server:
    """Return the running application's server."""
    found: Server = current_app.extensions["limen"]
    return found


class Refusal(Exception):
    """An answer that is an error: status, slug and a sentence a participant may read."""

    def __init__(self, status: int, slug: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": slug, "message": message, **more}


def create_app(config: ServerConfig) -> Flask:
    """Build the application of one server.

    Raises
    ------
    LimenError
        If a secret is an example or short or debugging is on outside development, or the data base cannot be opened.
    """
    from .saves import Saves

    refuse_to_start(config)
    app = Flask(__name__, static_folder=str(config.static.resolve()), static_url_path="/static")
    app.extensions["limen"] = Server(config)
    app.wsgi_app = Saves(app.wsgi_app, app, app.extensions["limen"])  # type: ignore[method-assign]
    secure(app, config)
    app.wsgi_app = Files(app.wsgi_app, config.library, config.static / "dist", tls=config.behind_proxy)  # type: ignore[method-assign]
    register_routes(app)
    register_dashboard(app)
    got_request_exception.connect(_remember, app)
    app.register_error_handler(Refusal, _refusal)
    app.register_error_handler(Busy, _busy)
    app.register_error_handler(WriteFailed, _busy)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ParseException, _broken_body)
    return app


def register_routes(app: Flask) -> None:
    """Add every route; `openapi.document` describes those that speak JSON."""
    from .openapi import documentation
    from .operations import operations
    from .oracle_routes import oracle
    from .participant import participant
    from .recruit_routes import recruit
    from .score_routes import own_score

    app.register_blueprint(participant)
    app.register_blueprint(own_score)
    app.register_blueprint(oracle)
    app.register_blueprint(recruit)
    app.register_blueprint(operations)
    app.register_blueprint(documentation)


def register_dashboard(app: Flask) -> None:
    """Add the researcher's pages under `/admin`."""
    from .admin.views import admin

    app.register_blueprint(admin)


def _remember(sender: Flask, exception: BaseException, **_: Any) -> None:
    text = f"{type(exception).__name__} while answering {request.endpoint}"
    sender.extensions["limen"].failures.append(Failure(time.time(), text))


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


def built_files(folder: Path) -> dict[str, str] | None:
    """Read which (hashed) files the front-end's build left in `static/dist`, or None if it was not built."""
    try:
        named = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        files = {name: str(named[name]) for name in ("index.js", "index.css")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if all((folder / name).is_file() for name in files.values()) else None
