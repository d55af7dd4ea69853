"""The OpenAPI 3.1 document: every route that takes or gives JSON, with the models that check it and the errors it gives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from flask import Blueprint, Flask, Response, current_app, jsonify
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from ..wire import answers
from ..wire import requests as wire
from . import oracle_routes, score_routes

documentation = Blueprint("documentation", __name__)
REFERENCE = "#/components/schemas/{model}"
Security = Literal["none", "participant", "researcher"]
BODY = {400: ("bad_request",), 413: ("too_large",)}
"""What any route that reads a body may say."""
RESEARCHER = {401: ("token",), 403: ("role",)}
"""What any address for scripts may say."""
TOKEN = {401: ("token",), 410: ("withdrawn",), 503: ("busy",)}
"""What any route of a session may say."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One route, as a reader of the document sees it.

    Attributes
    ----------
    summary : one sentence
    takes : the model of the request's body, or None
    gives : status -> model of the answer, or a media type where it is not JSON
    errors : status -> slugs; the body is `{"error": slug, "message": sentence}`
    security : which token the header `Authorization` needs
    """

    summary: str
    gives: Mapping[int, type[BaseModel] | str]
    takes: type[BaseModel] | None = None
    errors: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    security: Security = "none"


OPERATIONS: dict[str, Operation] = {
    "participant.picture": Operation(
        summary="A picture by the SHA-256 of its bytes; immutable.",
        gives={200: "image/png"},
        errors={404: ("not_found",)},
    ),
    "participant.sessions_open": Operation(
        summary="Claim a place in the study, or open the session that this person holds already.",
        takes=wire.OpenRequest,
        gives={201: answers.OpenedAnswer, 200: answers.OpenedAnswer},
        errors=BODY
        | {
            400: ("bad_request", "identity"),
            403: ("full", "paused", "preview", "took_part"),
            404: ("not_found",),
            410: ("withdrawn",),
            503: ("busy", "disk"),
        },
    ),
    "participant.session_view": Operation(
        summary="Read everything a browser needs to go on.",
        gives={200: answers.SessionAnswer},
        errors=TOKEN,
        security="participant",
    ),
    "participant.events_append": Operation(
        summary="Store a batch of events; acknowledged after the commit, each stored once.",
        takes=wire.EventsRequest,
        gives={200: answers.EventsAnswer, 409: answers.ConflictAnswer},
        errors=TOKEN | BODY,
        security="participant",
    ),
    "participant.session_complete": Operation(
        summary="Release the completion code if every event and every trial is held.",
        takes=wire.CompleteRequest,
        gives={200: answers.CompleteAnswer, 409: answers.UnfinishedAnswer},
        errors=TOKEN | BODY,
        security="participant",
    ),
    "participant.session_manual": Operation(
        summary="Give the code that a person reviews, so that nobody goes unpaid.",
        takes=wire.ReasonRequest,
        gives={200: answers.ManualAnswer},
        errors=TOKEN | BODY,
        security="participant",
    ),
    "participant.session_outcome": Operation(
        summary="Give the code of a session that ended without its trials, and say why it ended.",
        takes=wire.NoRequest,
        gives={200: answers.OutcomeAnswer},
        errors=TOKEN | BODY,
        security="participant",
    ),
    "participant.session_unsuitable": Operation(
        summary="End a session whose screen is not what the study needs; the place is open again.",
        takes=wire.NoRequest,
        gives={200: answers.OutcomeAnswer},
        errors=TOKEN | BODY,
        security="participant",
    ),
    "participant.session_withdraw": Operation(
        summary="Delete this person's answers.",
        takes=wire.ReasonRequest,
        gives={200: answers.WithdrawnAnswer},
        errors={status: slugs for status, slugs in (TOKEN | BODY).items() if status != 410},
        security="participant",
    ),
    "oracle.ask": Operation(
        summary="Ask the network what it recognises in what a player has uncovered.",
        takes=oracle_routes.OracleRequest,
        gives={200: oracle_routes.OracleReply},
        errors=TOKEN | BODY | {404: ("not_found",), 503: ("busy", "oracle")},
        security="participant",
    ),
    "own_score.show": Operation(
        summary="Tell a person's own score, on the screen that declares it, once every answer before it is held.",
        takes=score_routes.ScoreRequest,
        gives={200: score_routes.ScoreReply},
        errors=TOKEN | BODY | {404: ("not_found",), 409: ("early", "over")},
        security="participant",
    ),
    "admin.api_standing": Operation(
        summary="Count people per source and cell.",
        gives={200: answers.StandingAnswer},
        errors=RESEARCHER,
        security="researcher",
    ),
    "admin.api_export": Operation(
        summary="The export as one ZIP file; `source` chooses live, pilot, preview or bot and may be repeated.",
        gives={200: "application/zip"},
        errors=RESEARCHER | {400: ("bad_request",), 503: ("busy",)},
        security="researcher",
    ),
    "recruit.webhook": Operation(
        summary="Take a recruiter's signed message about a submission; the same message again changes nothing.",
        gives={200: answers.WebhookAnswer},
        errors={401: ("signature",), 404: ("not_found",), 413: ("too_large",), 503: ("busy",)},
    ),
    "operations.healthz": Operation(summary="Whether the process lives.", gives={200: answers.AliveAnswer}),
    "operations.readyz": Operation(
        summary="Whether a write goes through and newcomers may enter.",
        gives={200: answers.ReadyAnswer, 503: answers.UnreadyAnswer},
    ),
    "operations.metrics": Operation(
        summary="Metrics for Prometheus; for this machine, or for whoever holds the token.",
        gives={200: "text/plain"},
        errors={403: ("metrics",), 404: ("not_found",)},
    ),
    "documentation.openapi": Operation(summary="This document.", gives={200: "application/json"}),
}
"""Endpoint -> what its route takes, gives and refuses."""
PAGES = frozenset({"static", "participant.root", "participant.page", "participant.erasure.form"})


def is_page(endpoint: str) -> bool:
    """Whether an endpoint is for eyes: it takes no JSON, and gives none but the errors of an unknown address."""
    return endpoint in PAGES or (endpoint.startswith("admin.") and not endpoint.startswith("admin.api_"))


@documentation.get("/openapi.json")
def openapi() -> Response:
    """Describe every JSON route of this server."""
    return jsonify(document(current_app))


def document(app: Flask) -> dict[str, Any]:
    """Describe every JSON route of an application as an OpenAPI 3.1 document.

    References
    ----------
    OpenAPI Specification 3.1.0, https://spec.openapis.org/oas/v3.1.0
    """
    routes = list(described(app))
    modes = [(model, "validation") for model in _models(operation for _, operation in routes)]
    references, schemas = models_json_schema(modes, ref_template=REFERENCE)  # type: ignore[arg-type]
    paths: dict[str, dict[str, Any]] = {}
    for rule, operation in routes:
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(_path(rule), {})[method.lower()] = _operation(rule, operation, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "limen study server", "version": _version(), "license": {"name": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {
                "participant": {"type": "http", "scheme": "bearer", "description": "given by POST /api/sessions"},
                "researcher": {"type": "http", "scheme": "bearer", "description": "made by limen study token add"},
            },
        },
    }


def described(app: Flask) -> Iterator[tuple[Rule, Operation]]:
    """Yield the rules of an application that have an entry in `OPERATIONS`, in the order of their addresses."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: (rule.rule, sorted(rule.methods or ()))):
        if rule.endpoint in OPERATIONS:
            yield rule, OPERATIONS[rule.endpoint]


