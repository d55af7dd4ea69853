"""The page on which a person erases their own answers, with the token they were given at the end."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template, request

from stimuli.interface import words_of

from ..people.finish import erase
from .built import built_files
from .security import content_policy
from .server import server

erasure = Blueprint("erasure", __name__)
MOST = 200


@erasure.route("/erase", methods=["GET", "POST"])
def form() -> Response:
    """Show the form, or erase; the token is never part of an address, and nothing is needed besides it."""
    typed = request.form.get("token", "")[:MOST] if request.method == "POST" else ""
    outcome = ""
    if typed.strip():
        outcome = "erased" if erase(server().database, typed) else "unknown"
    file, built = server().study.file, built_files(server().config.static / "dist")
    css = None if built is None else built["index.css"]
    words = words_of(file)
    shown = {"file": file, "words": words["erase"], "contact": words["contact"], "outcome": outcome, "typed": typed}
    response = make_response(render_template("erase.html", css=css, **shown), 404 if outcome == "unknown" else 200)
    response.headers["Content-Security-Policy"] = content_policy(form_action="'self'")
    return response
