"""The pre-registration of a study beside what was run: the frozen plan's hash, and each deviation from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.store import sha256_bytes

from .battery import analysis_of
from .report_analysis import Analysed

NAMES: dict[str, tuple[str, ...]] = {
    "hash": ("hash", "sha256", "key"),
    "frozen": ("frozen", "created", "written"),
    "participants": ("participants", "n", "people", "quota"),
    "exclusions": ("exclusions", "checks"),
    "contrast": ("contrasts", "contrast", "primary_contrast"),
}
"""Under which keys a plan may hold what is compared."""


@dataclass(frozen=True)
class Compared:
    """One part of the plan beside what was done."""

    part: str
    planned: str
    done: str
    deviates: bool


def plan_hash(plan: Mapping[str, Any]) -> str:
    """Return the hash that the plan names, else that of its content (JSON, sorted keys)."""
    named = _held(plan, "hash")
    if isinstance(named, str) and named:
        return named
    return sha256_bytes(json.dumps(plan, sort_keys=True, separators=(",", ":"), default=str).encode())


def compared(analysed: Analysed) -> list[Compared]:
    """Put each part of the frozen plan beside what was run; [] without a plan."""
    plan, study, primary = analysed.study.plan, analysed.study, analysed.battery.primary
    if not plan:
        return []
    found = []
    if plan.get("analysis"):
        found.append(_pair("analysis", _name(plan["analysis"]), analysis_of(study)))
    formula = plan.get("formula") or _formula(plan.get("analysis"))
    if formula:
        found.append(_formulas(str(formula), str(primary.facts.get("formula") or study.card.get("formula") or "")))
    contrast = _held(plan, "contrast")
    if contrast:
        found.append(_contrasts(contrast, [f"{item.quantity}: {item.label}" for item in primary.estimates]))
    rules = _held(plan, "exclusions")
    if isinstance(rules, Mapping):
        planned = {str(k): v for k, v in rules.items() if v is not None and v is not False}
        done = dict(study.provenance.get("checks") or {})
        found.append(_pair("exclusion rules", _rules(planned), _rules(done)))
    people = _held(plan, "participants")
    if isinstance(people, (int, float)) and not isinstance(people, bool):
        finished = int(analysed.flow.set_index("step").loc["finished", "all"])
        found.append(_pair("participants who finished", f"{people:g}", f"{finished:g}"))
    return found


def others(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what else the plan holds, as text."""
    used = {"analysis", "formula", *(key for keys in NAMES.values() for key in keys)}
    return [(key, _text(value)) for key, value in sorted(plan.items()) if key not in used]


def _held(plan: Mapping[str, Any], part: str) -> Any:
    return next((plan[key] for key in NAMES[part] if plan.get(key) is not None), None)


def _name(given: Any) -> str:
    return str(given.get("name", "")) if isinstance(given, Mapping) else str(given)


def _formula(given: Any) -> Any:
    return given.get("formula") if isinstance(given, Mapping) else None


def _pair(part: str, planned: str, done: str) -> Compared:
    return Compared(part, planned, done, planned != done)


def _formulas(planned: str, done: str) -> Compared:
    """Compare formulas; slopes that the printed rule may add or drop are no deviation."""
    wanted, got = _terms(planned), _terms(done)
    return Compared("formula", planned, done, not wanted <= got or bool(_fixed(got) - _fixed(wanted)))


def _terms(formula: str) -> set[str]:
    right, depth, found = formula.partition("~")[2], 0, [""]
    for letter in right:
        depth += (letter == "(") - (letter == ")")
        if letter == "+" and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return {"".join(term.split()) for term in found if term.strip()}


def _fixed(terms: set[str]) -> set[str]:
    return {term for term in terms if "|" not in term}


def _contrasts(given: Any, there: Sequence[str]) -> Compared:
    wanted = [_text(one) for one in given] if isinstance(given, (list, tuple)) else [_text(given)]
    missing = [name for name in wanted if not any(name in one for one in there)]
    done = "all estimated" if not missing else f"not estimated: {', '.join(missing)}"
    return Compared("primary contrasts", ", ".join(wanted), done, bool(missing))


def _rules(held: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_text(held[name])}" for name in sorted(held)) or "none"


def _text(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) else str(value)
