"""Pre-registration: the plan of a study, frozen under a hash before the data, and what was done otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.registry import LimenError
from bench.store import Artifact, Store
from psychophysics_server.people.checks import RULES
from psychophysics_server.study.plan import FILE, HASH, KIND, content_hash
from stimuli.protocol import DesignCard
from stimuli.records import StudyFile

from ..power.assume import Decision, decision, named
from ..power.shape import ANALYSES, Shape, shape_of
from ..results import plain

if TYPE_CHECKING:
    from ..load.study import Study

SCHEMA = 1
STOP_RULE = (
    "Recruiting ends when every condition has its planned number of participants who passed the checks; no outcome is "
    "looked at before."
)


def compose(
    study: StudyFile,
    artifact: Artifact,
    *,
    power: Mapping[str, Any] | None = None,
    answers_held: Mapping[str, int] | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Write the plan of a study whose stimulus set is frozen.

    Parameters
    ----------
    study : StudyFile
        As the stimulus set holds it.
    artifact : Artifact
        The stimulus set.
    power : mapping, optional
        A `power.json`; the cell with the planned number of participants must be among its grid.
    answers_held : mapping, optional
        Source -> sessions that were held when the plan was frozen.
    now : datetime, optional
        Of the freeze; by default this moment.

    Returns
    -------
    dict
        JSON values; `sha256` is that of all the rest.

    Raises
    ------
    LimenError
        If the primary contrast or the power analysis is not this study's.
    """
    from stimuli.study import resolve

    resolved = resolve(study)
    card = resolved.design.card
    shape = shape_of(resolved, artifact) if card.analysis in ANALYSES else None
    test = None if shape is None else decision(study, shape)
    moment = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    plan: dict[str, Any] = {
        "schema": SCHEMA,
        "limen": version("limen"),
        "frozen": moment,
        "study": study.study,
        "study_version": study.version,
        "title": study.title,
        "protocol": {"name": study.protocol, "version": card.version, "citation": card.citation},
        "stimuli": artifact.key,
        "hypotheses": [card.hypothesis, *_texts(study, "hypotheses")],
        "design": _design(study, card, artifact, shape),
        "analysis": {"name": card.analysis, "formula": card.formula},
        "contrasts": _contrasts(study, shape, test),
        "primary": None if test is None else _primary(test),
        "exclusions": exclusions(study),
        "participants": study.quota * len(study.conditions),
        "participants_per_condition": study.quota,
        "power": None if power is None else _power(power, study, test),
        "stop_rule": str(study.analysis.get("stop_rule") or STOP_RULE),
        "answers_held": dict(answers_held or {}),
        "further": {k: v for k, v in study.analysis.items() if k not in ("primary", "hypotheses", "stop_rule")},
    }
    plan = plain(plan)
    return {**plan, HASH: content_hash(plan)}


def exclusions(study: StudyFile) -> dict[str, Any]:
    """Return the checks of a study that exclude people, with their thresholds."""
    given = study.checks.model_dump(mode="json")
    return {name: given[name] for name in RULES if given.get(name) is not None}


def _texts(study: StudyFile, key: str) -> list[str]:
    given = study.analysis.get(key) or []
    values = [given] if isinstance(given, str) else given
    if not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
        raise LimenError(
            f"study '{study.study}', key 'analysis.{key}': given {given!r}; allowed are sentences in a list."
        )
    return list(values)


def _design(study: StudyFile, card: DesignCard, artifact: Artifact, shape: Shape | None) -> dict[str, Any]:
    found = {
        "conditions": list(study.conditions),
        "between": list(card.between),
        "within": list(card.within),
        "random": list(card.random),
        "options": dict(artifact.config["design"]["options"]),
        "cells": artifact.summary.get("cells"),
        "correct": card.correct,
        "chance": card.chance,
    }
    return found if shape is None else {**found, "items": shape.items, "test_trials": shape.trials}


