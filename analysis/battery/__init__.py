"""Which registered analyses run for which study: the card's own is the primary one, others follow from the columns there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any
from warnings import catch_warnings, simplefilter

import pandas as pd

from bench.registry import LimenError, unknown

from ..drawings import holds_drawings, read_drawings, read_samples
from ..importance import read_rounds
from ..load.study import Study
from ..models import ANALYSES
from ..models.self_ratings import holds_ratings
from ..results import FLAGS, Result
from .references import reference_condition, references
from .utility import primary_and_companion, utility_results

GENERIC = "correct ~ condition + (1|participant) + (1|item)"
UTILITY, CROSSED = "utility", "crossed"


@dataclass(frozen=True, kw_only=True)
class Battery:
    """What was run for a study.

    Attributes
    ----------
    results : mapping
        Name -> result, in the order of the report; the first is the primary one.
    companion : str
        Name of the second analysis of the same question, '' if there is none.
    warnings : tuple of str
        One sentence for each analysis that could not be run.
    """

    results: Mapping[str, Result]
    companion: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def primary(self) -> Result:
        """The analysis that answers the study's question."""
        return next(iter(self.results.values()))


@dataclass(frozen=True)
class Secondary:
    """A further analysis: its registered name, when it runs, and the arguments it is given."""

    name: str
    applies: Callable[[Study, pd.DataFrame], bool]
    options: Callable[[Study, pd.DataFrame], dict[str, Any]]
    scored: bool = True
    """Whether it reads only answers that are right or wrong."""


def analysis_of(study: Study) -> str:
    """Return the registered name of the primary analysis of a study.

    The card names it; a table without a card is one of Utility where conditions divide people and one is the baseline,
    and else a crossed design.
    """
    named = str(study.card.get("analysis", ""))
    comparable = study.baseline is not None and len(study.conditions) > 1 and not study.within
    if named in ("", UTILITY):
        return UTILITY if comparable else CROSSED
    return named


def run_battery(study: Study) -> Battery:
    """Run the primary analysis, its companion, and every secondary one that the columns allow.

    Raises
    ------
    LimenError
        If the primary analysis refuses the table; a secondary one that fails leaves a warning.
    """
    results, companion = primary_results(study)
    note = estimable(formula_of(study), study.answers())[1] if analysis_of(study) == CROSSED else ""
    said = [note] if note else []
    for one in SECONDARY:
        trials = study.answers(scored=one.scored)
        if one.name in results or one.name not in ANALYSES.names() or trials.empty or not one.applies(study, trials):
            continue
        # One of many descriptions may not cost the report: whatever it fails of, or complains of, becomes a sentence.
        try:
            with catch_warnings(record=True) as complaints:
                simplefilter("always")
                found = ANALYSES.load(one.name)(trials, **one.options(study, trials))
        except Exception as error:
            said.append(f"The secondary analysis '{one.name}' was left out: {_first_line(error)}.")
            continue
        for text in dict.fromkeys(_first_line(complaint.message) for complaint in complaints):
            said.append(f"The secondary analysis '{one.name}' warns: {text}.")
        results[one.name] = found if found.role != "primary" else replace(found, role="secondary")
    return Battery(results=results, companion=companion, warnings=tuple(said))


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def primary_results(study: Study, *, exclusions: bool = True) -> tuple[dict[str, Result], str]:
    """Run the analysis that answers the study's question, and return it with what belongs to it; the first is the primary.

    Returns
    -------
    dict, str
        Name -> result, and the name of the companion, '' if there is none.
    """
    name = analysis_of(study)
    if name == UTILITY:
        assert study.baseline is not None
        trials = study.answers(exclusions=exclusions)
        found, companion = primary_and_companion(trials, reference_condition(study, trials))
        return (found | utility_results(study) if exclusions else found), companion
    if name == CROSSED:
        return crossed_results(study, exclusions=exclusions)
    run = _OWN.get(name)
    if run is None:
        if name not in ANALYSES.names():
            raise unknown(f"{study.name}, analysis", name, ANALYSES.names())
        return {name: replace(ANALYSES.load(name)(study.answers(exclusions=exclusions)), role="primary")}, ""
    return {name: run(study, exclusions)}, ""


