"""What a participant of the agreement protocol reads, unless the study file brings its own texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records import Question, StudyFile, Texts
from ._panels import LIGHT, SIGNED, pages

DEBRIEF = """\
Thank you. This was the last question.

**What this study is about.** Computers that recognise pictures make mistakes. There are methods that colour a picture to explain \
what the computer used. We want to know whether these explanations help people to see when the computer is wrong, or whether they \
make people believe it.

**What differed between people.** Some saw no explanation, and others saw explanations of different kinds. Some kinds may know \
nothing about the machine: they are there for comparison. People also saw different pictures.

**Right and wrong.** The machine's answer was right in exactly half of the questions. Machines of this kind are often right more \
often than that. We chose the pictures so that both cases are equally frequent."""


def texts(study: StudyFile, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's pages with the study's own numbers and contact."""
    colours = SIGNED if options["show"] == "signed" else LIGHT
    task = (
        "A machine looks at pictures and says what is on them. It has learnt this from examples, and **it makes mistakes**.\n\n"
        f"You see {options['trials']} pictures, one after the other, each with the machine's answer. Say how sure you are that "
        "the **machine's answer is right**: from 1 (confident it is wrong) to 4 (confident it is right). You can click, or use "
        "the keys 1 to 4.\n\n"
        "Next to the picture there may be an explanation of the machine's answer: a coloured version of the picture, "
        f"{colours}."
    )
    beside = (
        "\n\nFirst you see two examples: one right and one wrong answer, with the truth." if options["preview"] else ""
    )
    quiz = Question(
        question="What are you asked to judge?",
        options=(
            "Whether the machine's answer is right",
            "Whether the picture is pretty",
            "How quickly the machine answered",
        ),
        answer="Whether the machine's answer is right",
    )
    return pages(
        study,
        about="It asks whether people can tell when an image-recognising machine is wrong.",
        doing="You look at pictures with the answer that a machine gave, and say whether the answer is right.",
        instructions=[("Is the machine right?", task + beside)],
        debrief=DEBRIEF,
        quiz=[quiz],
    )
