"""The conditions of the utility protocol: what each one shows while people learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.registry import LimenError, unknown

from ..protocol import Material
from ..records import StudyFile
from ._utility_concepts import ROLE as CONCEPTS
from ._utility_scenarios import check_scenario

BASELINE, CONTROL = "baseline", "control"
_ROLE = "explanations/"


def labels_of(study: StudyFile, options: Mapping[str, Any]) -> dict[str, str | None]:
    """Map each condition to the label of its explanations in the run; None where nothing is shown."""
    special = {BASELINE: None, CONTROL: options.get("control")}
    return {condition: special.get(condition, condition) for condition in study.conditions}


def needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> list[str]:
    """Name the roles of the run that the conditions draw on.

    Raises
    ------
    UnknownName
        If the run has no explanations under a condition's label.
    """
    known = sorted(role.removeprefix(_ROLE) for role in offered if role.startswith(_ROLE))
    concepts = sorted(role.removeprefix(CONCEPTS) for role in offered if role.startswith(CONCEPTS))
    found = ["images", "predictions"]
    for condition, label in labels_of(study, options).items():
        if label is None:
            continue
        if label not in known and (condition == CONTROL or label not in concepts):
            where = "key 'design.control'" if condition == CONTROL else "key 'conditions'"
            allowed = known if condition == CONTROL else [BASELINE, CONTROL, *known, *concepts]
            raise unknown(f"study '{study.study}', {where}, explanations of run '{study.run}'", label, allowed)
        role = (_ROLE if label in known else CONCEPTS) + label
        if role not in found:
            found.append(role)
    return found


def artifact_of(material: Material, label: str | None) -> str | None:
    """Return the key of the artifact that a condition shows, None where nothing is shown."""
    keys = (material.parents.get(f"{role}{label}") for role in (_ROLE, CONCEPTS))
    return next((key for key in keys if key is not None), None)


def concept_conditions(material: Material, labels: Mapping[str, str | None]) -> list[str]:
    """Name the conditions that show concepts."""
    return [condition for condition, label in labels.items() if f"{CONCEPTS}{label}" in material.artifacts]


def check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse a study without the condition that utility is measured against, or whose options contradict its scenario."""
    if BASELINE not in study.conditions or len(study.conditions) < 2:
        raise LimenError(
            f"{where}, key 'conditions': given {', '.join(study.conditions)}; 'baseline' must be among them, and another "
            "beside it, since utility is measured against it."
        )
    check_scenario(study, options, where)
