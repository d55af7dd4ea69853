"""Thousands of hostile requests against one application, and what must hold after each of them.

As a script: `python tests/server/fuzz_server.py 20000 --seed 3` sends so many and says what came back.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import select

from psychophysics_server.admin.accounts import add_account
from psychophysics_server.sessions.session import token_hash
from psychophysics_server.storage.tables import metadata

LEAKS = ("Traceback", "sqlalchemy", "sqlite", "psycopg", "/psychophysics_server/", "site-packages")
"""What no answer may hold: the inside of the server."""
HUGE = 10**400
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, HUGE, -HUGE, 50_000, 50_001]),
    st.integers(-5, 70),
    st.sampled_from([0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), float("-inf")]),
    st.text(st.characters(), max_size=12),
    st.sampled_from(
        ["", "undefined", "null", "\0", "\ud800", "\udfff\ud800", "\u202e", "../../etc/passwd", "%00", "x" * 2001]
    ),
    st.sampled_from(
        ["'; DROP TABLE events; --", "<script>alert(1)</script>", "{{7*7}}", "${jndi:x}", "\r\nX: y", "Bearer "]
    ),
)
NAMES = [
    "events",
    "seq",
    "kind",
    "time",
    "body",
    "trial_id",
    "response",
    "attempt",
    "rt_ms",
    "onset_ms",
    "dropped_frames",
]
NAMES += [
    "study",
    "client_id",
    "parameters",
    "source",
    "preview",
    "cell",
    "PROLIFIC_PID",
    "last_seq",
    "chain",
    "reason",
]
NAMES += [
    "accepted",
    "what",
    "failures",
    "viewed_ms",
    "confidence",
    "text",
    "strokes",
    "answers",
    "window",
    "pixel_ratio",
]
KEYS = st.one_of(st.sampled_from(NAMES), st.text(max_size=5))
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
TYPES = [
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "",
    "a/b; charset=utf-16",
]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "GETT"]


@dataclass
class Watch:
    """The rows of every table, to see what a request changed."""

    running: Any

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Read every table; `meta` holds the heart-beat of /readyz and is left out."""
        with self.running.database.read() as connection:
            return {
                table.name: [dict(row._mapping) for row in connection.execute(select(table))]
                for table in metadata.sorted_tables
                if table.name != "meta"
            }

    @staticmethod
    def without(rows: dict[str, list[dict[str, Any]]], sessions: set[str]) -> dict[str, list[str]]:
        """Leave out the rows of some sessions; what remains is in an order of its own."""
        return {
            name: sorted(repr(row) for row in held if row.get("session", "") not in sessions)
            for name, held in rows.items()
        }


