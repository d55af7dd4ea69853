"""What a participant of the odd-one-out protocol reads, unless the study file brings its own texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records import Page, Question, StudyFile, Texts

CONSENT = """\
You are invited to take part in a research study. It asks how people find visual rules, and how quickly they learn them.

**What you will do.** You look at four pictures at a time and find the one that does not fit. It takes about {minutes} minutes. \
There is no risk beyond that of looking at pictures on a screen.{pay}

**What we keep.** Your answers, how sure you were, how long they took,{written} and plain facts about your screen, such as the size of \
the window. They are stored under a random number and not under your name. We may publish them in that form, so that others can check \
our results.{private}

**Your choice.** Taking part is voluntary. You may stop at any time, without giving a reason, with the button **Withdraw**. \
Your answers are then deleted.

**Questions.** Write to {contact}.

By going on you confirm that you are at least 18 years old, that you can see pictures on this screen well, \
that you have read this page, and that you agree to take part."""

TASK = """\
Each time you see **four pictures**. Three of them follow a rule, and **one does not**. Your task is to find that one: the odd one out.

For example, three pictures could show a striped pattern, and one a dotted one. Everything else can differ as well, between all four \
pictures: that is not the rule."""

BLOCKS = """\
The study has {blocks}, each with {problems}.

**Within a part the rule stays the same**, so you can learn what matters. **From part to part the rule changes.** You are told when that \
happens. Nobody tells you the rule: you have to find it.

A rule can be about two things at once. Then the odd one breaks only one of the two, sometimes the one and sometimes the other."""

ANSWER = """\
Click the picture that you think is the odd one, or use the keys shown below the pictures. Then say **how sure you are**, from 0 (you \
guessed) to 100 (you are certain).

{feedback}{describe}There is no time limit. If you are not sure, choose what seems best."""

FEEDBACK = "After each answer you are told whether it was right, and which picture was the odd one.\n\n"
SILENT = "In practice you are told whether an answer was right, later you are not.\n\n"
DESCRIBE = "At the end of each part you describe the rule in your own words. A few words are enough.\n\n"

DEBRIEF = """\
Thank you. This was the last part.

**What this study is about.** People often find a visual rule after a few examples; computers that recognise pictures often need \
thousands. We show the same pictures to both and compare how quickly they learn each rule, and which rules are hard for whom.

**What differed between people.** You saw {shown} of {rules} rules. Others saw other rules, or the same ones in another order, and with \
the pictures of each problem in other places.

If you have questions, write to {contact}."""


def texts(study: StudyFile, options: Mapping[str, Any], rules: int) -> Texts:
    """Write the protocol's pages with the study's own numbers and contact."""
    describe = options["describe"]
    facts = {
        "minutes": f"{study.recruitment.minutes:g}",
        "pay": f" You receive {study.recruitment.pay} for taking part." if study.recruitment.pay else "",
        "contact": study.contact or "",
        "written": " what you write about each rule," if describe else "",
        "private": " Please write nothing about yourself or others where you are asked to describe a rule."
        if describe
        else "",
        "blocks": _count(options["sessions"], "part"),
        "problems": _count(options["problems"], "problem"),
        "feedback": FEEDBACK if options["feedback"] else SILENT,
        "describe": DESCRIBE if describe else "",
        "shown": options["sessions"],
        "rules": rules,
    }
    pages = (("Find the odd one out", TASK), ("The rule changes", BLOCKS), ("How to answer", ANSWER))
    return Texts(
        consent=Page(title="Before you start", body=CONSENT.format(**facts)),
        instructions=tuple(Page(title=title, body=body.format(**facts)) for title, body in pages),
        quiz=_quiz(options["sessions"]) if options["quiz"] else (),
        debrief=Page(title="What this was about", body=DEBRIEF.format(**facts)),
        contact=study.contact or "",
    )


def _quiz(blocks: int) -> tuple[Question, ...]:
    found = [
        Question(
            question="What do you look for?",
            options=(
                "The picture I like best",
                "The picture that does not follow the rule",
                "The picture with most in it",
            ),
            answer="The picture that does not follow the rule",
        ),
        Question(
            question="How many of the four pictures follow the rule?",
            options=("One", "Two", "Three"),
            answer="Three",
        ),
    ]
    if blocks > 1:
        found.append(
            Question(
                question="When does the rule change?",
                options=("With every problem", "From part to part, and I am told", "Never"),
                answer="From part to part, and I am told",
            )
        )
    return tuple(found)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
