"""What a participant of the utility protocol reads, unless the study file brings its own texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..protocol import Material
from ..records import Page, Texts
from ._utility_concepts import ROLE as CONCEPTS

CONSENT = """\
You are invited to take part in a research study. It asks how well people can learn what an image-sorting machine will answer.

**What you will do.** You look at pictures together with the answers that a machine gave, and then predict its answers for new \
pictures. It takes about {minutes} minutes. There is no risk beyond that of looking at pictures on a screen.{pay}

**What we keep.** Your answers, how long they took, and plain facts about your screen, such as the size of the window. They are stored \
under a random number and not under your name. We may publish them in that form, so that others can check our results.

**Your choice.** Taking part is voluntary. You may stop at any time, without giving a reason, with the button **Withdraw**. \
Your answers are then deleted.

**Questions.** Write to {contact}.

By going on you confirm that you are at least 18 years old, that you can see pictures on this screen well, \
that you have read this page, and that you agree to take part."""

TASK = """\
A machine sorts pictures into two classes: **{first}** and **{second}**.

The machine has learnt this by itself, from examples. Nobody told it what to look at, and **it makes mistakes**.

Your task is to find out how the machine decides, and to **predict the machine's answer**. The right answer is what the machine says, \
even when you can see that the machine is mistaken."""

LEARN = """\
The study has {sessions}, with two parts each.

**Part 1: learn.** You see {train}, one after the other, each with the class the machine gave it. Take your time: look for what \
the machine may be going by.

Next to the picture there may be a second, coloured version of it, which marks places in the picture: {colours}. It is meant to help you \
to find out what the machine goes by."""

PREDICT = """\
**Part 2: predict.** You see {asked} without the machine's answer. Choose the class that you think **the machine** gives. \
You can click, or use the left and right arrow keys.

The pictures you have learnt from stay within reach, with the machine's answers, so there is nothing to memorise. \
You are not told whether you were right, but you see more examples in each round."""

PRACTICE = """\
First, a short practice with **another machine**. It was meant to tell drawings of **circles** from drawings of **squares**, but it has \
learnt something else.

Its answers to four drawings stay on the screen. Work out what it goes by, and predict its answer to each new drawing. Here you are told \
the machine's answer after each one, and practice starts again if a prediction was wrong.

What you find out about this machine tells you nothing about the machine in the study."""

DEBRIEF = """\
Thank you. This was the last picture.

**What this study is about.** Computers that recognise pictures sometimes rely on the wrong thing, for example on the background. \
There are methods that colour a picture to explain what the computer used. We want to know which of them really help people to understand it.

**What differed between people.** Some people saw only the pictures and the machine's answers. Others also saw coloured pictures made by \
one of these methods, or, for comparison, coloured pictures that know nothing about the machine. If a method is any use, people who \
saw it should predict the machine better.

**A few pictures came twice.** They show us whether the examples on the screen were looked at.

If you have questions, write to {contact}."""

LIGHT = "the lighter the colour, the more the place matters"
SIGNED = "orange where it speaks for the machine's answer, blue where it speaks against it"


BOARD = """\
Instead of one coloured version there may be rows of small pictures. Each row is one thing that the machine goes by: first where it \
is in this picture ({colours}), then pieces of other pictures in which the machine finds the same thing. The first row matters most."""


def texts(material: Material, options: Mapping[str, Any], classes: tuple[str, str]) -> Texts:
    """Write the protocol's pages with the study's own numbers, classes and contact."""
    study = material.study
    first, second = classes
    facts = {
        "first": first,
        "second": second,
        "minutes": f"{study.recruitment.minutes:g}",
        "pay": f" You receive {study.recruitment.pay} for taking part." if study.recruitment.pay else "",
        "contact": study.contact or "",
        "sessions": _count(options["sessions"], "round"),
        "train": _count(options["train"], "picture"),
        "asked": _count(options["test"] + options["catch"], "picture"),
        "colours": SIGNED if options["show"] == "signed" else LIGHT,
    }
    learn = LEARN
    if any(role.startswith(CONCEPTS) for role in material.artifacts):
        learn = f"{LEARN}\n\n{BOARD}"
    pages = [("Predict the machine", TASK), ("First you learn", learn), ("Then you predict", PREDICT)]
    if options["practice"]:
        pages.append(("A little practice first", PRACTICE))
    return Texts(
        consent=Page(title="Before you start", body=CONSENT.format(**facts)),
        instructions=tuple(Page(title=title, body=body.format(**facts)) for title, body in pages),
        debrief=Page(title="What this was about", body=DEBRIEF.format(**facts)),
        contact=study.contact or "",
    )


def _count(number: int, noun: str) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return f"{words[number] if number < len(words) else number} {noun}{'' if number == 1 else 's'}"
