"""What each column of an export means, read from the records themselves, so that it cannot drift."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ..records import EXPORT_SCHEMA
from ..study.factors import Factor

TYPES = {"str": "text", "int": "whole number", "float": "number (empty if undefined)", "bool": "True or False"}
FACTOR_TYPES = {"text": "str", "number": "float", "bool": "bool"}


@dataclass(frozen=True)
class Column:
    """One column of an export file."""

    name: str
    type: str
    meaning: str
    kind: str = "str"
    """str, int, float, bool or category: what the tables are typed with."""


@dataclass(frozen=True)
class FileKind:
    """One kind of file of an export: its name after `description-`, what it holds, its columns."""

    part: str
    """'' for the main file."""
    heading: str
    columns: tuple[Column, ...]

    @property
    def types(self) -> dict[str, str]:
        """Column -> kind, in order."""
        return {column.name: column.kind for column in self.columns}


@cache
def describe(record: type) -> list[Column]:
    """Read the columns of a record class: name, type, and the text that follows it in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: list[Column] = []
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kind = ast.unparse(node.annotation)
            found.append(Column(node.target.id, TYPES[kind], "", kind))
        elif found and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            last = found[-1]
            found[-1] = Column(last.name, last.type, inspect.cleandoc(str(node.value.value)), last.kind)
    return found


def factor_columns(factors: Sequence[Factor]) -> tuple[Column, ...]:
    """Describe the design's factors as columns; true/false with gaps is text, since a gap is neither."""
    found = []
    for factor in factors:
        kind = FACTOR_TYPES[factor.type] if factor.whole or factor.type != "bool" else "str"
        found.append(Column(factor.name, TYPES[kind], factor.meaning, kind))
    return tuple(found)


def codebook(title: str, checks: dict[str, float], kinds: Sequence[FileKind]) -> str:
    """Write the codebook of an export as Markdown.

    Parameters
    ----------
    title
        Of the study.
    checks
        Declared rule -> threshold.
    kinds
        The files there are.
    """
    lines = [
        f"# Codebook: {title}",
        "",
        f"Export schema {EXPORT_SCHEMA}. An empty field is a missing or undefined value.",
        "Rows belong together by `participant_id`, and by `row_id` of an answer (`response_id` elsewhere).",
        "",
    ]
    for kind in kinds:
        name = f"_description-{kind.part}_data.csv" if kind.part else "_data.csv"
        lines += [f"## {kind.heading}: `{name}`", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type} | {one_line(c.meaning).replace('|', '/')} |" for c in kind.columns]
        lines.append("")
    lines += ["## Rules that exclude a person from the analysis", ""]
    lines += [f"- `{name}`: {value:g}" for name, value in checks.items()] or ["None were declared."]
    lines += ["", "`unfinished` marks people who never got the completion code, `researcher` a decision by hand."]
    return "\n".join([*lines, "Exclusion never touches payment.", ""])


def one_line(text: str) -> str:
    """Join a text's lines."""
    return " ".join(text.split())