def _models(operations: Iterable[Operation]) -> list[type[BaseModel]]:
    found: dict[type[BaseModel], None] = {}
    for operation in operations:
        given = [model for model in operation.gives.values() if not isinstance(model, str)]
        found |= dict.fromkeys([*([operation.takes] if operation.takes else []), *given])
    return list(found)


def _path(rule: Rule) -> str:
    """Turn `/stimuli/<name>.png` into `/stimuli/{name}.png`."""
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)


def _operation(rule: Rule, operation: Operation, references: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": operation.summary,
        "responses": {str(status): answer for status, answer in sorted(_answers(operation, references).items())},
    }
    if rule.arguments:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in sorted(rule.arguments)
        ]
    if operation.takes is not None:
        schema = references[operation.takes, "validation"]
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if operation.security != "none":
        described["security"] = [{operation.security: []}]
    return described


def _answers(operation: Operation, references: Mapping[Any, Any]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for status, slugs in operation.errors.items():
        content = {"application/json": {"schema": _error(slugs)}}
        found[status] = {"description": f"refused: {', '.join(slugs)}", "content": content}
        if status == 503:
            found[status]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
    for status, given in operation.gives.items():
        content = (
            {given: {}} if isinstance(given, str) else {"application/json": {"schema": references[given, "validation"]}}
        )
        says = operation.summary if isinstance(given, str) else (given.__doc__ or "").strip().splitlines()[0]
        found[status] = {"description": says, "content": content}
    return found


BACK = {"code": {"type": "string"}, "url": {"type": ["string", "null"]}}
"""How someone for whom there is no place gets back to the recruiter."""


def _error(slugs: tuple[str, ...]) -> dict[str, Any]:
    said = {"error": {"enum": list(slugs)}, "message": {"type": "string", "minLength": 1}}
    return {
        "type": "object",
        "properties": said | (BACK if "full" in slugs else {}),
        "required": ["error", "message"],
        "additionalProperties": False,
    }


@cache
def _version() -> str:
    try:
        return version("limen")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "0"
