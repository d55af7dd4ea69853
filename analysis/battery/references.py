"""Which level of a factor the others are compared with: the study's own primary contrast, else the protocol's."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ..load.study import Study

REFERENCES = {"basis": "neuron", "reference": "none", "machine": "right", "composition": "composed"}
"""Level that the others of a factor are compared with, where a protocol's question names one."""


def references(study: Study, trials: pd.DataFrame) -> dict[str, str]:
    """Return the level of each factor that the others are compared with; the study's own primary contrast comes first."""
    first = study.baseline or next((name for name in study.conditions if name in set(trials["condition"])), None)
    found = {"condition": first} if first else {}
    for factor, level in REFERENCES.items():
        if factor in trials.columns and level in set(trials[factor].dropna().astype(str)):
            found[factor] = level
    return found | _declared(study, trials)


def reference_condition(study: Study, trials: pd.DataFrame) -> str:
    """Return the condition that the others are tested against: the one the study declares, else the baseline.

    Utility is a ratio to the baseline whatever is declared: without an explanation is what it is defined by.
    """
    found = references(study, trials).get("condition")
    return str(found if found in set(trials["condition"]) else study.baseline)


def _declared(study: Study, trials: pd.DataFrame) -> dict[str, str]:
    """Return the factor and reference of the contrast that the study file names as its primary one."""
    file = study.provenance.get("study_file")
    given = (file.get("analysis") or {}).get("primary") if isinstance(file, Mapping) else None
    if isinstance(given, str):
        level, _, reference = (part.strip() for part in given.partition(" - "))
    elif isinstance(given, Mapping):
        level, reference = str(given.get("level", "")), str(given.get("reference", ""))
    else:
        return {}
    for factor in dict.fromkeys(["condition", *REFERENCES, *study.card.get("within", ())]):
        if factor in trials.columns and {level, reference} <= set(trials[factor].dropna().astype(str)):
            return {str(factor): reference}
    return {}
