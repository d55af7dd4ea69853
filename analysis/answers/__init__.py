"""The answer of a report: one sentence that answers the question of the study's protocol, and what must be known beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .. import format as write
from ..battery import UTILITY, Battery, analysis_of
from ..load.study import Study
from ..results import Estimate, Result
from .made import clickme_answer, drawing_answer
from .utility import utility_answer
from .words import (
    Answer,
    by_value,
    capital,
    closing,
    no_evidence,
    nothing,
    number_said,
    observers,
    points_said,
    reliable,
    share_said,
    tail,
)


def answer(study: Study, battery: Battery) -> Answer:
    """Answer the study's question from its primary analysis."""
    primary = battery.primary
    if analysis_of(study) == UTILITY:
        return utility_answer(study, primary)
    if not any(math.isfinite(item.value) for item in primary.estimates):
        return nothing(study, primary)
    own = _OWN.get(study.protocol) or _OWN.get(analysis_of(study)) or _crossed
    return own(study, primary) or _crossed(study, primary) or nothing(study, primary)


def _verdict(study: Study, item: Estimate, more: str, less: str) -> Answer:
    """State a comparison: what was expected, its reverse, or that neither could be shown."""
    who, gap = observers(study), f"{points_said(item)}; {tail(study)}"
    if reliable(item):
        return Answer(f"{capital(who)} {more if item.value > 0 else less}: {gap}.", closing())
    return Answer(f"It could not be shown that {who} {more}: {gap}.", f"{no_evidence()} {closing()}")


def _with(made: Answer, *more: str) -> Answer:
    return Answer(made.sentence, " ".join([*(one for one in more if one), made.further]))


def _find(primary: Result, quantity: str, label: str) -> Estimate | None:
    return next((item for item in primary.of(quantity) if item.label == label), None)


def _basis(study: Study, primary: Result) -> Answer | None:
    gap = _find(primary, "accuracy difference of basis", "dictionary - neuron")
    if gap is None:
        return None
    verb = "recognised what directions of a dictionary respond to {} than what single neurons respond to"
    made = _verdict(study, gap, verb.format("better"), verb.format("less well"))
    layers = primary.of("accuracy difference of basis at layer")
    said = [f"{item.label.rpartition(' at ')[2]} {points_said(item)}" for item in layers]
    growth = next((item for item in primary.of("term") if item.label == "basis:layer"), None)
    test = f"; does it differ between layers: {write.test(growth)}, {write.p_equation(growth.p)}" if growth else ""
    return _with(made, f"By layer: {'; '.join(said)}{test}." if said else "")


def _visualization(study: Study, primary: Result) -> Answer | None:
    gaps = [item for item in primary.of("accuracy difference of reference") if item.label.endswith(" - none")]
    if not gaps:
        return None
    best = by_value(gaps)[0]
    kinds = {item.label: item for item in primary.of("accuracy of reference")}
    kind = best.label.removesuffix(" - none")
    verb = f"told {{}} which picture activates a unit with {kind} references than with none"
    made = _verdict(study, best, verb.format("better"), verb.format("less well"))
    means = [f"{name} {share_said(item)}" for name, item in kinds.items()]
    others = [f"{item.label} {points_said(item)}" for item in gaps if item is not best]
    return _with(made, f"Accuracy: {'; '.join(means)}.", f"Also {'; '.join(others)}." if others else "")


