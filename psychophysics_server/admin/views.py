"""The pages of the dashboard; every one is registered with the role it needs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flask import Response, current_app, flash, redirect, render_template, request, session, url_for
from sqlalchemy import func, select
from werkzeug.wrappers import Response as BaseResponse

from ..admin import scripts as _scripts  # noqa: F401  registers the addresses for scripts
from ..admin import shaping as _shaping  # noqa: F401  registers the templates' filters
from ..people.decisions import ANALYSIS, BONUS, MONEY, Decision, decide
from ..people.payments import batches, list_again, list_payments
from ..records import SOURCES
from ..storage.tables import alarms, audit, events, sessions, studies
from ..web.refusal import Refusal
from ..web.server import server
from .access import ANYONE, NO_ACCOUNT, admin, any_account, route, who
from .accounts import sign_in, sign_out
from .acts import alarm_bodies, reveal, set_pause
from .bundle import replay_files, replayed, shown_words
from .download import packed, zipped
from .figures import Shared, overview
from .owed import owed
from .person import EVENTS_PAGE, Person, find, replay, story
from .roster import STATES, WAYS, Wish, roster

__all__ = ["admin"]
LINES = 100
PAYMENT = (*MONEY, BONUS)
MAX_REASON = 500


def _source() -> str:
    wanted = request.args.get("source", "")
    if wanted in SOURCES:
        return wanted
    return "pilot" if server().config.pilot else "live"


def _page() -> int:
    given = request.args.get("page", "1")
    return min(max(int(given), 1), 1_000_000) if given.isascii() and given.isdigit() and len(given) < 9 else 1


def _reason() -> str:
    reason = request.form.get("reason", "").strip()
    if len(reason) > MAX_REASON or "\0" in reason:
        raise Refusal(400, "bad_request", f"A reason has at most {MAX_REASON} characters.")
    return reason


def _someone(name: str) -> Person:
    known = name.isascii() and name.isalnum() and len(name) <= 40
    found = find(server(), name, now=time.time()) if known else None
    if found is None:
        raise Refusal(404, "not_found", "There is no such person.")
    return found


def _see(endpoint: str, **values: Any) -> BaseResponse:
    """Answer a form with a redirection, so that a reload sends nothing twice."""
    return redirect(url_for(f"admin.{endpoint}", **values), 303)


@route("/login", role=ANYONE)
def login() -> Any:
    """Ask for name and password."""
    with server().database.read() as connection:
        if not any_account(connection):
            raise Refusal(503, "no_account", NO_ACCOUNT)
    return render_template("admin/login.html", next=request.args.get("next", ""))


@route("/login", role=ANYONE, method="POST")
def login_check() -> Any:
    """Log in, or say no without saying why."""
    token = sign_in(server().database, request.form.get("name", "")[:200], request.form.get("password", "")[:1000])
    wanted = request.form.get("next", "")
    if token is None:
        return render_template("admin/login.html", next=wanted, refused=True), 401
    session.clear()
    session["token"] = token
    ours = wanted.startswith("/admin/") and "\\" not in wanted and wanted.isprintable()
    return redirect(wanted if ours else url_for("admin.home"), 303)


@route("/logout", role=ANYONE, method="POST")
def logout() -> Any:
    """End this browser's login."""
    if "token" in session:
        sign_out(server().database, str(session["token"]))
    session.clear()
    return _see("login")


@route("/", role="viewer")
def home() -> str:
    """Show where the study stands."""
    return render_template("admin/overview.html", view=overview(server(), _source()))


@route("/live", role="viewer")
def live() -> str:
    """Send the part of the overview that changes."""
    shared: Shared = current_app.extensions.setdefault("limen_overview", Shared())
    return render_template("admin/overview_live.html", view=shared.overview(server(), _source()))


@route("/people", role="viewer")
def people() -> str:
    """List people."""
    study = server().study
    page = roster(server(), Wish.of(request.args, study), now=time.time())
    return render_template("admin/people.html", page=page, states=STATES, ways=WAYS, sources=SOURCES, study=study)


@route("/people/<name>", role="viewer")
def person(name: str) -> str:
    """Show one person."""
    return _person_page(_someone(name))


