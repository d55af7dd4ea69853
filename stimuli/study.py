"""Study files: reading, checking against the protocol, and writing a commented first one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bench.config import load_config
from bench.registry import LimenError, resolve_options, unknown

from .interface import check_words
from .protocol import DESIGNS, Design, DesignCard
from .records import StudyFile
from .template import init_study as init_study


@dataclass(frozen=True)
class Resolved:
    """A study whose protocol is known and whose options are checked and complete."""

    study: StudyFile
    design: Design
    options: Mapping[str, Any]


def protocols() -> list[DesignCard]:
    """Return the card of each registered protocol, by name."""
    return [cast(DesignCard, DESIGNS.card(name)) for name in DESIGNS.names()]


def load_study(path: str | Path) -> StudyFile:
    """Read a study file and check it against its protocol.

    Raises
    ------
    LimenError
        For the first fault: file, key, what was given, what is allowed, the nearest name.
    """
    study = load_config(path, StudyFile)
    resolve(study, where=str(path))
    return study


def resolve(study: StudyFile, *, where: str = "") -> Resolved:
    """Check a study against its protocol and fill in the protocol's default options.

    Parameters
    ----------
    study
        The study as written.
    where
        Opens the error sentence; by default the study's name.

    Raises
    ------
    LimenError
        If the protocol, an option, a condition or a bot's entry is not allowed, or the contact is missing.
    """
    where = where or f"study '{study.study}'"
    if study.protocol not in DESIGNS.names():
        raise unknown(f"{where}, key 'protocol'", study.protocol, DESIGNS.names())
    design = cast(Design, DESIGNS.load(study.protocol))
    options = resolve_options(design, study.design, f"{where}, key 'design'")
    repeated = {name for name in study.conditions if study.conditions.count(name) > 1}
    if repeated:
        raise LimenError(f"{where}, key 'conditions': '{min(repeated)}' is given twice; each condition may stand once.")
    design.check(study, options, where)
    check_words(study, where=where)
    if study.bots is not None:
        _check_bots(study, options, where)
    if study.texts is None and study.contact is None:
        raise LimenError(
            f"{where}, key 'contact': nothing was given; the protocol's own texts need someone a participant can write "
            "to, for example an e-mail address."
        )
    return Resolved(study, design, json.loads(json.dumps(options)))


def _check_bots(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    accuracy = study.bots.accuracy if study.bots else {}
    for condition in accuracy:
        if condition not in study.conditions:
            raise unknown(f"{where}, key 'bots.accuracy'", condition, study.conditions)
    missing = [condition for condition in study.conditions if condition not in accuracy]
    if missing:
        raise LimenError(f"{where}, key 'bots.accuracy': nothing was given for condition '{missing[0]}'.")
    sessions = options.get("sessions", 1)
    for condition, values in accuracy.items():
        if len(values) != sessions or not all(0 < value < 1 for value in values):
            raise LimenError(
                f"{where}, key 'bots.accuracy.{condition}': given {', '.join(map(str, values))}; allowed are {sessions} "
                "values between 0 and 1, one for each session."
            )
