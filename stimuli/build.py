"""From a study file and a bench run to a frozen stimulus set, and back: building and verifying."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.config import parse_config
from bench.overlay import SEQUENTIAL
from bench.records import frame
from bench.registry import LimenError
from bench.store import Artifact, Store, artifact_key, sha256_file

from . import render
from .audit import audit
from .preview import contact_sheet, shown_pictures
from .protocol import DESIGNS, Design, Drawn, Material, Tables, read_material
from .records import CellRow, ItemRow, StudyFile, TrialRow
from .study import resolve

KIND = "stimuli"
TABLES = {"trials.parquet": TrialRow, "cells.parquet": CellRow, "items.parquet": ItemRow}


@dataclass(frozen=True)
class Plan:
    """A study joined with its run: all that decides what will be drawn."""

    study: StudyFile
    """As resolved: with all options and texts."""
    options: Mapping[str, Any]
    design: Design
    material: Material

    @property
    def config(self) -> dict[str, Any]:
        """The identity of the stimulus set, beside the keys of what it stands on."""
        return {
            "study": self.study.study,
            "version": self.study.version,
            "file": self.study.model_dump(mode="json"),
            "design": {"name": self.design.card.name, "version": self.design.card.version, "options": self.options},
            "renderer": render.VERSION,
        }


def plan(study: StudyFile, store: Store) -> Plan:
    """Resolve a study's options, run and texts; draw nothing.

    Raises
    ------
    LimenError
        If the study and the store do not fit together.
    """
    resolved = resolve(study)
    material = read_material(study, resolved.options, resolved.design, store)
    texts = study.texts or resolved.design.texts(material, resolved.options)
    whole = study.model_copy(update={"design": dict(resolved.options), "texts": texts, "contact": texts.contact})
    return Plan(whole, resolved.options, resolved.design, material)


def draw(plan: Plan) -> Drawn:
    """Draw the pictures and trials of a plan, and audit them against the protocol's rules; write nothing."""
    drawn = plan.design(plan.material, **plan.options)
    tables = _tables(plan, drawn)
    faults = [*audit(tables), *plan.design.audit(tables)]
    if faults:
        raise LimenError(f"study '{plan.study.study}': the drawn trials break a rule of the protocol: {faults[0]}")
    return drawn


def build(study: StudyFile, store: Store) -> Artifact:
    """Freeze a study's stimulus set in the store; an identical study gives the artifact that is already there.

    Parameters
    ----------
    study
        The study as written; see `stimuli.study.load_study`.
    store
        Holds the bench run, and takes the stimulus set.

    Raises
    ------
    LimenError
        If the run does not have what the study needs, or this version of the study was frozen with other content.
    """
    made = plan(study, store)
    existing = confirm(made, store)
    if existing is not None:
        return existing
    drawn = draw(made)
    with store.write(KIND, made.config, parents=made.material.parents, seed=study.seed) as draft:
        for name in sorted(shown_pictures(trial.payload for trial in drawn.trials)):
            draft.write_bytes(drawn.pictures[name], f"pictures/{name}.png")
        draft.write_rows(frame(TrialRow, drawn.trials), "trials.parquet")
        draft.write_rows(frame(CellRow, drawn.cells), "cells.parquet")
        draft.write_rows(frame(ItemRow, drawn.items), "items.parquet")
        draft.write_json(made.study.model_dump(mode="json"), "study.json")
        draft.write_json(_protocol(made, drawn), "protocol.json")
        draft.write_bytes(contact_sheet(made.study, drawn), "contact.png")
        draft.summary = _summary(made, drawn)
    return store.open(KIND, artifact_key(KIND, made.config, list(made.material.parents.values())))


def frozen(study: StudyFile, store: Store) -> Artifact | None:
    """Return the stimulus set that was frozen under a study's name and version, or None."""
    same = [a for a in store.all(KIND) if (a.config["study"], a.config["version"]) == (study.study, study.version)]
    return same[0] if same else None


def confirm(made: Plan, store: Store) -> Artifact | None:
    """Return the frozen set of a plan's study and version, or None if there is none.

    The run itself may be a newer one, with more scores for example, if all that is shown is the same.

    Raises
    ------
    LimenError
        If it was frozen with other content.
    """
    existing = frozen(made.study, store)
    if existing is None:
        return None
    old = _content(existing.config, existing.manifest["parents"])
    new = _content(made.config, made.material.parents)
    if old == new:
        return existing
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    raise LimenError(
        f"study '{made.study.study}' version {made.study.version} was frozen as {existing.key} with other content "
        f"({', '.join(changed[:4])}{' ...' if len(changed) > 4 else ''}); raise the version."
    )


