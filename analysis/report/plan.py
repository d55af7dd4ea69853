"""The pre-registration of a study on its report: the frozen plan's hash, what it planned, and each deviation from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psychophysics_server.study.plan import HASH

from ..tables.results import tested
from .analysis import Analysed


def planned(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what a plan fixed, in words: hypotheses, analysis, contrasts, exclusions, participants, stopping."""
    analysis, primary = _mapping(plan, "analysis"), _mapping(plan, "primary")
    rows = [
        ("Frozen", plan.get("frozen")),
        ("Hypotheses", " ".join(map(str, plan.get("hypotheses") or ()))),
        ("Analysis", analysis.get("name")),
        ("Formula", analysis.get("formula")),
        ("Primary contrast", "; ".join(map(str, plan.get("contrasts") or ()))),
        ("Decision", ", ".join(f"{name} {_text(value)}" for name, value in sorted(primary.items()))),
        (
            "Exclusions",
            ", ".join(f"{name} {_text(v)}" for name, v in sorted(_mapping(plan, "exclusions").items())) or "none",
        ),
        ("Participants", plan.get("participants")),
        ("Stopping", plan.get("stop_rule")),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def deviating(analysed: Analysed) -> list[str]:
    """Say each thing that was not done as the frozen plan has it, in the data, the analysis and the fitted model."""
    # Only a study with a plan needs the server's checks, and with them its data base.
    from ..plan import deviations

    plan, primary = analysed.study.plan, analysed.battery.primary
    if not {HASH, "analysis", "design"} <= set(plan):
        return ["The plan that the export carries is not one that this version of limen can compare with what was run."]
    found = deviations(plan, analysed.study)
    formula = str(_mapping(plan, "analysis").get("formula") or "")
    fitted = str(primary.facts.get("formula") or "")
    if fitted and _terms(formula) - _terms(fitted):
        left = ", ".join(sorted(_terms(formula) - _terms(fitted)))
        found.append(f"The fitted model lacks {left} of the planned formula.")
    there = {f"{item.quantity}: {item.label}" for item in tested(primary)}
    for contrast in plan.get("contrasts") or ():
        if str(contrast) not in there and not any(str(contrast).endswith(one.partition(": ")[2]) for one in there):
            found.append(f"The planned contrast '{contrast}' was not estimated by the primary analysis.")
    return found


def plan_facts(analysed: Analysed) -> dict[str, Any]:
    """Return what the page and `results.json` hold of the plan; {} without one."""
    plan = analysed.study.plan
    if not plan:
        return {}
    return {"sha256": str(plan.get(HASH, "")), "planned": planned(plan), "deviations": deviating(analysed)}


def _mapping(held: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    given = held.get(name)
    return given if isinstance(given, Mapping) else {}


def _terms(formula: str) -> set[str]:
    """Split the right side of a formula into its terms, without spaces."""
    depth, found = 0, [""]
    for letter in formula.partition("~")[2]:
        depth += (letter == "(") - (letter == ")")
        if letter == "+" and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return {"".join(term.split()) for term in found if term.strip()}


def _text(value: Any) -> str:
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) else str(value)
