"""Logs: one line an event, as text or JSON, scrubbed of tokens, secrets and whoever came."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any, Literal

Form = Literal["text", "json"]
FIELDS = ("request", "study", "session", "method", "route", "status", "ms")
"""What a record about a request may say beside its message; `session` is the pseudonym."""
_SCRUBBED = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',]+"), r"\1 [secret]"),
    (re.compile(r"://[^\s/@:]*:[^\s/@]*@"), "://[secret]@"),
    (re.compile(r"\?[^\s\"'<>]*=[^\s\"'<>]*"), "?[query]"),
    (re.compile(r"\)=\([^)]*\)"), ")=([values])"),
    (re.compile(r"(?i)\b(token|secret|password|passwd|code|key)=[^\s&\"',]+"), r"\1=[secret]"),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"), "[address]"),
    (re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])"), "[token]"),
    (re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{24}(?![0-9A-Fa-f])"), "[id]"),
)


def scrub(text: str) -> str:
    """Take out what looks like a token, a password, a query string, an e-mail address or a recruiter's id."""
    for pattern, instead in _SCRUBBED:
        text = pattern.sub(instead, text)
    return text


def _moment(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """A line a person reads."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level, message, and a traceback if there is one."""
        known = " ".join(
            f"{name}={getattr(record, name)}" for name in FIELDS if getattr(record, name, None) is not None
        )
        line = f"{_moment(record)} {record.levelname} {record.getMessage()}{f' ({known})' if known else ''}"
        return scrub(line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""))


class JsonFormatter(logging.Formatter):
    """A line a machine reads: one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Write time, level, logger, message, what is known of the request, and a traceback if there is one."""
        facts: dict[str, Any] = {
            "time": _moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": scrub(record.getMessage()),
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                facts[name] = scrub(value) if isinstance(value, str) else value
        if record.exc_info:
            facts["exception"] = scrub(self.formatException(record.exc_info))
        return json.dumps(facts, ensure_ascii=False)


def configuration(form: Form) -> dict[str, Any]:
    """Return a `logging.config` dictionary: everything to standard error in one form.

    In JSON every request is a line; as text only what needs a person's eye.
    """
    kind = {"text": TextFormatter, "json": JsonFormatter}[form]
    quiet: dict[str, Any] = {"level": "WARNING", "handlers": ["limen"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"limen": {"()": kind}},
        "handlers": {"limen": {"class": "logging.StreamHandler", "formatter": "limen", "stream": "ext://sys.stderr"}},
        "root": {"level": "WARNING", "handlers": ["limen"]},
        "loggers": {
            "gunicorn.error": quiet,
            "gunicorn.access": {**quiet, "handlers": []},
            "psychophysics_server": {**quiet, "level": "INFO" if form == "json" else "WARNING"},
        },
    }