def _content(config: Mapping[str, Any], parents: Mapping[str, str]) -> dict[str, str]:
    """Flatten what a set shows and stands on: one line for each fact that may not change."""
    facts: dict[str, Any] = {f"file.{name}": value for name, value in config["file"].items() if name != "design"}
    facts |= {f"design.{name}": value for name, value in config["design"]["options"].items()}
    facts |= {"protocol version": config["design"]["version"], "renderer": config["renderer"]}
    facts |= {role: key for role, key in parents.items() if role != "run"}
    return {name: json.dumps(value, sort_keys=True) for name, value in facts.items()}


def _tables(made: Plan, drawn: Drawn) -> Tables:
    return Tables(
        made.study,
        made.options,
        frame(TrialRow, drawn.trials),
        frame(CellRow, drawn.cells),
        frame(ItemRow, drawn.items),
        drawn.pool,
    )


def _protocol(made: Plan, drawn: Drawn) -> dict[str, Any]:
    return {
        "card": made.design.card.facts(),
        "options": made.options,
        "conditions": {name: dict(drawn.conditions.get(name, {})) for name in made.study.conditions},
        "pool": drawn.pool,
        "rules": drawn.rules,
        "renderer": {"version": render.VERSION, "colours": SEQUENTIAL},
    }


def _summary(made: Plan, drawn: Drawn) -> dict[str, Any]:
    shown = shown_pictures(trial.payload for trial in drawn.trials)
    return {
        "study": made.study.study,
        "version": made.study.version,
        "protocol": made.study.protocol,
        "run": made.study.run,
        "conditions": list(made.study.conditions),
        "cells": len(drawn.cells),
        "trials_per_cell": len(drawn.trials) // len(drawn.cells),
        "items": sum(item.role == "main" for item in drawn.items),
        "pictures": len(shown),
        "picture_bytes": sum(len(drawn.pictures[name]) for name in shown),
        "pool": drawn.pool,
    }


def verify(artifact: Artifact) -> list[str]:
    """Re-derive hashes, references and balance of a frozen set; return one sentence a fault, [] if all is whole."""
    faults = [*artifact.verify(), *_strangers(artifact)]
    manifest = artifact.manifest
    if artifact_key(KIND, artifact.config, list(manifest["parents"].values())) != artifact.path.name:
        faults.append(f"{artifact.path}: the manifest's config and parents do not give this key.")
    for path in sorted(artifact.path.glob("pictures/*.png")):
        if sha256_file(path) != path.stem:
            faults.append(f"{path}: the content is not what the name says.")
    return faults or _verify_content(artifact)


def _strangers(artifact: Artifact) -> list[str]:
    known = {*artifact.manifest["files"], "manifest.json"}
    there = [path for path in sorted(artifact.path.rglob("*")) if path.is_file()]
    return [
        f"{path}: not named in the manifest."
        for path in there
        if path.relative_to(artifact.path).as_posix() not in known
    ]


def _verify_content(artifact: Artifact) -> list[str]:
    tables = {name: artifact.rows(name) for name in TABLES}
    trials = tables["trials.parquet"]
    written = json.loads(artifact.file("study.json").read_text(encoding="utf-8"))
    faults = [] if written == artifact.config["file"] else [f"{artifact.path}: study.json differs from the manifest."]
    faults += _pictures(artifact, trials)
    name, version = artifact.config["design"]["name"], artifact.config["design"]["version"]
    design: Any = DESIGNS.load(name)
    if design.card.version != version:
        return [*faults, f"{artifact.path}: built by {name} version {version}; version {design.card.version} is here."]
    study = parse_config(written, StudyFile, where=str(artifact.path / "study.json"))
    options = artifact.config["design"]["options"]
    pool = json.loads(artifact.file("protocol.json").read_text(encoding="utf-8"))["pool"]
    held = Tables(study, options, trials, tables["cells.parquet"], tables["items.parquet"], pool)
    return [*faults, *audit(held), *design.audit(held)]


def _pictures(artifact: Artifact, trials: pd.DataFrame) -> list[str]:
    held = {name.removeprefix("pictures/").removesuffix(".png") for name in artifact.manifest["files"] if "/" in name}
    shown = shown_pictures(trials["payload"])
    missing = [f"{artifact.path}: picture {name} is shown but not held." for name in sorted(shown - held)]
    return missing + [f"{artifact.path}: picture {name} is held but never shown." for name in sorted(held - shown)]