@dataclass
class Attack:
    """One attacker with a session of their own, many victims, and the count of what was answered.

    Attributes
    ----------
    attacker : a person (tests/server/conftest.py) whose token the requests may carry
    arrive : opens another session for the attacker, once the first is over
    secrets : texts of others that no answer may hold
    """

    running: Any
    attacker: Any
    arrive: Callable[[], Any]
    secrets: tuple[str, ...] = ()
    answered: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.watch = Watch(self.running)
        self.before = self.watch.rows()

    def send(self, method: str, path: str, **more: Any) -> Any:
        """Send one request through the application and check everything that must hold."""
        answer = self.running.app.test_client().open(path, method=method, **more)
        self.judge(answer, f"{method} {path}")
        return answer

    def judge(self, answer: Any, what: str) -> None:
        """Check the answer itself, and what the request left in the data base."""
        self.answered[answer.status_code] += 1
        limited = answer.status_code == 503 and answer.json["error"] == "busy"
        assert answer.status_code < 500 or limited, f"{what}: {answer.status_code} {answer.text[:300]}"
        for leak in (*LEAKS, *self.secrets):
            assert leak not in answer.text, f"{what}: the answer holds {leak}"
        refused = answer.status_code >= 400
        if refused and answer.is_json and answer.text:
            assert set(answer.json) >= {"error", "message"}, f"{what}: {answer.text[:300]}"
        after = self.watch.rows()
        conflict = answer.status_code == 409 and answer.json["error"] == "conflict"
        if refused and not conflict:
            assert after == self.before, f"{what}: refused with {answer.status_code}, and yet it left a trace"
        else:
            known = {row["session"] for row in self.before["sessions"]}
            own = ({row["session"] for row in after["sessions"]} - known) | {self.attacker.session}
            told = answer.json if answer.is_json and answer.text else None
            if isinstance(told, dict):  # a session opened again by the id that an earlier request made up
                own.add(told.get("session", ""))
            left, were = Watch.without(after, own), Watch.without(self.before, own)
            if not self.before["studies"]:
                left["studies"] = were["studies"]
            assert left == were, f"{what}: answered {answer.status_code}, and touched what is another's"
        self.before = after
        if self.attacker.get().status_code != 200:
            self.attacker = self.arrive()
            self.before = self.watch.rows()

    def headers(self) -> st.SearchStrategy[dict[str, str]]:
        """Draw headers: often the attacker's own token, else forged ones, and tricks."""
        token = st.sampled_from(
            ["own", "own", "own", "none", "basic", "half", "spaces", "latin", "long", "hash", "twice"]
        )
        tricks = {
            "X-HTTP-Method-Override": st.sampled_from(["DELETE", "POST", "GET"]),
            "Content-Encoding": st.sampled_from(["gzip", "deflate", "br", "identity"]),
            "Host": st.sampled_from(["evil.example", "a b", "[::1", "", "x" * 3000, "localhost:99999999"]),
            "X-Forwarded-Host": st.just("evil.example"),
            "X-Forwarded-For": st.just("203.0.113.9"),
            "X-Original-URL": st.just("/admin/"),
            "Cookie": st.sampled_from(["limen_admin=x", "session=eyJhIjoxfQ.x.y", "a" * 5000, ";;;="]),
            "Range": st.sampled_from(["bytes=0-0", "bytes=-1", "bytes=9-1", "bytes=" + ",".join(["0-1"] * 300)]),
            "If-None-Match": st.sampled_from(["*", 'W/"x"', "x" * 2000]),
            "Accept": st.sampled_from(["text/html", "*/*;q=x", ""]),
            "Content-Type": st.sampled_from(TYPES),
        }
        return st.tuples(token, st.fixed_dictionaries({}, optional=tricks)).map(lambda pair: self._headers(*pair))

    def _headers(self, kind: str, more: dict[str, str]) -> dict[str, str]:
        token = self.attacker.token
        forged = {
            "own": f"Bearer {token}",
            "basic": f"Basic {token}",
            "half": f"Bearer {token[:-1]}",
            "spaces": f"Bearer   {token} ",
            "latin": "Bearer \xff\xfe",
            "long": "Bearer " + "0" * 7000,
            "hash": f"Bearer {token_hash(token)}",
            "twice": f"Bearer {token}, Bearer {token}",
        }
        return ({"Authorization": forged[kind]} if kind in forged else {}) | more

    def bodies(self) -> st.SearchStrategy[bytes]:
        """Draw bodies: noise, JSON of any shape, and right requests with one thing wrong."""
        sizes = [b"[" * 90_000, b'{"a":' * 30_000, b"1" * 5000, gzip.compress(b"0" * 2_000_000)]
        wrong = [b"", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b"NaN", b"{}{}"]
        wrong += [b'{"reason": "\xed\xa0\x80"}', b'{"last_seq": 1e400, "chain": ""}']
        noise = st.binary(max_size=80) | st.sampled_from(sizes + wrong)
        shaped = VALUES.map(encoded) | st.dictionaries(KEYS, VALUES, max_size=4).map(encoded)
        return st.one_of(noise, shaped, self.nearly_right())

    def nearly_right(self) -> st.SearchStrategy[bytes]:
        """Draw requests of the right shape in which any part may be replaced."""
        event = {"seq": 1, "kind": "trial", "time": 1.0, "body": '{"trial_id": "t0", "response": "cat"}'}
        opened = {
            "study": self.running.study.file.study,
            "client_id": "attacker-1",
            "parameters": {"PROLIFIC_PID": "evil"},
        }
        templates = [
            {"events": [event]},
            {"events": [event, event | {"kind": "consent", "body": '{"accepted": true}'}]},
            {"last_seq": 3, "chain": "0" * 64},
            {"reason": "because"},
            opened | {"source": "bot"},
        ]

        def spoil(choice: tuple[dict[str, Any], int, Any]) -> bytes:
            template, place, value = choice
            whole = json.loads(json.dumps(template))
            spots = list(_places(whole))
            holder, key = spots[place % len(spots)]
            holder[key] = value
            return encoded(whole)

        bodies = st.dictionaries(KEYS, VALUES, max_size=3).map(lambda value: json.dumps(value))
        return st.tuples(st.sampled_from(templates), st.integers(0, 40), VALUES | bodies).map(spoil)

    def paths(self) -> st.SearchStrategy[str]:
        """Draw addresses: every route there is with hostile parts, and addresses there are not."""
        rules = sorted({rule.rule for rule in self.running.app.url_map.iter_rules()})
        parts = [
            "..%2f..%2fetc%2fpasswd",
            "%00",
            "%ff",
            "0" * 64,
            "x" * 3000,
            "%2e%2e",
            "a'b",
            "%E2%80%AE",
            ".",
            "null",
            "-1",
        ]

        def fill(choice: tuple[str, str, str]) -> str:
            rule, part, query = choice
            while "<" in rule:
                before, _, rest = rule.partition("<")
                rule = before + part + rest.partition(">")[2]
            return rule + query

        queries = st.sampled_from(
            ["", "", "", "?", "?a=1&a=2", "?PROLIFIC_PID=%00", "?preview=x&cell=y", "?" + "a=b&" * 500]
        )
        known = st.tuples(st.sampled_from(rules), st.sampled_from(parts), queries).map(fill)
        api = st.sampled_from([rule for rule in rules if rule.startswith("/api/")])
        lost = [
            "//evil.example/",
            "/api",
            "/api/../healthz",
            "/.git/config",
            "/static/../app.py",
            "/API/session",
            "/api/session/",
        ]
        return st.one_of(api, known, st.sampled_from(lost))