def crossed_results(study: Study, *, exclusions: bool = True) -> tuple[dict[str, Result], str]:
    """Run the mixed model of the card's formula, and hand its companion on as a result of its own."""
    trials = study.answers(exclusions=exclusions)
    formula, _ = estimable(formula_of(study), trials)
    for name in re.findall(r"[A-Za-z_]\w*", formula.partition("~")[2]):
        empty = int(trials[name].isna().sum()) if name in trials.columns else 0
        if empty:
            raise LimenError(
                f"{study.name}: column '{name}' is empty in {empty} of the {len(trials):,} answers to analyse; the formula "
                f"'{formula}' needs it in each."
            )
    family = "binomial" if formula.partition("~")[0].strip() == "correct" else "gaussian"
    found = ANALYSES.load(CROSSED)(
        trials, formula=formula, chance=study.chance, references=references(study, trials), family=family
    )
    return {CROSSED: found}, ""


def formula_of(study: Study) -> str:
    """Return the formula of the card, or one of a condition's effect."""
    named = str(study.card.get("formula", ""))
    return named if "|" in named and "~" in named else GENERIC


def estimable(formula: str, trials: pd.DataFrame) -> tuple[str, str]:
    """Return the formula without interactions of which a cell is empty, and a sentence of what was left out."""
    named, tilde, right = formula.partition("~")
    notes = []
    for factors in re.findall(r"\w+(?:\s*\*\s*\w+)+", right):
        names = [name.strip() for name in factors.split("*")]
        if not set(names) <= set(trials.columns) or any(pd.api.types.is_numeric_dtype(trials[name]) for name in names):
            continue
        held = trials.groupby(names, observed=True).size()
        cells = product(*(sorted(trials[name].dropna().unique(), key=str) for name in names))
        missing = [cell for cell in cells if cell not in held.index]
        if missing:
            right = right.replace(factors, " + ".join(names))
            where = " and ".join(f"{name} = {value}" for name, value in zip(names, missing[0], strict=True))
            notes.append(f"No answer has {where}, so the interaction {factors} cannot be estimated and was left out.")
    return f"{named}{tilde}{right}", " ".join(notes)


def flagged(results: Iterable[Result]) -> list[str]:
    """Say each flag of each result in a sentence; of secondary results those of the whole, not of single estimates."""
    said = []
    for result in results:
        for flag in result.flags if result.role in ("secondary", "descriptive") else result.all_flags():
            labels = [item.label for item in result.estimates if flag in item.flags]
            where = f" ({', '.join(dict.fromkeys(labels))})" if labels else ""
            said.append(f"{result.title}{where}: {FLAGS[flag]}.")
    return said


def _agreement(study: Study, exclusions: bool) -> Result:
    trials = study.answers(exclusions=exclusions, scored=False)
    present = [name for name in study.conditions if name in set(trials["condition"])]
    options = {"baseline": study.baseline or present[0], "chance": study.chance or 0.5}
    return ANALYSES.load("agreement")(trials, **options)


def _preference(study: Study, exclusions: bool) -> Result:
    trials = study.answers(exclusions=exclusions)
    known = set(trials.get("left", pd.Series(dtype=object)).dropna())
    reference = next((name for name in ("baseline", "random") if name in known), None)
    return ANALYSES.load("preference")(trials, reference=reference)


def _clickme(study: Study, exclusions: bool) -> Result:
    if not study.folder:
        raise LimenError(
            f"{study.name}: importance maps are made from an export folder with strokes, not from a table."
        )
    return ANALYSES.load("clickme")(read_rounds(study.folder, exclusions=exclusions))


def _oddone(study: Study, exclusions: bool) -> Result:
    people = study.answers(exclusions=exclusions, scored=True)
    networks = study.answers(exclusions=exclusions, scored=True, source="network")
    both = study.source != "network" and len(networks)
    options = {"networks": networks if both else None, "formula": formula_of(study), "chance": study.chance or 0.25}
    return ANALYSES.load("oddone")(people, **options)


def _drawing(study: Study, exclusions: bool) -> Result:
    if not study.folder:
        raise LimenError(f"{study.name}: drawings are read from an export folder, not from a table.")
    if not holds_drawings(study.folder):
        return _clickme(study, exclusions)
    samples = read_samples(study.samples)
    return ANALYSES.load("drawing")(read_drawings(study.folder, exclusions=exclusions), samples=samples)


_OWN: dict[str, Callable[[Study, bool], Result]] = {
    "drawing": _drawing,
    "agreement": _agreement,
    "preference": _preference,
    "clickme": _clickme,
    "oddone": _oddone,
}
"""Analyses that read more than the scored answers of a study."""


def _divides(study: Study, trials: pd.DataFrame) -> bool:
    return not study.within and bool(trials["correct"].notna().any())


