"""The answer of the utility protocol: whether explanations helped to predict the model, and which most."""

from __future__ import annotations

from collections.abc import Sequence

from .. import format as write
from ..battery.references import reference_condition
from ..load.study import Study
from ..results import FLAGS, Estimate, Result
from .words import ALPHA, LEVEL, Answer, interval_of, no_evidence, observers, tail


def utility_answer(study: Study, primary: Result) -> Answer:
    """Answer whether explanations helped people predict the model."""
    contrasts = primary.of("accuracy difference")
    reference = reference_condition(study, study.answers())
    if not contrasts:
        reasons = "; ".join(FLAGS[flag] for flag in primary.all_flags())
        return Answer(f"No condition could be compared with the {reference} condition: {reasons} ({tail(study)}).")
    found = [item for item in contrasts if item.p_adjusted < ALPHA]
    methods = [item for item in contrasts if item.label not in ("control", study.baseline)] or list(contrasts)
    better = [item for item in methods if item in found and item.value > 0]
    best = max(better or methods, key=lambda item: item.value)
    if better:
        rest = [item.label for item in sorted(better, key=lambda item: -item.value) if item is not best]
        sentence = (
            f"Explanations helped {observers(study)} predict the model: {best.label} most, with {_gap(best)} against "
            f"{reference}"
        )
        sentence += f"; {write.listing(rest)} also helped" if rest else "; no other helped reliably"
    else:
        sentence = (
            f"No explanation could be shown to help {observers(study)} predict the model: the largest difference from "
            f"{reference} is {_gap(best)}, for {best.label}"
        )
    return Answer(f"{sentence} ({tail(study)}).", _further(study, found, reference, helped=bool(better)))


def _gap(item: Estimate) -> str:
    return f"{write.points(item.value)} percentage points {interval_of(item)} of accuracy ({write.p_equation(item.p_adjusted)})"


def _further(study: Study, found: Sequence[Estimate], reference: str, *, helped: bool) -> str:
    parts = []
    worse = [item.label for item in found if item.value < 0]
    if worse:
        parts.append(
            f"Reliably below {reference if reference != study.baseline else 'the baseline'}: {write.listing(worse)}."
        )
    if not helped:
        parts.append(no_evidence())
    if any(item.label == "control" and item.value > 0 for item in found):
        parts.append(
            "The uninformative control helped too, so part of a gain need not come from what explanations say."
        )
    elif "control" in study.conditions and helped and reference != "control":
        parts.append("The uninformative control did not help reliably.")
    parts.append(f"p by Holm's rule, intervals {LEVEL:.0%}, not adjusted.")
    return " ".join(parts)
