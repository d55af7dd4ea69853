"""What a player of the reveal game reads, unless the study file brings its own texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..protocol import Material
from ..records import Page, Question, Texts

CONSENT = """\
You are invited to take part in a research study. It asks which parts of a picture show people what it is.

**What you will do.** You play {rounds} short rounds with pictures. It takes about {minutes} minutes. There is no risk beyond that of \
looking at pictures on a screen.{pay}

**What we keep.** Where you {act}, when, and plain facts about your screen, such as the size of the window. They are stored under a \
random number and not under your name. We may publish them in that form, so that others can check our results.

**Your choice.** Taking part is voluntary. You may stop at any time, without giving a reason, with the button **Withdraw**. Your \
answers are then deleted.

**Questions.** Write to {contact}.

By going on you confirm that you are at least 18 years old, that you can see pictures on this screen well, that you have read this \
page, and that you agree to take part."""

REVEAL = """\
Each round hides one picture. Above it you read **what is in it**.

Press **Start** and move over the picture. It is uncovered where you go, a small square at a time. Move slowly: one square follows \
the other, and it cannot jump.

Uncover **the parts that show best what it is**, and as little else as you can. A round lasts {seconds} seconds at most."""

LIGHT = """\
Each round shows one dimmed picture. Above it you read **what is in it**.

Press **Start** and move over the picture. It is lit up where you go, a small square at a time. Move slowly: one square follows the \
other, and it cannot jump.

Light up **the parts that show best what it is**, and as little else as you can. A round lasts {seconds} seconds at most."""

CLICK = """\
Each round shows one picture. Above it you read **what is in it**.

Press **Start** and mark **the places that show best what it is**, and as few as you need. A round lasts {seconds} seconds at most."""

WATCHED = """\
In {which} a **machine** looks on. It sees only {seen}, and has to find out what the picture shows. When it does, you have won the round. \
The more time is left, the more points you get.{told}

When no machine looks on, you say yourself when it is enough.

If you cannot do anything with a picture, you may skip it. Please do not skip often."""

TOLD = " You read what it takes the picture for."

UNWATCHED = """\
Say yourself when what you have {done} is enough for somebody else to see what it is.

If you cannot do anything with a picture, you may skip it. Please do not skip often."""

DEBRIEF = """\
Thank you. This was the last round.

**What this study is about.** We put together what many people {done} and get, for each picture, a map of the parts that matter to \
people. We then ask whether computers that recognise pictures go by the same parts.{differed}{catch}

If you have questions, write to {contact}."""

DIFFERED = """

**What differed between people.** With some people a machine looked on in every round, with others it did not. We want to know whether \
that changes which parts people choose."""

CAUGHT = """

**A few rounds were easy on purpose.** Their pictures are ones that the machine recognises well. They show us whether people were \
playing in earnest."""

VERBS = {
    "reveal": ("uncover the pictures", "uncovered", "uncover"),
    "light": ("light up the pictures", "lit up", "light up"),
    "click": ("mark the pictures", "marked", "mark"),
}
"""What people do, by what they see: in the consent, in the past, and in the question about the instructions."""


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's pages with the study's own numbers and contact."""
    study = material.study
    look = "click" if options["mode"] == "click" else "light" if options["visible"] else "reveal"
    act, done, verb = VERBS[look]
    # What differs between people is told at the end only, so every condition reads the same pages.
    watched = "oracle" in study.conditions or options["catch"] > 0
    always = study.conditions == ("oracle",)
    facts = {
        "rounds": options["rounds"] + options["catch"] + options["practice"],
        "minutes": f"{study.recruitment.minutes:g}",
        "pay": f" You receive {study.recruitment.pay} for taking part." if study.recruitment.pay else "",
        "contact": study.contact or "",
        "seconds": f"{options['limit_ms'] / 1000:g}",
        "act": act,
        "done": done,
        "seen": "small squares at the places you have marked" if look == "click" else f"what you have {done}",
        "told": TOLD if options["told"] else "",
        "which": "every round" if always else "some rounds, or in all of them,",
        "differed": DIFFERED if len(study.conditions) > 1 else "",
        "catch": CAUGHT if options["catch"] else "",
    }
    how = (
        WATCHED.replace("When no machine looks on, you say yourself when it is enough.\n\n", "") if always else WATCHED
    )
    pages = [
        ("Show what it is", {"reveal": REVEAL, "light": LIGHT, "click": CLICK}[look]),
        ("When a round ends", how if watched else UNWATCHED),
    ]
    right = "The parts that show best what it is"
    quiz = Question(
        question=f"What should you {verb}?",
        options=("As much of the picture as possible", right, "Only the edges of the picture"),
        answer=right,
    )
    return Texts(
        consent=Page(title="Before you start", body=CONSENT.format(**facts)),
        instructions=tuple(Page(title=title, body=body.format(**facts)) for title, body in pages),
        quiz=(quiz,),
        debrief=Page(title="What this was about", body=DEBRIEF.format(**facts)),
        contact=study.contact or "",
    )
