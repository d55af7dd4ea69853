"""What each column of an export means, read from the records themselves, so that it cannot drift."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass

from .records import EXPORT_SCHEMA, ResponseRow, SessionRow

TYPES = {"str": "text", "int": "whole number", "float": "number (empty if undefined)", "bool": "True or False"}


@dataclass(frozen=True)
class Column:
    """One column of an export file."""

    name: str
    type: str
    meaning: str


def describe(record: type) -> list[Column]:
    """Read the columns of a record class: name, type, and the text that follows it in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: list[Column] = []
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(Column(node.target.id, TYPES[ast.unparse(node.annotation)], ""))
        elif found and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[-1] = Column(found[-1].name, found[-1].type, inspect.cleandoc(str(node.value.value)))
    return found


def codebook(title: str, checks: dict[str, float]) -> str:
    """Write the codebook of an export as Markdown.

    Parameters
    ----------
    title
        Of the study.
    checks
        Declared rule -> threshold.
    """
    lines = [
        f"# Codebook: {title}",
        "",
        f"Export schema {EXPORT_SCHEMA}. An empty field is a missing or undefined value.",
        "",
    ]
    sections = (
        ("Responses: `_data.csv`, and `_description-excluded_data.csv` for excluded people", ResponseRow),
        ("People: `_description-sessions_data.csv`", SessionRow),
    )
    for heading, record in sections:
        lines += [f"## {heading}", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [
            f"| `{c.name}` | {c.type} | {' '.join(c.meaning.split()).replace('|', '/')} |" for c in describe(record)
        ]
        lines.append("")
    lines += ["## Rules that exclude a person from the analysis", ""]
    lines += [f"- `{name}`: {value:g}" for name, value in checks.items()] or ["None were declared."]
    lines += ["", "`unfinished` marks people who never got the completion code. Exclusion never touches payment.", ""]
    return "\n".join(lines)
