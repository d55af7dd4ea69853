"""The formula of a mixed model: `y ~ fixed + (1 + x | group) + (1 | a:b) + (x || group)`, read and turned into designs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import formulaic
import numpy as np
import pandas as pd
from formulaic.errors import FormulaicError

from bench.registry import LimenError, unknown

from .terms import RandomTerm

_SEPARATOR = "\x1f"
_WORDS = ("True", "False", "None")


@dataclass(frozen=True)
class RandomPart:
    """One `(effects | group)` of a formula; `correlated` is False for `||`."""

    effects: str
    group: str
    correlated: bool

    def __str__(self) -> str:
        return f"({self.effects} {'|' if self.correlated else '||'} {self.group})"

    @property
    def factors(self) -> tuple[str, ...]:
        """The columns whose combinations are the levels."""
        return tuple(name.strip() for name in self.group.split(":"))


@dataclass(frozen=True)
class Parsed:
    """A formula in its parts: the response, the fixed right-hand side, and the random terms, nesting resolved."""

    text: str
    response: str
    fixed: str
    random: tuple[RandomPart, ...]

    @property
    def columns(self) -> list[str]:
        """Every column of the data that the formula reads, in order."""
        found = [self.response, *_variables(self.fixed, self.text)]
        for part in self.random:
            found += [*_variables(part.effects, self.text), *part.factors]
        return list(dict.fromkeys(found))


def parse(text: str) -> Parsed:
    """Read a formula.

    Parameters
    ----------
    text : str
        `response ~ fixed + (effects | group)`; effects as fixed parts are written, `||` for uncorrelated ones,
        `a:b` for combinations of levels and `a/b` for `b` nested in `a`.

    Raises
    ------
    LimenError
        If the text is no such formula.
    """
    response, tilde, right = text.partition("~")
    if not tilde or not re.fullmatch(r"\s*[A-Za-z_]\w*\s*", response) or not right.strip():
        raise _wrong(text, "allowed is 'response ~ fixed + (effects | group)', the response a column's name")
    random: list[RandomPart] = []
    fixed = right
    for whole, inside in _brackets(right, text):
        effects, _, group = inside.partition("|")
        correlated = not group.startswith("|")
        random += _nested(effects.strip(), group.lstrip("|").strip(), correlated, text)
        fixed = fixed.replace(whole, "", 1)
    fixed = re.sub(r"\+(\s*\+)+", "+", fixed).strip().strip("+").strip() or "1"
    try:
        formulaic.Formula(fixed)
    except (FormulaicError, SyntaxError) as error:
        raise _wrong(text, f"the fixed part '{fixed}' cannot be read ({_first_line(error)})") from None
    return Parsed(text.strip(), response.strip(), fixed, tuple(random))


def _brackets(right: str, text: str) -> list[tuple[str, str]]:
    """Return the bracketed parts that hold a bar, with and without their brackets."""
    found, depth, start = [], 0, 0
    for place, letter in enumerate(right):
        if letter == "(":
            start = place if depth == 0 else start
            depth += 1
        elif letter == ")":
            depth -= 1
            if depth == 0 and "|" in right[start:place]:
                found.append((right[start : place + 1], right[start + 1 : place]))
        if depth < 0 or (letter == "|" and depth == 0):
            raise _wrong(text, "random terms stand in brackets of their own: (effects | group)")
    if depth:
        raise _wrong(text, "a bracket is not closed")
    return found


def _nested(effects: str, group: str, correlated: bool, text: str) -> list[RandomPart]:
    names = [part.strip() for part in group.split("/")]
    if not effects or not all(re.fullmatch(r"[A-Za-z_]\w*(\s*:\s*[A-Za-z_]\w*)*", name) for name in names):
        raise _wrong(text, f"the random term ({effects} | {group}) needs effects and a group such as item, a:b or a/b")
    if len(names) == 1:
        return [RandomPart(effects, group, correlated)]
    return [RandomPart(effects, ":".join(names[: i + 1]), correlated) for i in range(len(names))]


def _wrong(text: str, reason: str) -> LimenError:
    return LimenError(f"formula '{text.strip()}': {reason}.")


def _first_line(error: Exception) -> str:
    return re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]", "", str(error)).strip().split("\n")[0].rstrip(".")


def _variables(expression: str, text: str) -> list[str]:
    """Return the names an expression reads as columns: neither functions, modules and their parts, nor keywords."""
    try:
        formulaic.Formula(expression)
    except (FormulaicError, SyntaxError) as error:
        raise _wrong(text, f"'{expression}' cannot be read ({_first_line(error)})") from None
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", expression)
    found = re.findall(r"(?<![\w.])([A-Za-z_]\w*)(?!\w)(?!\s*[(.=])", bare)
    return [name for name in dict.fromkeys(found) if name not in _WORDS]


def check_columns(parsed: Parsed, data: pd.DataFrame) -> None:
    """Refuse a formula that names a column the data lack.

    Raises
    ------
    LimenError
        Names the nearest column.
    """
    for name in parsed.columns:
        if name not in data.columns:
            raise unknown(f"formula '{parsed.text}', column", name, data.columns)


def design(expression: str, data: pd.DataFrame, text: str) -> tuple[pd.DataFrame, Any]:
    """Return the columns (N, p) an expression gives, and the rule that gives them for other data.

    Names are looked up in the data alone, never in the program.

    Raises
    ------
    LimenError
        If an expression cannot be computed.
    """
    try:
        matrix = formulaic.Formula(expression).get_model_matrix(data, context={}, na_action="raise")
    except (FormulaicError, SyntaxError, ValueError, TypeError) as error:
        raise _wrong(text, f"'{expression}' cannot be computed from the data ({_first_line(error)})") from None
    return pd.DataFrame(matrix).astype(float), matrix.model_spec


def again(rule: Any, data: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return the columns that a rule of `design` gives for other data.

    Raises
    ------
    LimenError
        If the data lack a column, or hold a level that the fit did not.
    """
    lacking = [name for name in _variables(str(rule.formula), text) if name not in data.columns]
    if lacking:
        raise unknown(f"formula '{text}', new data, column", lacking[0], data.columns)
    for name, (_, state) in rule.encoder_state.items():
        known = state.get("categories")
        column = data.get(str(name))
        if known is not None and column is not None and not set(column.unique()) <= set(known):
            odd = next(value for value in column.unique() if value not in set(known))
            raise unknown(f"formula '{text}', new data, column '{name}'", odd, known)
    return pd.DataFrame(rule.get_model_matrix(data, context={}, na_action="raise")).astype(float)


def random_terms(parsed: Parsed, data: pd.DataFrame) -> tuple[list[RandomTerm], list[Any]]:
    """Return the random terms of a formula, an uncorrelated part one term a column, and the rule of each part."""
    terms: list[RandomTerm] = []
    rules: list[Any] = []
    for part in parsed.random:
        columns, rule = design(part.effects, data, parsed.text)
        codes = levels(data, part.factors)
        names = [str(name) for name in columns.columns]
        if part.correlated:
            terms.append(RandomTerm(part.group, codes, columns.to_numpy(), tuple(names)))
        else:
            terms += [RandomTerm(part.group, codes, columns[[name]].to_numpy(), (name,)) for name in names]
        rules.append(rule)
    return terms, rules


def levels(data: pd.DataFrame, factors: Iterable[str]) -> np.ndarray:
    """Return the level of each row (N,): a column's value, or the values of several as one text."""
    names = list(factors)
    if len(names) == 1:
        return data[names[0]].to_numpy()
    return data[names].astype(str).agg(_SEPARATOR.join, axis=1).to_numpy()