def _against_chance(done: str) -> Callable[[Study, Result], Answer | None]:
    """Answer a question of accuracy over chance, by condition."""

    def made(study: Study, primary: Result) -> Answer | None:
        above = by_value(primary.of("above chance of condition"))
        means = {item.label: item for item in primary.of("accuracy of condition")}
        if not above:
            return None
        found = [item for item in above if reliable(item) and item.value > 0]
        told = "; ".join(f"{item.label} {share_said(means[item.label], item)}" for item in found or above[:1])
        who = observers(study)
        missed = [item.label for item in above if item not in found]
        if found:
            head = f"{capital(who)} {done} better than chance: {told}"
            head += f"; not shown for {write.listing(missed)}" if missed else ""
            further = closing()
        else:
            head = f"It could not be shown that {who} {done} better than chance: {told}"
            further = f"{no_evidence()} {closing()}"
        gaps = [f"{item.label} {points_said(item)}" for item in primary.of("accuracy difference of condition")]
        where = [f"{item.label} {share_said(item)}" for item in primary.of("accuracy of condition x machine")]
        return _with(
            Answer(f"{head} ({tail(study)}).", further),
            f"Between conditions: {'; '.join(gaps)}." if gaps else "",
            f"By condition and whether the model was right: {'; '.join(where)}." if where else "",
        )

    return made


def _agreement(study: Study, primary: Result) -> Answer | None:
    shown = [item for item in primary.of("accuracy") if item.label != study.baseline] or list(primary.of("accuracy"))
    if not shown:
        return None
    best = by_value(shown)[0]
    wrong = _find(primary, "accuracy, machine wrong", best.label)
    right = _find(primary, "accuracy, machine right", best.label)
    bias = _find(primary, "bias to agree", best.label)
    who, told = observers(study), f"accuracy {share_said(best)}"
    better = reliable(best) and best.value > (study.chance or 0.5)
    claim = f"who saw {best.label} told right from wrong predictions better than chance"
    if wrong is not None:
        side = "above" if wrong.value > (study.chance or 0.5) else "below"
        also = f"{side} chance" if reliable(wrong) else "not told from chance"
        told += f"; where the model was wrong {share_said(wrong)}, {also}"
    head = f"{capital(who)} {claim}" if better else f"It could not be shown that {who} {claim}"
    rest = [f"{item.label} {share_said(item)}" for item in primary.of("accuracy") if item is not best]
    lines = [
        f"Other conditions: {'; '.join(rest)}." if rest else "",
        f"Where the model was right: {share_said(right)}." if right else "",
        f"Bias to agree (right less wrong): {points_said(bias)}." if bias else "",
        "" if better else no_evidence(),
    ]
    return _with(Answer(f"{head}: {told} ({tail(study)}).", closing()), *lines)


def _preference(study: Study, primary: Result) -> Answer | None:
    ranked = by_value(primary.of("preference"))
    test = next((item for item in primary.of("term") if item.label.startswith("all strengths")), None)
    if not ranked:
        return None
    best, who = ranked[0], observers(study)
    chosen = f"{best.label} was chosen over an equally strong mixture of all with a probability of {share_said(best)}"
    whole = f"{write.test(test)}, {write.p_equation(test.p)}" if test else "no joint test, too few people"
    if test is not None and reliable(test):
        head = f"{capital(who)} preferred some explanations over others ({whole}): {chosen}"
        further = closing()
    else:
        head = f"It could not be shown that {who} prefer some explanations over others ({whole}): {chosen}"
        further = f"{no_evidence()} {closing()}"
    others = [f"{item.label} {share_said(item)}" for item in ranked[1:]]
    order = next(iter(primary.of("order")), None)
    return _with(
        Answer(f"{head} ({tail(study, chance=False)}; without preference 50.0 %).", further),
        f"The others: {'; '.join(others)}." if others else "",
        f"Advantage of the left side, in log-odds: {number_said(order)}." if order else "",
    )


