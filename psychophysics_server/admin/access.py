"""Who may do what: the one place that stands between a request and every page of the dashboard."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Any

from flask import Blueprint, current_app, g, redirect, render_template, request, session, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from bench.registry import LimenError

from ..storage.database import Busy, WriteFailed
from ..web.refusal import Refusal
from ..web.security import content_policy
from ..web.server import server
from .accounts import Who, any_account, who_is

admin = Blueprint(
    "admin",
    __name__,
    url_prefix="/admin",
    template_folder="templates",
    static_folder="assets",
    static_url_path="/assets",
)
ANYONE = "anyone"
NEEDED: dict[str, str] = {"admin.static": ANYONE}
"""Endpoint -> smallest role; what is not named here is refused to everyone."""
SCRIPTS = "/admin/api/"
"""Under this path a bearer token is asked for and a cookie means nothing; everywhere else the other way round."""
NO_ACCOUNT = (
    "Nobody can log in yet: make an account on the server with `limen study account add STUDY.yaml NAME --role owner`."
)
View = Callable[..., Any]


def route(rule: str, *, role: str, method: str = "GET") -> Callable[[View], View]:
    """Add a page to the dashboard, with the smallest role that may open it."""

    def register(view: View) -> View:
        admin.add_url_rule(rule, view.__name__, view, methods=[method])
        NEEDED[f"admin.{view.__name__}"] = role
        return view

    return register


def who() -> Who:
    """Return who is logged in; only behind the guard."""
    found: Who = g.who
    return found


def csrf_token() -> str:
    """Return this browser's form token, drawn when it is first asked for."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    return str(session["csrf"])


@admin.before_request
def guard() -> Any:
    """Let a request through only if its form is ours and its account has the role that the page asks for."""
    needed = NEEDED.get(request.endpoint or "")
    if needed is None:
        raise Refusal(404, "not_found", "There is no such page.")
    scripted = request.path.startswith(SCRIPTS)
    if request.method not in {"GET", "HEAD"} and not scripted:
        _check_form()
    if needed == ANYONE:
        return None
    token = _bearer() if scripted else str(session.get("token", ""))
    with server().database.read() as connection:
        found = who_is(connection, token, browser=not scripted) if token else None
        open_to_nobody = found is None and not scripted and not any_account(connection)
    if open_to_nobody:
        raise Refusal(503, "no_account", NO_ACCOUNT)
    if found is None and scripted:
        raise Refusal(401, "token", "This needs a token: `Authorization: Bearer TOKEN`.")
    if found is None:
        return redirect(url_for("admin.login", next=_wanted()), 303)
    if not found.may(needed):
        raise Refusal(403, "role", f"This needs the role {needed}; {found.name} has the role {found.role}.")
    g.who = found
    return None


def _wanted() -> str | None:
    """Return where to go after the login: a page of the dashboard that was asked for by GET."""
    return request.full_path.rstrip("?") if request.method == "GET" else None


def _bearer() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _check_form() -> None:
    """Refuse a form that another site sent, or that this browser was not given."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise Refusal(403, "csrf", "This form came from another site.")
    held, given = str(session.get("csrf", "")), request.form.get("csrf", "")
    if not held or not hmac.compare_digest(held.encode(), given.encode()):
        raise Refusal(403, "csrf", "This form is too old. Go back, reload the page and send it again.")


@admin.context_processor
def _shared() -> dict[str, Any]:
    found: Who | None = g.get("who")
    file = server().study.file
    return {"who": found, "may": found.may if found else lambda role: False, "csrf": csrf_token, "file": file}


def _sorry(status: int, slug: str, sentence: str) -> Any:
    if request.path.startswith(SCRIPTS):
        return {"error": slug, "message": sentence}, status
    page = render_template("admin/sorry.html", status=status, sentence=sentence)
    headers = {"Retry-After": "5"} if status == 503 else {}
    return page, status, headers


@admin.errorhandler(Refusal)
def _refused(error: Refusal) -> Any:
    return _sorry(error.status, str(error.body["error"]), str(error.body["message"]))


@admin.errorhandler(LimenError)
def _user_error(error: LimenError) -> Any:
    return _sorry(400, "bad_request", str(error))


@admin.errorhandler(Busy)
@admin.errorhandler(WriteFailed)
def _busy(error: Exception) -> Any:
    current_app.logger.warning("the dashboard could not write: %s", type(error).__name__)
    return _sorry(503, "busy", "The server is busy or its disk takes no writes. Try again in a moment.")


@admin.errorhandler(HTTPException)
def _http(error: HTTPException) -> Any:
    sentences = {404: "There is no such page.", 405: "This address takes no such request.", 413: "This is too large."}
    status = error.code or 500
    return _sorry(status, "bad_request" if status < 500 else "server", sentences.get(status, "That did not work."))


@admin.after_request
def _policy(response: BaseResponse) -> BaseResponse:
    """The dashboard has forms of its own; nothing else is allowed beyond the participants' policy."""
    response.headers["Content-Security-Policy"] = content_policy(form_action="'self'")
    return response