def _person_page(found: Person, identity: Any = None) -> str:
    number = _page()
    return render_template(
        "admin/person.html",
        person=found,
        identity=identity,
        events=story(server(), found.row.session, page=number),
        number=number,
        pages=max(1, -(-found.events // EVENTS_PAGE)),
        trials=replay(server(), found),
        analysis=ANALYSIS,
        payment=PAYMENT,
    )


@route("/people/<name>/identity", role="owner", method="POST")
def identity(name: str) -> str:
    """Show a recruiter's id to an owner, once, with an audit row."""
    found = _someone(name)
    return _person_page(found, reveal(server(), who(), found.row.session))


@route("/people/<name>/replay/<int:number>", role="viewer")
def replayed_trial(name: str, number: int) -> Any:
    """Show one trial through the participants' own front-end."""
    found = _someone(name)
    trials = replay(server(), found)
    if not 1 <= number <= len(trials):
        raise Refusal(404, "not_found", "This person's schedule has no such trial.")
    shown = trials[number - 1]
    return render_template(
        "admin/replay.html",
        person=found,
        shown=shown,
        count=len(trials),
        payload=replayed(found.study, shown),
        words=shown_words(found.study),
        files=replay_files(server().config.static / "dist"),
    )


@route("/people/<name>/analysis", role="analyst", method="POST")
def decide_analysis(name: str) -> Any:
    """Take a person out of the analysis, or back into it."""
    return _decided(name, ANALYSIS)


@route("/people/<name>/payment", role="owner", method="POST")
def decide_payment(name: str) -> Any:
    """Approve, reject or add to a person's pay."""
    return _decided(name, PAYMENT)


def _decided(name: str, allowed: tuple[str, ...]) -> BaseResponse:
    found, kind = _someone(name), request.form.get("kind", "")
    if kind not in allowed:
        raise Refusal(400, "bad_request", f"This decision is one of: {', '.join(allowed)}.")
    wanted = Decision(
        session=found.row.session,
        kind=kind,
        reason=_reason(),
        author=who().name,
        amount=_amount() if kind == BONUS else None,
    )
    done = decide(server().database, found.study, wanted)
    flash(f"Noted: {kind}.")
    for caution in done.cautions:
        flash(caution, "warn")
    return _see("person", name=found.row.session, _anchor="decisions")


def _amount() -> float | None:
    given = request.form.get("amount", "").strip()
    try:
        return float(given) if given else None
    except ValueError:
        raise Refusal(400, "bad_request", "The amount is not a number.") from None


@route("/payments", role="owner")
def payments_list() -> str:
    """List what people are owed, and what was decided."""
    number, source, running = _page(), _source(), server()
    page = owed(running, source=source, page=number)
    lists = batches(running.database, running.study)
    return render_template(
        "admin/payments.html", page=page, number=number, source=source, sources=SOURCES, lists=lists[::-1]
    )


@route("/payments/list", role="owner", method="POST")
def payments_download() -> Response:
    """Send what is owed as files for the recruiter, or an earlier list again."""
    running, batch = server(), request.form.get("batch", "")
    recruiter = running.recruiter_of(running.study)

    def write(folder: Path) -> None:
        if batch:
            list_again(running.database, running.study, recruiter, folder, batch=batch)
        else:
            list_payments(running.database, running.study, recruiter, folder, author=who().name)

    return packed(f"{running.study.file.study}-payments", write)


@route("/alarms", role="viewer")
def alarms_list() -> str:
    """List refused bodies and events that cannot count."""
    number, mine = _page(), sessions.c.stimuli == server().study.key
    refused = select(alarms).join(sessions, sessions.c.session == alarms.c.session).where(mine)
    faulty = select(events).join(sessions, sessions.c.session == events.c.session).where(mine, events.c.fault != "")
    with server().database.read() as connection:
        total = connection.execute(select(func.count()).select_from(refused.subquery())).scalar_one()
        lines = connection.execute(refused.order_by(alarms.c.id.desc()).limit(LINES).offset((number - 1) * LINES)).all()
        faults = connection.execute(faulty.order_by(events.c.server_time.desc()).limit(LINES)).all()
    pages = max(1, -(-total // LINES))
    return render_template(
        "admin/alarms.html", lines=lines, faults=faults, number=number, pages=pages, total=total, limit=LINES
    )


@route("/alarms/<int:number>", role="owner", method="POST")
def alarm(number: int) -> str:
    """Show both bodies of a conflict to an owner."""
    found = alarm_bodies(server(), who(), number)
    if found is None:
        raise Refusal(404, "not_found", "There is no such alarm.")
    return render_template("admin/alarm.html", alarm=found[0], held=found[1])


@route("/study", role="viewer")
def study() -> str:
    """Show the frozen version: texts, checks, hashes, previews; pause and resume."""
    running = server()
    with running.database.read() as connection:
        row = connection.execute(select(studies).where(studies.c.stimuli == running.study.key)).one_or_none()
    return render_template("admin/study.html", study=running.study, row=row, key=running.config.preview_key)


@route("/study/pause", role="owner", method="POST")
def study_pause() -> Any:
    """Stop or go on admitting newcomers, if the form was confirmed."""
    if request.form.get("sure") != "yes":
        raise Refusal(400, "bad_request", "Tick the box to confirm; nothing was changed.")
    paused = request.form.get("do") == "pause"
    set_pause(server(), who(), paused=paused, reason=_reason())
    flash("Paused: newcomers are turned away." if paused else "Open again: newcomers are let in.")
    return _see("study")


@route("/export", role="analyst", method="POST")
def export_download() -> Response:
    """Send the export as one ZIP file."""
    chosen = [source for source in SOURCES if request.form.get(source)]
    return zipped(server(), who(), sources=chosen or ["live"])


@route("/audit", role="owner")
def audit_log() -> str:
    """Show who did what."""
    number = _page()
    with server().database.read() as connection:
        total = connection.execute(select(func.count()).select_from(audit)).scalar_one()
        query = select(audit).order_by(audit.c.id.desc()).limit(LINES).offset((number - 1) * LINES)
        lines = connection.execute(query).all()
    pages = max(1, -(-total // LINES))
    return render_template("admin/audit.html", lines=lines, number=number, pages=pages, total=total)