def _oddone(study: Study, primary: Result) -> Answer | None:
    gap = next(iter(primary.of("accuracy difference of composition over rules, people")), None)
    if gap is None or not gap.interval:
        gap = next(iter(primary.of("accuracy difference of composition (mixed model)")), None)
    if gap is None:
        return None
    verb = "found elementary rules {} than compositions of two"
    if not gap.label.startswith("elementary"):
        verb = "found compositions of two {} than elementary rules"
    made = _verdict(study, gap, verb.format("more easily"), verb.format("less easily"))
    above = primary.of("above chance of rule, people")
    found = [item.label for item in above if reliable(item) and item.value > 0]
    slope = next(iter(primary.of("slope of problem within observers, people")), None)
    apart = next(iter(primary.of("people minus networks over rules")), None)
    return _with(
        made,
        f"{len(found)} of {write.count(len(above), 'rule')} were found above chance." if above else "",
        f"Learning within a block: {points_said(slope)} for one problem more." if slope and slope.interval else "",
        f"People less networks, over rules: {points_said(apart)}." if apart and apart.interval else "",
    )


def _crossed(study: Study, primary: Result) -> Answer | None:
    """Answer for any design: the largest difference of the first factor, else the mean against chance."""
    for quantity in dict.fromkeys(item.quantity for item in primary.estimates):
        kind, found, factor = quantity.partition(" difference of ")
        if found and " at " not in factor:
            return _largest(study, primary.of(quantity), factor, accuracy=kind == "accuracy")
    slopes = [item for item in primary.estimates if item.quantity.startswith("slope of ") and math.isfinite(item.p)]
    if slopes:
        return _slope(study, slopes[0])
    above = [item for item in primary.estimates if item.quantity.startswith("above chance")]
    if above:
        mean = next(i for i in primary.estimates if i.quantity.startswith("accuracy") and i.label == above[0].label)
        return _overall(study, mean, above[0])
    first = next((item for item in primary.estimates if item.interval and math.isfinite(item.value)), None)
    if first is None:
        return None
    said = share_said(first) if first.quantity.startswith("accuracy") else number_said(first)
    return Answer(f"{capital(first.quantity)} was {said} ({tail(study)}).", f"Nothing was compared. {closing()}")


def _largest(study: Study, gaps: Sequence[Estimate], factor: str, *, accuracy: bool) -> Answer:
    best = max(gaps, key=lambda item: (abs(item.value), item.label))
    said = points_said(best) if accuracy else number_said(best)
    what = "accuracy" if accuracy else "the mean"
    found = [item for item in gaps if reliable(item)]
    counted = f"{len(found)} of {write.count(len(gaps), 'comparison')} told apart. " if len(gaps) > 1 else ""
    if reliable(best):
        return Answer(
            f"{capital(what)} differed by {factor}: {best.label} {said} ({tail(study)}).", counted + closing()
        )
    return Answer(
        f"No difference of {what} by {factor} could be shown: the largest is {best.label} {said} ({tail(study)}).",
        f"{no_evidence()} {counted}{closing()}",
    )


def _slope(study: Study, item: Estimate) -> Answer:
    name = item.quantity.removeprefix("slope of ")
    said = f"{number_said(item)} {item.label} ({tail(study)})"
    if reliable(item):
        return Answer(f"Answers changed with {name}: {said}.", closing())
    return Answer(f"No change with {name} could be shown: {said}.", f"{no_evidence()} {closing()}")


def _overall(study: Study, mean: Estimate, above: Estimate) -> Answer:
    said = f"{share_said(mean, above)} ({tail(study)})"
    if reliable(above):
        side = "above" if above.value > 0 else "below"
        return Answer(f"Accuracy was {side} chance: {said}.", closing())
    return Answer(f"Accuracy could not be told from chance: {said}.", f"{no_evidence()} {closing()}")


_OWN: dict[str, Callable[[Study, Result], Answer | None]] = {
    "basis": _basis,
    "visualization": _visualization,
    "agreement": _agreement,
    "distinction": _against_chance("picked the explanation of the right class"),
    "intruder": _against_chance("found the crop of another concept"),
    "subcluster": _against_chance("put crops with their sub-concept"),
    "preference": _preference,
    "clickme": clickme_answer,
    "drawing": drawing_answer,
    "oddone": _oddone,
}
"""By protocol, or by analysis where the protocol has none of its own."""
