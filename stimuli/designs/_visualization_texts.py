"""What a participant of a feature-visualisation study reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..protocol import Material
from ..records import Question, Texts
from ._references import ALL
from ._references_texts import pages
from ._visualization_draw import MADE

CHOOSE = """\
In each question you see two new pictures, A and B. One of them activates a detector strongly, the other does not. \
**Choose the one that activates it strongly.**

There is no time limit. If you are unsure, choose what seems more likely. You can click, or use the keys that stand below \
the pictures."""

COVERED = """\
In each question you see **one more picture that activates the detector strongly**, and two copies of it, A and B. In each copy a grey \
square covers another part. **Choose the copy that still activates the detector more.**

There is no time limit. If you are unsure, choose what seems more likely. You can click, or use the keys that stand below \
the pictures."""

LOOK = """\
There {are} examples beside the question. They activate the detector strongly.

Look for what they have in common. The copy in which it is still to be seen is the one to choose.{made}"""

CAUGHT = """\


**A few questions were easy on purpose:** one of the two copies was not covered at all. They show us whether the pictures were looked at."""

BARE_COVERED = """\
There are no further examples, so you cannot know what a detector answers to. Go by what you think that a detector of such a machine \
may favour in the picture."""

EXAMPLES = """\
Beside the two pictures there {are} examples. Those marked **{strong}** activate the detector strongly.{weak}

Look for what the strongly activating examples have in common, and choose the new picture that has it too.{made}"""

WEAK = " Those marked **{weak}** hardly activate it; not every question shows them."
WEAK_ALWAYS = " Those marked **{weak}** hardly activate it."
MADE_TOO = """\


Some examples are photographs or drawings; others were **made by a computer** for one detector, and look like patterns rather than things."""
SOFT = """\


Some examples are blurred on purpose."""
BARE = """\
There are no examples beside the two pictures, so you cannot know what a detector answers to. Go by what you think that a detector of \
such a machine may favour."""
BARE_TOO = """\


In one part of the study there are no examples. Then go by what you think that a detector of such a machine may favour."""

NEUTRAL = """\


Examples may be ordinary pictures or patterns, sharp or blurred."""
BARE_NEUTRAL = """\


Where there are no examples, go by what you think that a detector of such a machine may favour."""

DEBRIEF = """\
Thank you. This was the last question.

**What this study is about.** Researchers make pictures that show what a part of an image-sorting machine responds to. We want to know \
whether such pictures really help people, compared with ordinary pictures and with no examples at all.

**What differed.** {differed}"""

NAMES = {
    "natural": "ordinary pictures",
    "synthetic": "pictures made by a computer",
    "mixed": "both ordinary and made pictures",
    "blurred": "blurred pictures",
    "none": "no examples",
}


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's pages; they fit every condition, and what differs is told at the end only."""
    study = material.study
    covered = options["task"] == "occlusion"
    kinds = tuple(options["kinds"]) if study.conditions == (ALL,) else study.conditions
    between = len(study.conditions) > 1
    shown = [kind for kind in kinds if kind != "none"]
    body = _examples(options, shown, between) if shown else BARE_COVERED if covered else BARE
    if shown and "none" in kinds:
        body += BARE_NEUTRAL if between else BARE_TOO
    listed = ", ".join(NAMES[kind] for kind in kinds[:-1]) + (" or " if kinds[:-1] else "") + NAMES[kinds[-1]]
    differed = (
        f"Each person saw one kind of examples: {listed}."
        if between
        else f"Everyone was asked with {listed} beside the questions."
    )
    repeats = options["repeats"]
    right = "The one that activates the detector more" if covered else "The one that activates the detector strongly"
    return pages(
        study,
        task=[("Which picture does the detector favour?", COVERED if covered else CHOOSE), ("The examples", body)],
        debrief=DEBRIEF.format(differed=differed),
        quiz=[
            Question(
                question="Which picture do you choose?",
                options=("The one that I like better", right, "The one that is easier to name"),
                answer=right,
            )
        ],
        facts={**options, **({"caught": CAUGHT} if covered else {}), "catch": options["catch"] if shown else 0, "repeats": repeats},
    )  # fmt: skip


def _examples(options: Mapping[str, Any], shown: list[str], between: bool) -> str:
    strong, weak = options["labels"]
    schemes = options["schemes"]
    told = ""
    if options["task"] == "occlusion":
        soft = (MADE_TOO if set(shown) & set(MADE) else "") + (SOFT if "blurred" in shown else "")
        return LOOK.format(are="may be" if between else "are", made=NEUTRAL if between else soft)
    if any(scheme.startswith("min") for scheme in schemes):
        told = (WEAK_ALWAYS if all(scheme.startswith("min") for scheme in schemes) else WEAK).format(weak=weak)
    if between:
        return EXAMPLES.format(are="may be", strong=strong, weak=told, made=NEUTRAL)
    made = (MADE_TOO if set(shown) & set(MADE) else "") + (SOFT if "blurred" in shown else "")
    return EXAMPLES.format(are="are", strong=strong, weak=told, made=made)
