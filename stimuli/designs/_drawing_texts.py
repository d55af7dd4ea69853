"""What participants of the drawing protocol read, unless the study file brings its own texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..protocol import Material
from ..records import Page, Question, Texts

CONSENT = """\
You are invited to take part in a research study. It asks {asks}

**What you will do.** You {do} {count} line drawings. It takes about {minutes} minutes. There is no risk beyond that of looking at a \
screen and using a mouse or a finger.{pay}

**What we keep.** {kept}, when, and plain facts about your screen, such as the size of the window. They are stored under a random number \
and not under your name. We may publish them in that form, so that others can check our results.{writing}

**Your choice.** Taking part is voluntary. You may stop at any time, without giving a reason, with the button **Withdraw**. Your \
answers are then deleted.

**Questions.** Write to {contact}.

By going on you confirm that you are at least 18 years old, that you can see pictures on this screen well, that you have read this \
page, and that you agree to take part."""

WRITING = """ Please draw only what you are asked for, and write no names."""

ANOTHER = """\
Each time you see **one** small drawing. {what}

Then you draw **another one of the same kind**, on an empty sheet. Imagine that many people drew the same thing: no two of their drawings are \
alike, but each shows the same thing. Yours is one more of them. **Do not trace or copy it line by line, and do not invent something else.**"""

SIGNS = "It is a sign that you have never seen before."
THINGS = "It shows a simple thing."

SHEET = """\
You draw with a mouse, a finger or a pen. Keys work too: the line below the sheet says how.

The example may stay in view, or it may go before the sheet comes. Look at it well.

You have {seconds} seconds for each drawing, and you can take lines back. Nobody judges how beautiful it is. If you cannot do anything with \
an example, you may skip it; please do not skip often.{practice}"""

PRACTISED = """

The first {practice} {is_are} for practice."""

REVEAL = """\
Each round hides one line drawing. Above it you read **what it shows**.

Press **Start** and move over it. It is uncovered where you go, a small square at a time. Uncover **the parts that show best what it is**, \
and as little else as you can. A round lasts {seconds} seconds at most.

Say yourself when what you have uncovered is enough for somebody else to see what it is. If you cannot do anything with a drawing, you may \
skip it; please do not skip often.{practice}"""

DEBRIEF_DRAW = """\
Thank you. This was the last drawing.

**What this study is about.** People can make new examples of a thing after seeing a single one. So can some computer programs. We ask how easily \
drawings are recognised, and how much they differ from each other, for people and for programs. A computer compares the drawings; your skill \
is not rated.{differed}

If you have questions, write to {contact}."""

DIFFERED = """

**What differed between people.** For some the example stayed in view while they drew, others drew from memory."""

DEBRIEF_REVEAL = """\
Thank you. This was the last round.

**What this study is about.** We put together what many people uncovered and get, for each drawing, a map of the parts that matter to people. \
We then ask whether computers that recognise drawings go by the same parts.

If you have questions, write to {contact}."""


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's pages with the study's own numbers and contact; all conditions read the same ones."""
    study, draws = material.study, options["task"] == "draw"
    practice = options["practice"]
    told = PRACTISED.format(practice=practice, is_are="is" if practice == 1 else "are") if practice else ""
    facts = {
        "asks": "how people draw new examples of something after seeing one."
        if draws
        else "which parts of a drawing show people what it is.",
        "do": "make" if draws else "uncover",
        "count": options["drawings"] + practice,
        "minutes": f"{study.recruitment.minutes:g}",
        "pay": f" You receive {study.recruitment.pay} for taking part." if study.recruitment.pay else "",
        "kept": "Your drawings, line by line" if draws else "Where you uncover the drawings",
        "writing": WRITING if draws else "",
        "contact": study.contact or "",
        "seconds": f"{options['limit_ms' if draws else 'reveal_ms'] / 1000:g}",
        "practice": told,
        "what": SIGNS if options["family"] == "glyphs" else THINGS,
        "differed": DIFFERED if len(study.conditions) > 1 else "",
    }
    pages = [("Draw another one", ANOTHER), ("The sheet", SHEET)] if draws else [("Show what it is", REVEAL)]
    return Texts(
        consent=Page(title="Before you start", body=CONSENT.format(**facts)),
        instructions=tuple(Page(title=title, body=body.format(**facts)) for title, body in pages),
        quiz=(_quiz(draws),),
        debrief=Page(title="What this was about", body=(DEBRIEF_DRAW if draws else DEBRIEF_REVEAL).format(**facts)),
        contact=study.contact or "",
    )


def _quiz(draws: bool) -> Question:
    if draws:
        right = "Another one of the same kind"
        return Question(
            question="What should you draw?",
            options=("An exact copy of the example", right, "Whatever I like"),
            answer=right,
        )
    right = "The parts that show best what it is"
    return Question(
        question="What should you uncover?",
        options=("As much of the drawing as possible", right, "Only the edges of the drawing"),
        answer=right,
    )
