"""What participants reach: the page, the wire protocol of docs/wire.md, and the pictures."""

from __future__ import annotations

import hmac
import json
from typing import Any

from flask import Blueprint, Response, current_app, g, jsonify, redirect, render_template, request
from sqlalchemy import Row
from werkzeug.wrappers import Response as BaseResponse

from stimuli.interface import words_of

from ..people.finish import complete, deletion_token, ending, manual_code, screen_out, withdraw
from ..recruitment.recruiter import RECRUITED, BadIdentity
from ..recruitment.signing import check as check_signature
from ..sessions.append import append
from ..sessions.lifecycle import DEVICE
from ..sessions.session import Entry, open_session, token_hash, view
from ..storage.database import one
from ..storage.tables import participants, sessions
from ..study.frozen import FrozenStudy
from ..wire.requests import CompleteRequest, EventsRequest, NoRequest, OpenRequest, ReasonRequest
from .asking import WITHDRAWN, asked_session, bearer, held_session, hold_rate, not_recognised, read_body, withdrawn
from .built import BUILD, built_files
from .erasure import erasure
from .refusal import Refusal
from .saves import FAULT
from .security import content_policy
from .server import server

participant = Blueprint("participant", __name__)
participant.register_blueprint(erasure)
_REFUSED = {
    "full": (403, "This study has all the participants it needs. Thank you for your interest."),
    "paused": (403, "The study is paused. Please come back later."),
    "took_part": (403, "You took part in a study of this series before, so you cannot take part in this one."),
    "disk": (503, "The study takes no new participants at the moment. Please try again later."),
    "withdrawn": WITHDRAWN,
}


@participant.get("/")
def root() -> BaseResponse:
    """Send a visitor to the study."""
    return redirect(f"/study/{server().study.file.study}/", 302)


@participant.get("/study/<study>/")
def page(study: str) -> tuple[str, int] | tuple[str, int, dict[str, str]]:
    """Show the shell that loads the front-end, or say plainly what is missing."""
    file = server().study.file
    if study != file.study:
        text = "There is no study at this address. Please check the link."
        return render_template("message.html", title="No such study", text=text), 404
    built = built_files(server().config.static / "dist")
    if built is None:
        text = f"The front-end is not built. Run `{BUILD}` in the project folder, then reload this page."
        return render_template("message.html", title="Front-end not built", text=text), 503
    words = json.dumps(words_of(file), ensure_ascii=False)
    shown = render_template("participant.html", file=file, words=words, js=built["index.js"], css=built["index.css"])
    # A recruiter may have to frame this page, and take its form (Mechanical Turk).
    policy = server().recruiter_of(server().study).policy
    return shown, 200, {"Content-Security-Policy": content_policy(**policy)}


@participant.get("/stimuli/<name>.png")
def picture(name: str) -> Response:
    """Refuse a picture that is not there; `files.Files` sends those that are."""
    del name
    raise Refusal(404, "not_found", "There is no such picture.")


def _entry(wanted: OpenRequest) -> Entry:
    running = server()
    parameters = wanted.parameters
    cell = parameters.get("cell") or None
    simulated = wanted.source == "bot"
    if (simulated or "preview" in parameters) and cell is not None and cell not in running.study.trials:
        raise Refusal(400, "bad_request", "This link names a cell that does not exist.")
    if simulated:
        return Entry(source="bot", recruiter="bot", recruiter_id=wanted.client_id, cell=cell)
    if "preview" in parameters:
        if not hmac.compare_digest(parameters["preview"].encode(), running.config.preview_key.encode()):
            raise Refusal(403, "preview", "This preview link is not valid any more.")
        claim = f"{wanted.client_id}/{cell or ''}"[:200]
        return Entry(source="preview", recruiter="preview", recruiter_id=claim, cell=cell)
    try:
        recruiter = running.recruiter_of(running.study)
        if running.link_secret is not None:
            check_signature(running.link_secret, running.study.file.study, parameters, recruiter.parameter)
        found = recruiter.identify(parameters, wanted.client_id)
    except BadIdentity as error:
        raise Refusal(400, "identity", str(error)) from None
    return Entry(
        source="pilot" if running.config.pilot else "live",
        recruiter=found.recruiter,
        recruiter_id=found.recruiter_id,
        submission=found.submission,
    )


@participant.post("/api/sessions")
def sessions_open() -> tuple[Response, int]:
    """Open a session, or the same one again."""
    wanted, running = read_body(OpenRequest), server()
    if wanted.study != running.study.file.study:
        raise Refusal(404, "not_found", "There is no study at this address. Please check the link.")
    entry = _entry(wanted)
    hold_rate(running.limits.start, f"{running.study.key}/{entry.source}")
    opened = open_session(running.database, running.study, entry, admit=running.admits, stale_s=running.config.stale_s)
    if opened.refused:
        raise _turned_away(opened.refused, entry)
    answer = {
        "session": opened.session,
        "token": opened.token,
        "resumed": opened.resumed,
        "state": opened.state,
        "next_seq": opened.next_seq,
    }
    return jsonify(answer), 200 if opened.resumed else 201


def _turned_away(slug: str, entry: Entry) -> Refusal:
    """Refuse a newcomer; whom a recruiter sent for nothing is told how to get back."""
    status, message = _REFUSED[slug]
    more: dict[str, Any] = {}
    if slug in {"full", "took_part"} and entry.source in RECRUITED:
        study = server().study
        recruiter = server().recruiter_of(study)
        code = recruiter.full_code(study.file.recruitment, study.key)
        more = {"code": code, "url": recruiter.completion_url(entry.source, code)}
    return Refusal(status, slug, message, **more)