def _contrasts(study: StudyFile, shape: Shape | None, test: Decision | None) -> list[str]:
    if shape is not None and test is not None:
        return [": ".join(named(shape, test.contrast))]
    given = study.analysis.get("primary")
    return [] if given is None else [given if isinstance(given, str) else json.dumps(given, sort_keys=True)]


def _primary(test: Decision) -> dict[str, Any]:
    return {
        "level": test.contrast.level,
        "reference": "chance" if test.contrast.reference is None else test.contrast.reference,
        "alpha": test.alpha,
        "direction": test.direction,
        "correction": test.correction,
        "source": test.source,
    }


def _power(power: Mapping[str, Any], study: StudyFile, test: Decision | None) -> dict[str, Any]:
    """Keep of a power analysis what gave the number of participants."""
    where = f"study '{study.study}', power analysis"
    theirs = (power.get("study"), power.get("study_version"))
    if theirs != (study.study, study.version):
        raise LimenError(
            f"{where}: is of study '{theirs[0]}' version {theirs[1]}; allowed is one of '{study.study}' version {study.version}."
        )
    asked = power.get("contrast", {}).get("contrast")
    if test is not None and asked != {"level": test.contrast.level, "reference": test.contrast.reference}:
        raise LimenError(f"{where}: is of another contrast ({asked}); the study's is {test.contrast.label}.")
    sizes = sorted({cell["participants"] for cell in power["cells"]})
    if study.quota not in sizes:
        raise LimenError(
            f"{where}: has no cell of {study.quota} participants, the study's quota; there are {', '.join(map(str, sizes))}."
        )
    short = [{name: value for name, value in cell.items() if name != "points"} for cell in power["cells"]]
    return {
        "chosen": [cell for cell in short if cell["participants"] == study.quota],
        "grid": short,
        "assumed": power["assumed"],
        "simulations": power["simulations"],
        "seed": power["seed"],
        "limen": power["limen"],
    }


