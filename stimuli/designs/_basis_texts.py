"""What a participant of a study of two bases reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..protocol import Material
from ..records import Question, Texts
from ._references_texts import counted, pages

TASK = """\
On one side you see {maximum} marked **{strong}**: {activate} one detector strongly.{weak}

In the middle are two new pictures, A and B. One of them activates the same detector strongly, the other does not. \
**Choose the one that activates it strongly.**

Look for what the strongly activating examples have in common. Not every detector is easy: if you are unsure, choose what seems more \
likely. You can click, or use the keys that stand below the pictures."""

WEAK = " On the other side there {are} {minimum} marked **{name}**, which hardly activate{s} it."

DEBRIEF = """\
Thank you. This was the last question.

**What this study is about.** Researchers try to find out what the parts of an image-sorting machine respond to. One can look at its \
single units, or compute new detectors that combine many units. We want to know which of the two people understand better.

**What differed.** Half of the questions were about single units, the other half about combined detectors, in a mixed order. \
{between}"""

BETWEEN = "How the examples were chosen differed between people."
WITHIN = "Everyone was asked the same kinds of questions."
MIXED = " Where examples were mixed, some of them belonged to another detector, which makes these questions harder by design."


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's pages with the study's own numbers and contact."""
    study = material.study
    strong, weak = options["labels"]
    many = options["minimum"] != 1
    told = WEAK.format(
        are="are" if many else "is", minimum=counted(options["minimum"]), name=weak, s="" if many else "s"
    )
    task = TASK.format(
        maximum=counted(options["maximum"]),
        strong=strong,
        activate="it activates" if options["maximum"] == 1 else "all of them activate",
        weak=told if options["minimum"] else "",
    )
    debrief = DEBRIEF.format(between=BETWEEN if len(study.conditions) > 1 else WITHIN)
    if "mixed" in (*study.conditions, *(options["references"] if study.conditions == ("all",) else ())):
        task = task.replace("all of them activate", "most or some of them activate")
        debrief += MIXED
    return pages(
        study,
        task=[("Which picture belongs to the detector?", task)],
        debrief=debrief,
        quiz=[
            Question(
                question="Which picture do you choose?",
                options=(
                    "The one that activates the detector strongly",
                    "The one that I like better",
                    "The one that I have seen before",
                ),
                answer="The one that activates the detector strongly",
            )
        ],
        facts={**options, "repeats": 0, "feedback": False},
    )
