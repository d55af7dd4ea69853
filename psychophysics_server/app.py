"""The application factory: configuration in, Flask application out; nothing global."""

from __future__ import annotations

import time
from typing import Any

from flask import Flask, got_request_exception, request

from .admin.views import admin
from .web.files import Files
from .web.openapi import documentation
from .web.operations import operations
from .web.oracle_routes import oracle
from .web.participant import participant
from .web.recruit_routes import recruit
from .web.refusal import answer_errors
from .web.saves import Saves
from .web.score_routes import own_score
from .web.security import refuse_to_start, secure
from .web.server import Failure, Server, ServerConfig


def create_app(config: ServerConfig) -> Flask:
    """Build the application of one server.

    Raises
    ------
    LimenError
        If a secret is an example or short or debugging is on outside development, or the data base cannot be opened.
    """
    refuse_to_start(config)
    app = Flask(__name__, static_folder=str(config.static.resolve()), static_url_path="/static")
    app.extensions["limen"] = Server(config)
    app.wsgi_app = Saves(app.wsgi_app, app, app.extensions["limen"])  # type: ignore[method-assign]
    secure(app, config)
    app.wsgi_app = Files(app.wsgi_app, config.library, config.static / "dist", tls=config.behind_proxy)  # type: ignore[method-assign]
    register_routes(app)
    register_dashboard(app)
    got_request_exception.connect(_remember, app)
    answer_errors(app)
    return app


def register_routes(app: Flask) -> None:
    """Add every route; `openapi.document` describes those that speak JSON."""
    app.register_blueprint(participant)
    app.register_blueprint(own_score)
    app.register_blueprint(oracle)
    app.register_blueprint(recruit)
    app.register_blueprint(operations)
    app.register_blueprint(documentation)


def register_dashboard(app: Flask) -> None:
    """Add the researcher's pages under `/admin`."""
    app.register_blueprint(admin)


def _remember(sender: Flask, exception: BaseException, **_: Any) -> None:
    text = f"{type(exception).__name__} while answering {request.endpoint}"
    sender.extensions["limen"].failures.append(Failure(time.time(), text))
