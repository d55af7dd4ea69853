"""A frozen plan as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ALPHA = "alpha {alpha:g}, {direction}, correction for several comparisons: {correction}"


def page(plan: Mapping[str, Any]) -> str:
    """Return the Markdown of a plan; every figure is the plan's own."""
    design, primary = plan["design"], plan["primary"]
    lines = [
        f"# Plan of the study '{plan['study']}', version {plan['study_version']}",
        "",
        f"{plan['title']}",
        "",
        f"Frozen {plan['frozen']} with limen {plan['limen']}. SHA-256 of the content: `{plan['sha256']}`.",
        _held(plan["answers_held"]),
        "",
        "## Hypotheses",
        "",
        *(f"{number}. {text}" for number, text in enumerate(plan["hypotheses"], start=1)),
        "",
        "## Design",
        "",
        f"- Protocol: {plan['protocol']['name']}, version {plan['protocol']['version']} ({plan['protocol']['citation']})",
        f"- Stimulus set: `{plan['stimuli']}`",
        f"- Conditions: {', '.join(design['conditions'])}",
        f"- Between participants: {_list(design['between'])}; within: {_list(design['within'])}; random: {_list(design['random'])}",
    ]
    if "items" in design:
        lines.append(f"- Items: {design['items']}; test trials of one participant: {design['test_trials']}")
    lines += [
        f"- A correct answer: {design['correct']}"
        + ("" if design["chance"] is None else f"; guessing gives {design['chance']:g}"),
        *(f"- Option {name}: {value}" for name, value in sorted(design["options"].items())),
        "",
        "## Analysis",
        "",
        f"- Analysis: {plan['analysis']['name']}",
        f"- Model: `{plan['analysis']['formula']}`",
        f"- Primary contrast: {'; '.join(plan['contrasts']) or 'none named'}",
    ]
    if primary is not None:
        lines += [
            f"- {primary['level']} against {primary['reference']}; {ALPHA.format(**primary)}",
            f"- Taken from: {primary['source']}",
        ]
    lines += [f"- {name}: {value}" for name, value in sorted(plan["further"].items())]
    lines += ["", "## Exclusions", ""]
    lines += [f"- {name}: {value}" for name, value in sorted(plan["exclusions"].items())] or ["None."]
    lines += ["", "## Participants", ""]
    lines += [
        f"{plan['participants']} in all, {plan['participants_per_condition']} in each condition, after exclusions.",
        "",
        plan["stop_rule"],
        "",
        *_power(plan["power"]),
    ]
    return "\n".join(line for line in lines if line is not None) + "\n"


def _held(held: Mapping[str, int]) -> str:
    live = held.get("live", 0)
    if live:
        return f"**{live} sessions of participants were held already when the plan was frozen.**"
    return "No participant's answer was held." if held else "Whether answers were held was not looked at."


def _list(names: Any) -> str:
    return ", ".join(names) or "none"


def _power(power: Mapping[str, Any] | None) -> list[str]:
    if power is None:
        return ["The number of participants does not come from a simulation."]
    assumed = power["assumed"]
    sds = ", ".join(f"{name} {value:g}" for name, value in sorted(assumed["sd"].items()))
    lines = [
        f"The number comes from {power['simulations']} simulated studies for each effect (seed {power['seed']}, limen "
        f"{power['limen']}): assumed effect {assumed['effect']:+.3f}, standard deviations in log-odds {sds}, lapses "
        f"{assumed['lapse']:g}. Sources: "
        + "; ".join(f"{name}: {source}" for name, source in sorted(assumed["sources"].items()))
        + ".",
        "",
        "| participants | items | power | type I | failed fits | detectable at .8 |",
        "|---:|---:|---|---|---:|---|",
    ]
    lines += [
        f"| {row['participants']} | {row['items']} | {_rate(row, 'power')} | {_rate(row, 'type_i')} | "
        f"{row['failed_share']:.1%} | {_detectable(row)} |"
        for row in power["grid"]
    ]
    return lines


def _rate(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}] (n {row[f'{name}_n']})"


def _detectable(row: Mapping[str, Any]) -> str:
    values = [row.get(f"detectable{end}") for end in ("", "_low", "_high")]
    numbers = [float(value) for value in values if value is not None]
    if len(numbers) < 3:
        return "not found"
    return f"{numbers[0]:+.3f} [{numbers[1]:+.3f}, {numbers[2]:+.3f}]"
