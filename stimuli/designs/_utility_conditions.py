"""The conditions of the utility protocol: what each one shows while people learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.registry import LimenError, unknown

from ..records import StudyFile

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
    found = ["images", "predictions"]
    for condition, label in labels_of(study, options).items():
        if label is None:
            continue
        if label not in known:
            where = "key 'design.control'" if condition == CONTROL else "key 'conditions'"
            allowed = known if condition == CONTROL else [BASELINE, CONTROL, *known]
            raise unknown(f"study '{study.study}', {where}, explanations of run '{study.run}'", label, allowed)
        if _ROLE + label not in found:
            found.append(_ROLE + label)
    return found


def check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse a study without the condition that utility is measured against, or with nothing beside it."""
    if BASELINE not in study.conditions or len(study.conditions) < 2:
        raise LimenError(
            f"{where}, key 'conditions': given {', '.join(study.conditions)}; 'baseline' must be among them, and another "
            "beside it, since utility is measured against it."
        )