def keep(plan: Mapping[str, Any], file: Path, store: Store) -> None:
    """Write a plan and its Markdown, and put it into the store, where exports find it; overwrite nothing.

    Raises
    ------
    LimenError
        If a file is there already, or another plan was frozen for this stimulus set.
    """
    page = file.with_suffix(".md")
    for path in (file, page):
        if path.exists():
            raise LimenError(f"{path}: exists already; a frozen plan is never overwritten.")
    before = [one for one in store.all(KIND) if one.manifest["parents"].get("stimuli") == plan["stimuli"]]
    if before:
        raise LimenError(
            f"study '{plan['study']}' version {plan['study_version']}: its plan was frozen before, as "
            f"{before[0].config['sha256']} ({before[0].path / FILE}); raise the version for another plan."
        )
    text = json.dumps(plan, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    config = {"study": plan["study"], "version": plan["study_version"], "sha256": plan[HASH]}
    file.parent.mkdir(parents=True, exist_ok=True)
    with store.write(KIND, config, parents={"stimuli": str(plan["stimuli"])}) as draft:
        draft.write_bytes(text.encode(), FILE)
        draft.summary = {"frozen": plan["frozen"]}
    for path, content in ((file, text), (page, markdown(plan))):
        with path.open("x", encoding="utf-8") as stream:
            stream.write(content)


def read_plan(file: Path) -> dict[str, Any]:
    """Read a frozen plan.

    Raises
    ------
    LimenError
        If it cannot be read, or its content is not what its hash says.
    """
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LimenError(f"{file}: cannot be read as a plan ({str(error).splitlines()[0]}).") from None
    if not isinstance(plan, dict) or HASH not in plan:
        raise LimenError(f"{file}: is no frozen plan; give the file that `limen study freeze` wrote.")
    if plan[HASH] != content_hash(plan):
        raise LimenError(
            f"{file}: was changed after it was frozen; its SHA-256 is {content_hash(plan)}, not {plan[HASH]}."
        )
    return plan


def deviations(plan: Mapping[str, Any], study: Study) -> list[str]:
    """Say in sentences what of a study's data and analysis is not as its plan has it.

    Parameters
    ----------
    plan : mapping
        A frozen plan.
    study : Study
        The responses, as `analysis.load.load` reads them.

    Returns
    -------
    list of str
        [] if all is as planned.
    """
    found = []
    if plan.get(HASH) != content_hash(plan):
        found.append("The plan was changed after it was frozen: its SHA-256 is not that of its content.")
    told = study.provenance
    held = told.get("plan")
    if isinstance(held, Mapping) and held.get(HASH) != plan.get(HASH):
        found.append(f"The export carries another plan ({held.get(HASH)}) than this one ({plan.get(HASH)}).")
    for name, what, given in (
        ("study", "study", study.name),
        ("study_version", "version of the study", study.version),
        ("stimuli", "stimulus set", told.get("stimuli")),
    ):
        if str(plan.get(name)) != str(given):
            found.append(f"The {what} is {given}; planned was {plan.get(name)}.")
    return [*found, *_analysis(plan, study), *_rules(plan, study), *_people(plan, study)]


def _analysis(plan: Mapping[str, Any], study: Study) -> list[str]:
    found = []
    for name, what in (("name", "analysis"), ("formula", "formula")):
        planned, given = plan["analysis"].get(name), study.card.get("analysis" if name == "name" else "formula")
        if planned != given:
            found.append(f"The {what} of the primary model is '{given}'; planned was '{planned}'.")
    file = study.provenance.get("study_file")
    primary = plan.get("primary")
    if isinstance(file, Mapping) and isinstance(primary, Mapping):
        now = (file.get("analysis") or {}).get("primary")
        planned = {k: primary[k] for k in ("level", "reference", "alpha", "direction", "correction")}
        if now is not None and not _same_contrast(now, planned):
            found.append(f"The primary contrast is {now!r}; planned was {planned['level']} - {planned['reference']}.")
    return found


def _same_contrast(given: Any, planned: Mapping[str, Any]) -> bool:
    if isinstance(given, str):
        level, _, reference = (part.strip() for part in given.partition(" - "))
        given = {"level": level, "reference": reference or None}
    return isinstance(given, Mapping) and all(
        value is None or planned.get(name) == value for name, value in given.items()
    )  # fmt: skip


def _rules(plan: Mapping[str, Any], study: Study) -> list[str]:
    planned, applied = dict(plan.get("exclusions") or {}), dict(study.provenance.get("checks") or {})
    found = []
    for name in sorted({*planned, *applied}):
        if planned.get(name) != applied.get(name):
            given = f"{applied[name]}" if name in applied else "not applied"
            wanted = f"{planned[name]}" if name in planned else "not planned"
            found.append(f"The exclusion rule '{name}' is {given}; in the plan it is {wanted}.")
    reasons = study.sessions.loc[study.sessions["excluded"], "exclusion_reason"].astype(str)
    by_hand = sum("researcher" in text.split(";") for text in reasons)
    if by_hand:
        found.append(f"{by_hand} of {len(study.sessions)} participants were excluded by hand, which no plan foresees.")
    return found


def _people(plan: Mapping[str, Any], study: Study) -> list[str]:
    found = []
    if any(plan.get("answers_held", {}).get(source) for source in ("live",)):
        found.append(
            f"When the plan was frozen, {plan['answers_held']['live']} sessions of participants were held already."
        )
    sessions = study.sessions
    people = sessions[(sessions["source"] == study.source) & sessions["finished"] & ~sessions["excluded"]]
    planned = plan.get("participants_per_condition")
    for condition in plan["design"]["conditions"]:
        n = int((people["condition"] == condition).sum())
        if n != planned:
            found.append(f"Condition '{condition}' has {n} participants to analyse; planned were {planned}.")
    return found


def markdown(plan: Mapping[str, Any]) -> str:
    """Write a plan for people to read."""
    from .text import page

    return page(plan)
