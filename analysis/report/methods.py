"""The methods text of a report, written from the card, the rules of choice, the study file and the analyses that ran; and its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import format as write
from ..battery import analysis_of, formula_of
from .analysis import Analysed

FEW_ITEMS = 12


@dataclass(frozen=True)
class Paragraph:
    """A part of the methods text: its heading, its sentences, and perhaps a list."""

    heading: str
    text: str
    points: tuple[str, ...] = ()


def methods(analysed: Analysed) -> list[Paragraph]:
    """Write the methods: question, design, stimuli, participants, analysis; only what the provenance holds."""
    found = [_question(analysed), _design(analysed), _stimuli(analysed), _participants(analysed), _analysis(analysed)]
    return [one for one in found if one.text or one.points]


def limits(analysed: Analysed) -> list[str]:
    """Say what the numbers of this report cannot say."""
    study, trials = analysed.study, analysed.study.answers()
    items, found = int(trials["item_id"].replace("", float("nan")).nunique()), []
    if study.simulated:
        found.append(
            "Simulated observers answer as the study file says they do: nothing here is a finding about people."
        )
    run = _mapping(study.provenance, "study_file").get("run")
    if run:
        found.append(
            f"All stimuli come from one bench run ('{run}'): one network and one image set, to which the answer is limited."
        )
    if items:
        found.append(
            f"Items are {write.count(items, 'item')} drawn by the rules above; the primary analysis speaks of new items like them"
            + (", roughly, with so few." if items < FEW_ITEMS else ".")
        )
    finished = study.sessions[(study.sessions["source"] == study.source)]
    lost = 1 - finished["finished"].mean()
    if lost > 0:
        found.append(
            f"{write.percent(float(lost))} of those who entered did not finish; who leaves may differ from who stays."
        )
    if analysed.excluded:
        found.append(
            "Excluded people were excluded by checks fixed before the data; the section on exclusions shows what that changes."
        )
    if not study.plan:
        found.append("No frozen plan came with the data, so nothing here can be called pre-registered.")
    return found


def _mapping(held: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    given = held.get(name)
    return given if isinstance(given, Mapping) else {}


def _question(analysed: Analysed) -> Paragraph:
    card = analysed.study.card
    parts = [f"Hypothesis: {card['hypothesis']}" if card.get("hypothesis") else ""]
    if card.get("correct"):
        parts.append(
            f"An answer is correct if {_lower(str(card['correct']))}."
            if analysed.study.scored
            else f"Correctness: {card['correct']}."
        )
    if analysed.study.scored and analysed.study.chance:
        parts.append(f"Guessing gives {write.percent(analysed.study.chance)}.")
    return Paragraph("Question", " ".join(part for part in parts if part))


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _design(analysed: Analysed) -> Paragraph:
    study, card, trials = analysed.study, analysed.study.card, analysed.study.answers()
    each = trials.groupby("participant_id").size()
    count = (
        f"{each.min():g}"
        if each.min() == each.max()
        else f"{each.min():g} to {each.max():g} (median {each.median():g})"
    )
    parts = [
        f"Protocol '{study.protocol}', version {card.get('version')} ({card.get('citation')})."
        if study.protocol
        else ""
    ]
    if len(study.conditions) > 1:
        how = "Each participant met every condition" if study.within else "Between participants"
        parts.append(f"{how}: {write.listing(list(study.conditions))}.")
    within = [str(name) for name in card.get("within") or () if name in trials.columns and trials[name].nunique() > 1]
    if within:
        levels = [f"{name} ({_levels(trials[name])})" for name in within]
        parts.append(f"Within participants: {write.listing(levels)}.")
    parts.append(f"Test answers analysed of each participant: {count}.")
    lists = trials["list"].nunique() if "list" in trials.columns else 0
    if lists > 1:
        parts.append(f"Stimuli were counterbalanced over {lists} lists.")
    return Paragraph("Design", " ".join(part for part in parts if part))


def _levels(column: Any) -> str:
    values = sorted(map(str, column.dropna().unique()))
    return ", ".join(values) if len(values) <= 6 else f"{len(values)} levels"


def _stimuli(analysed: Analysed) -> Paragraph:
    protocol = _mapping(analysed.study.provenance, "protocol")
    rules = tuple(str(rule) for rule in protocol.get("rules") or ())
    run = _mapping(analysed.study.provenance, "study_file").get("run")
    text = (
        f"Stimuli were made from the bench run '{run}'"
        if run
        else ("Stimuli were made by a generator" if rules else "")
    )
    pool = _mapping(protocol, "pool")
    numbers = [
        f"{name.replace('_', ' ')}: {value:,}"
        for name, value in pool.items()
        if isinstance(value, int) and not isinstance(value, bool)
    ]
    text += f" ({'; '.join(numbers)})." if numbers else "." if text else ""
    return Paragraph("Stimuli", text, (*rules, *_kinds(pool)))


def _kinds(pool: Mapping[str, Any]) -> list[str]:
    """Say how many of each kind there were to choose from and how many were chosen."""
    kinds = pool.get("kinds")
    if not isinstance(kinds, Sequence) or isinstance(kinds, str):
        return []
    return [
        "Chosen: "
        + ", ".join(f"{str(key).replace('_', ' ')} {_short(value)}" for key, value in sorted(kind.items()))
        + "."
        for kind in kinds
        if isinstance(kind, Mapping)
    ]


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _participants(analysed: Analysed) -> Paragraph:
    study, counts = analysed.study, analysed.flow.set_index("step")["all"]
    held = _mapping(study.provenance, "study_file")
    recruited, kind = _mapping(held, "recruitment"), "simulated observers" if study.simulated else "people"
    parts = [
        f"{counts['entered']:,} {kind} entered, {counts['consented']:,} consented, {counts['finished']:,} finished, and "
        f"{counts['analysed']:,} are analysed."
    ]
    if recruited:
        pay = f", paid {recruited['amount']} {recruited.get('currency', '')}" if recruited.get("amount") else ""
        parts.append(f"Recruited by '{recruited.get('source')}', {recruited.get('minutes'):g} minutes planned{pay}.")
    checks = dict(study.provenance.get("checks") or {})
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in checks.items())
    parts.append(f"Exclusion rules fixed before the data: {said}." if said else "")
    return Paragraph("Participants", " ".join(part for part in parts if part))


def _analysis(analysed: Analysed) -> Paragraph:
    study, primary = analysed.study, analysed.battery.primary
    planned, fitted = formula_of(study), str(primary.facts.get("formula", ""))
    parts = [f"The primary analysis is '{primary.name}'."]
    if study.card.get("formula"):
        parts.append(f"Planned by the protocol: {study.card['formula']}.")
    if fitted and fitted != planned:
        parts.append(f"Fitted: {fitted}.")
    parts.append(primary.method)
    if analysis_of(study) != study.card.get("analysis", analysis_of(study)):
        parts.append(f"The protocol names the analysis '{study.card['analysis']}', which these data do not allow.")
    return Paragraph("Primary analysis", " ".join(parts))


def fitted(analysed: Analysed) -> list[tuple[str, str]]:
    """List the facts of the primary fit: formula, rows, degrees of freedom, standard deviations, likelihood."""
    facts, found = analysed.battery.primary.facts, []
    facts = facts.get("mixed model", facts) if isinstance(facts.get("mixed model", facts), Mapping) else facts
    for key, label in (
        ("formula", "Formula as fitted"),
        ("rows", "Answers"),
        ("participants", "Participants"),
        ("df", "Degrees of freedom"),
    ):
        if facts.get(key) is not None:
            value = facts[key]
            found.append(
                (
                    label,
                    f"{value:g}"
                    if isinstance(value, float)
                    else f"{value:,}"
                    if isinstance(value, int)
                    else str(value),
                )
            )
    sds = facts.get("sd")
    if isinstance(sds, Mapping):
        found.append(
            (
                "Random standard deviations (log-odds)",
                "; ".join(f"{name} {write.number(float(sd))}" for name, sd in sds.items()),
            )
        )
    llf = facts.get("log_likelihood")
    if isinstance(llf, float) and math.isfinite(llf):
        found.append(("Log-likelihood", write.number(llf)))
    return found