def _varies(column: str) -> Callable[[Study, pd.DataFrame], bool]:
    """Say of a column whether it is there and differs between answers."""
    return lambda study, trials: column in trials.columns and trials[column].nunique(dropna=True) > 1


def _plain(study: Study, trials: pd.DataFrame) -> dict[str, Any]:
    return {}


def _first_level(study: Study, trials: pd.DataFrame) -> dict[str, Any]:
    present = set(trials["condition"])
    declared = reference_condition(study, trials)
    if declared in present:
        return {"baseline": declared}
    return {"baseline": next(name for name in study.conditions if name in present)}


def _card_formula(study: Study, trials: pd.DataFrame) -> dict[str, Any]:
    return {"formula": formula_of(study), "chance": study.chance, "references": references(study, trials)}


def _crossed_beside(study: Study, trials: pd.DataFrame) -> bool:
    """Say whether the card names a formula beside an analysis of another kind."""
    return analysis_of(study) == "agreement" and "machine" in trials.columns and study.scored


def _timed(study: Study, trials: pd.DataFrame) -> bool:
    """Say whether the time of an answer means how long it took to decide."""
    return analysis_of(study) in (UTILITY, CROSSED, "agreement", "oddone") and trials["rt_ms"].nunique() > 1


def _time_formula(study: Study, trials: pd.DataFrame) -> dict[str, Any]:
    formula = "rt_ms ~" + formula_of(study).partition("~")[2]
    return {"formula": estimable(formula, trials)[0], "references": references(study, trials)}


def _sessions(study: Study, trials: pd.DataFrame) -> bool:
    return _divides(study, trials) and study.scored and trials["session"].nunique() > 1


def _learned(study: Study, trials: pd.DataFrame) -> dict[str, Any]:
    return {**_first_level(study, trials), "chance": study.chance}


def _rated(study: Study, trials: pd.DataFrame) -> bool:
    """Say whether predictions were rated on a scale of points."""
    return analysis_of(study) == "agreement" and {"right", "wrong"} <= set(
        trials.get("machine", pd.Series(dtype=object)).dropna()
    )


def _felt(study: Study, trials: pd.DataFrame) -> bool:
    """Say whether people rated their understanding; the agreement analysis holds these ratings itself."""
    return analysis_of(study) != "agreement" and holds_ratings(trials)


def _by_machine(study: Study, trials: pd.DataFrame) -> dict[str, Any]:
    return {"answer": "response", "factor": "machine", "baseline": "wrong"}


def _steps(study: Study, trials: pd.DataFrame) -> bool:
    """Say whether confidence was given in a few steps, in several conditions."""
    given = trials["confidence"].nunique() if "confidence" in trials.columns else 0
    return 2 <= given <= 11 and trials["condition"].nunique() > 1


def _confidence(study: Study, trials: pd.DataFrame) -> dict[str, Any]:
    return {"answer": "confidence", **_first_level(study, trials)}


def _sided(study: Study, trials: pd.DataFrame) -> bool:
    """Say whether accuracy can be split into sensitivity and bias: everyone chose among as many answers."""
    return _divides(study, trials) and study.scored and bool(study.chance) and analysis_of(study) in (UTILITY, CROSSED)


def _signal(study: Study, trials: pd.DataFrame) -> dict[str, Any]:
    """Take one of two classes as the signal; else answers are a choice among as many alternatives as chance says."""
    expected = sorted(set(trials["expected"].astype(str)) - {""})
    if analysis_of(study) == UTILITY and len(expected) == 2 and "response" in trials.columns:
        return {**_first_level(study, trials), "task": "yes/no", "signal": expected[0]}
    return {**_first_level(study, trials), "alternatives": round(1 / float(study.chance or 0.5))}


def _compared(study: Study, trials: pd.DataFrame) -> bool:
    return _divides(study, trials) and study.scored and trials["condition"].nunique() > 1


SECONDARY: tuple[Secondary, ...] = (
    Secondary("crossed", _crossed_beside, _card_formula),
    Secondary("participant_means", _divides, _first_level),
    Secondary("learning", _sessions, _learned),
    Secondary("reaction_time", _timed, _time_formula),
    Secondary("calibration", _varies("confidence"), _first_level),
    Secondary("ordinal", _rated, _by_machine),
    Secondary("ordinal", _steps, _confidence),
    Secondary("detection", _sided, _signal),
    Secondary("psychometric", _varies("stimulus_level"), _first_level),
    Secondary("self_ratings", _felt, _first_level, scored=False),
    Secondary("as_published", _compared, _learned),
    Secondary("item_means", lambda study, trials: study.scored, _plain),
)
"""In the order of the report."""