def encoded(value: Any) -> bytes:
    """Write JSON as a hostile client would: NaN, huge numbers and lone surrogates included."""
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _places(value[key])


def bombard(attack: Attack, n: int, seed: int) -> None:
    """Send `n` hostile requests drawn from a seed."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    @seeded(seed)
    @settings(
        max_examples=n, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(METHODS + ["POST"] * 12 + ["GET"] * 3), attack.paths(), attack.headers(), attack.bodies())
    def one(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        attack.send(method, path, headers=headers, data=body)

    one()


def by_the_document(attack: Attack, n: int, seed: int) -> None:
    """Send `n` requests to each operation of the OpenAPI document, right and wrong ones, and check the answers by it."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis.errors import Unsatisfiable
    from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

    # A body that fits its schema may still be refused (another study's name, 3.0 where an integer is wanted), and the
    # attacker's own token is real whatever else the generator draws; tests/server/test_hostile.py has both as tests.
    leave = [positive_data_acceptance, ignored_auth]
    refusals = {"expected-statuses": [400, 401, 403, 404, 405, 413]}
    config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": refusals}})
    document = schemathesis.openapi.from_wsgi("/openapi.json", attack.running.app, config=config)
    for found in document.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @seeded(seed)
            @settings(
                max_examples=n,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(operation.as_strategy(generation_mode=mode))
            def one(case: Any) -> None:
                answer = case.call(headers={"Authorization": f"Bearer {attack.attacker.token}"})
                # The limit of requests answers before it looks at what was asked.
                limited = answer.status_code == 503 and answer.json().get("error") == "busy"
                if not limited:
                    case.validate_response(answer, excluded_checks=leave)
                attack.judge(_Plain(answer), case.operation.label)

            try:
                one()
            except Unsatisfiable:  # nothing can be wrong in a request that takes nothing
                assert (mode.name, len(operation.body)) == ("NEGATIVE", 0), operation.label


class _Plain:
    """A response of schemathesis with the names of one of werkzeug's."""

    def __init__(self, answer: Any) -> None:
        self.status_code = answer.status_code
        self.text = answer.content.decode("utf-8", "replace")
        self.is_json = "json" in "".join(answer.headers.get("content-type", []))

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def attack_on(launch: Callable[..., Any], study: Any) -> Attack:
    """Start an application with two victims, one at it and one done, and an attacker who comes as a bot."""
    running = launch(study)
    add_account(running.database, "owner", role="owner", password="four words and a comma,")
    active, done = running.person("5f00000000000000000000a1"), running.person("5f00000000000000000000a2")
    active.consent()
    done.take().complete()
    numbers = iter(range(1_000_000))

    def arrive() -> Any:
        return running.person(f"attacker-{next(numbers)}", source="bot")

    attacker = arrive()
    attacker.consent()
    secrets = (active.token, done.token, active.session, done.session, "5f00000000000000000000a1")
    return Attack(running, attacker, arrive, secrets)


def main() -> None:
    """Bombard an application of its own, as often as the command line says."""
    import argparse
    import tempfile
    from pathlib import Path

    import conftest as ground

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    answered: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        study = ground.build_tiny(Path(folder) / "store")
        for part in range(max(1, given.n // 1000)):
            path = Path(folder) / f"{part}.sqlite"
            attack = attack_on(lambda study, path=path: ground.start(study, path), study)
            if part % 5 == 0:  # costs most of the time
                by_the_document(attack, 12, given.seed + part)
            left = 1000 - sum(attack.answered.values())
            bombard(attack, max(left, 1), given.seed + part)
            answered += attack.answered
            attack.running.app.extensions["limen"].close()
    told = ", ".join(f"{status}: {count}" for status, count in sorted(answered.items()))
    print(f"{sum(answered.values())} requests, no fault; answered {told}")


if __name__ == "__main__":
    main()
