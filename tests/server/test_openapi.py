"""The OpenAPI document says what the server does: every route, every field of every answer, every refusal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import jsonschema_rs
import pytest
from click.testing import CliRunner

from psychophysics_server.cli import study as commands
from psychophysics_server.web.openapi import OPERATIONS, document, is_page
from psychophysics_server.wire import requests as wire
from psychophysics_server.wire.answers import State

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def described(running):
    return running.app.test_client().get("/openapi.json").json


def resolve(schema, described):
    """Follow one reference."""
    if "$ref" in schema:
        return described["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def validator(content, described):
    """Compile the JSON schema of an answer."""
    whole = {"$defs": described["components"]["schemas"], **content["application/json"]["schema"]}
    text = json.dumps(whole).replace("#/components/schemas/", "#/$defs/")
    return jsonschema_rs.Draft202012Validator(json.loads(text))


def operation(described, method, path):
    return described["paths"][path][method.lower()]


def test_every_route_is_described_or_is_a_page(running):
    endpoints = {rule.endpoint for rule in running.app.url_map.iter_rules()}
    undescribed = {name for name in endpoints - set(OPERATIONS) if not is_page(name)}
    assert undescribed == set(), "describe them in psychophysics_server/web/openapi.py"


def test_every_description_is_of_a_route(running):
    endpoints = {rule.endpoint for rule in running.app.url_map.iter_rules()}
    assert set(OPERATIONS) <= endpoints
    assert not [name for name in OPERATIONS if is_page(name)]


def test_every_reference_leads_somewhere(described):
    references = re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(described))
    assert references
    assert set(references) <= set(described["components"]["schemas"])


def test_each_schema_of_the_document_is_valid(described):
    assert described["openapi"] == "3.1.0"
    for name in described["components"]["schemas"]:
        validator({"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}, described)


def test_the_limits_of_the_document_are_those_that_are_checked(described):
    event = resolve({"$ref": "#/components/schemas/Event"}, described)["properties"]
    batch = resolve({"$ref": "#/components/schemas/EventsRequest"}, described)["properties"]["events"]
    assert event["seq"] == {**event["seq"], "minimum": 1, "maximum": wire.MAX_SEQ}
    assert event["body"]["maxLength"] == wire.MAX_BODY
    assert batch["maxItems"] == wire.MAX_BATCH


def test_an_answer_of_each_route_has_the_fields_that_the_document_names(running, described):
    person = running.person().take()
    calls = [
        ("GET", "/api/session", None),
        ("POST", "/api/events", {"events": [person.event("debrief", {})]}),
        ("POST", "/api/complete", {"last_seq": person.next_seq - 1, "chain": person.chain}),
        ("POST", "/api/manual", {"reason": "no network"}),
        ("GET", "/api/session", None),
        ("POST", "/api/withdraw", {"reason": "changed my mind"}),
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
    ]
    checked = [(person.opened.status_code, person.opened.json, "POST", "/api/sessions")]
    for method, path, body in calls:
        answer = person.call(method, path, json=body) if body is not None else person.call(method, path)
        checked.append((answer.status_code, answer.json, method, path))
    for status, body, method, path in checked:
        content = operation(described, method, path)["responses"][str(status)]["content"]
        faults = [f"{list(e.instance_path)}: {e.message}" for e in validator(content, described).iter_errors(body)]
        assert faults == [], f"{method} {path} {status}"


def test_a_refusal_names_a_slug_that_the_document_names(running, described):
    one, stranger = running.person("one"), running.person("two")
    stranger.token = "nobody's"
    gone = running.person("three")
    gone.call("POST", "/api/withdraw", json={})
    for person in (one, stranger, gone):
        for path in ("/api/events", "/api/complete", "/api/manual"):
            answer = person.call("POST", path, json={"nonsense": 1})
            schema = operation(described, "POST", path)["responses"][str(answer.status_code)]
            assert (
                answer.json["error"] in schema["content"]["application/json"]["schema"]["properties"]["error"]["enum"]
            )


def test_the_routes_that_need_a_token_say_so_and_no_others(running, described):
    for path, methods in described["paths"].items():
        for method, told in methods.items():
            if path.startswith("/stimuli/"):
                continue
            answer = running.app.test_client().open(path, method=method.upper(), json={})
            assert ("security" in told) == (answer.status_code == 401), f"{method} {path}"


def test_the_command_prints_what_the_server_gives(running, described):
    printed = CliRunner().invoke(commands, ["openapi"])
    assert printed.exit_code == 0, printed.output
    assert json.loads(printed.output) == described == json.loads(json.dumps(document(running.app)))


def test_every_route_is_told_of_in_the_documents(running):
    told = (DOCS / "wire.md").read_text() + (DOCS / "serving.md").read_text()
    rules = [
        r for r in running.app.url_map.iter_rules() if r.endpoint in OPERATIONS or not r.endpoint.startswith("admin.")
    ]
    addresses = {re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", rule.rule) for rule in rules} | {"/admin/"}
    plain = addresses - {"/", "/static/<filename>"}
    missing = {a for a in plain if a not in told and a.replace("<name>", "<sha256>") not in told}
    assert missing == set()


def test_every_kind_of_event_and_every_state_is_told_of_in_the_wire_document():
    told = (DOCS / "wire.md").read_text()
    for name in (*get_args(wire.Kind), *get_args(State)):
        assert f"`{name}`" in told, name


def test_every_slug_of_a_refusal_is_told_of_in_the_documents():
    told = (DOCS / "wire.md").read_text() + (DOCS / "serving.md").read_text()
    slugs = {slug for operation in OPERATIONS.values() for slugs in operation.errors.values() for slug in slugs}
    assert {slug for slug in slugs if f"`{slug}`" not in told} == set()
