"""The answers of protocols whose people make something: importance maps uncovered, drawings drawn."""

from __future__ import annotations

import math

from .. import format as write
from ..load.study import Study
from ..results import Result
from .words import (
    Answer,
    capital,
    closing,
    interval_of,
    no_evidence,
    number_said,
    observers,
    reliable,
    tail,
)


def clickme_answer(study: Study, primary: Result) -> Answer | None:
    """Answer whether players uncover the same parts of a picture."""
    above = primary.of("split-half correlation above null")
    if not above or not math.isfinite(above[-1].value):
        return None
    gap = above[-1]
    ceiling = next((item for item in primary.of("split-half ceiling") if item.label == gap.label), None)
    agreed, who = gap.low > 0, observers(study)
    claim = "uncovered the same parts of a picture"
    head = f"{capital(who)} {claim}" if agreed else f"It could not be shown that {who} {claim}"
    told = (
        f"maps of two halves of them correlate by {write.number(gap.value)} {interval_of(gap, 2, scale=1)} more than with "
        f"the maps of other pictures"
    )
    people = study.answers()["participant_id"].nunique()
    kind = "simulated observer" if study.simulated else "participant"
    counts = f"{write.count(gap.n, 'picture')}, {write.count(people, kind)}"
    null = f"Split-half ceiling {number_said(ceiling)}; other pictures' maps give {write.number(float(ceiling.extra['null']))}." if ceiling else ""  # fmt: skip
    rest = closing() if agreed else f"{no_evidence()} {closing()}"
    return Answer(f"{head}: {told} ({counts}).", " ".join(part for part in (null, rest) if part))


def drawing_answer(study: Study, primary: Result) -> Answer | None:
    """Answer whether new drawings are recognised, and how much they differ; of uncovered sketches, what `clickme_answer` does."""
    if primary.name == "clickme":
        return clickme_answer(study, primary)
    above = {item.label: item for item in primary.of("recognisability above null")}
    means = {item.label: item for item in primary.of("recognisability")}
    spread = {item.label: item for item in primary.of("diversity")}
    names = [name for name in study.conditions if name in means and name in above and name in spread]
    if not names:
        return None
    found = [name for name in names if reliable(above[name]) and above[name].value > 0]
    said = [
        f"{name} recognisability {number_said(means[name])}, {number_said(above[name])} above the null, with a diversity "
        f"of {number_said(spread[name])}"
        for name in found or names
    ]
    who, missed = observers(study), [name for name in names if name not in found]
    if found:
        head = f"{capital(who)} who saw one example drew new ones that are recognised: {'; '.join(said)}"
        head += f"; not shown for {write.listing(missed)}" if missed else ""
    else:
        head = f"It could not be shown that drawings of {who} are recognised: {'; '.join(said)}"
    gaps = [
        f"{item.quantity} {item.label} {number_said(item)}"
        for item in (*primary.of("recognisability difference"), *primary.of("diversity difference"))
        if set(item.label.replace("\N{MINUS SIGN}", "-").split(" - ")) <= set(names)
    ]
    parts = [f"Between conditions: {'; '.join(gaps)}." if gaps else "", "" if found else no_evidence(), closing()]
    return Answer(f"{head} ({tail(study)}).", " ".join(part for part in parts if part))