@participant.get("/api/session")
def session_view() -> Response:
    """Tell a browser everything it needs to go on."""
    row, study = asked_session()
    with server().database.read() as connection:
        fresh = one(connection, sessions, session=row.session)
        if fresh is None or fresh.state == "WITHDRAWN":
            raise withdrawn()
        return jsonify(view(connection, study, fresh))


@participant.post("/api/events")
def events_append() -> tuple[Response, int]:
    """Store a batch and acknowledge it after the commit; plain saves are answered by `saves.Saves` before this."""
    if FAULT in request.environ:
        raise request.environ[FAULT]
    token = bearer()
    session, study = held_session(token)
    batch = read_body(EventsRequest).events
    done = g.appended = append(server().database, study, session, batch, token=token_hash(token))
    if done.unknown:
        server().doors.forget(token_hash(token))
        raise not_recognised()
    if done.gone:
        raise withdrawn()
    if done.conflicts:
        current_app.logger.error("alarm: session %s, conflicting bodies for seq %s", session, done.conflicts)
        message = "This study goes on in another window."
        body = {"error": "conflict", "message": message, "conflicts": done.conflicts, **done.public()}
        return jsonify(body), 409
    return jsonify(done.public()), 200


@participant.post("/api/complete")
def session_complete() -> Response:
    """Release the code once everything is held."""
    row, study = asked_session()
    claim, recruiter = read_body(CompleteRequest), server().recruiter_of(study)
    done = complete(
        server().database,
        study,
        row.session,
        last_seq=claim.last_seq,
        chain=claim.chain,
        draw=lambda: recruiter.new_code(study.file.recruitment, row.source),
    )
    if done.gone:
        raise withdrawn()
    if done.over:
        raise Refusal(409, "over", "This session has ended already.", state=done.over)
    if not done.code:
        raise Refusal(
            409,
            "incomplete",
            "Some of your answers have not arrived yet." if done.consented else "Consent was not given.",
            missing=done.missing,
            missing_trials=done.missing_trials,
            chain_matches=done.chain_matches,
            next_seq=done.next_seq,
        )
    token = deletion_token(server().database, row.session, bearer())
    back = _way_back(row, study, done.code)
    return jsonify({"code": done.code, **back, "state": "COMPLETE", "deletion_token": token})


def _way_back(row: Row[Any], study: FrozenStudy, code: str) -> dict[str, Any]:
    """Say how a person gets back to the recruiter with a code: by an address, by a form, or not at all."""
    recruiter = server().recruiter_of(study)
    with server().database.read() as connection:
        who = one(connection, participants, session=row.session)
    form = recruiter.form(row.source, code, "" if who is None else who.submission)
    shown = None if form is None else {"action": form.action, "fields": dict(form.fields)}
    return {"url": recruiter.completion_url(row.source, code), "form": shown}


@participant.post("/api/manual")
def session_manual() -> Response:
    """Give the code that a person reviews, so that nobody goes unpaid."""
    row, study = asked_session()
    reason, recruiter = read_body(ReasonRequest).reason, server().recruiter_of(study)
    code = manual_code(
        server().database,
        row.session,
        reason=reason,
        draw=lambda: recruiter.new_code(study.file.recruitment, row.source, "manual"),
    )
    if code is None:
        raise withdrawn()
    current_app.logger.error("alarm: session %s was given a code for review", row.session)
    token = deletion_token(server().database, row.session, bearer())
    return jsonify({"code": code, **_way_back(row, study, code), "deletion_token": token})


@participant.post("/api/outcome")
def session_outcome() -> Response:
    """Give the code of a session that ended without its trials, and say why it ended."""
    row, study = asked_session()
    read_body(NoRequest)
    return jsonify(_outcome(row, study))


def _outcome(row: Row[Any], study: FrozenStudy) -> dict[str, Any]:
    recruiter, database = server().recruiter_of(study), server().database
    found = ending(
        database,
        study,
        row.session,
        draw=lambda kind: recruiter.new_code(study.file.recruitment, row.source, kind),
        wants_refusals="no_consent" in recruiter.codes and row.source in RECRUITED,
    )
    kept = found.code and found.state != "WITHDRAWN"
    back = _way_back(row, study, found.code) if found.code else {"url": None, "form": None}
    token = deletion_token(database, row.session, bearer()) if kept else ""
    told = {"state": found.state, "reason": found.reason, "code": found.code or None}
    return {**told, **back, "deletion_token": token}


@participant.post("/api/unsuitable")
def session_unsuitable() -> Response:
    """End a session whose screen is not what the study needs, as the person says; the place is open again."""
    row, study = asked_session()
    read_body(NoRequest)
    display = study.file.display
    if display.mobile and not display.min_width and not display.min_height:
        raise Refusal(400, "bad_request", "This study asks nothing of the screen.")
    if screen_out(server().database, row.session, reason=DEVICE) == "WITHDRAWN":
        raise withdrawn()
    return jsonify(_outcome(row, study))


@participant.post("/api/withdraw")
def session_withdraw() -> Response:
    """Delete this person's answers."""
    row, study = asked_session()
    withdraw(server().database, row.session, reason=read_body(ReasonRequest).reason)
    found = _outcome(row, study)
    return jsonify({name: found[name] for name in ("state", "code", "url", "form")})
