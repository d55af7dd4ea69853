"""What participants of the studies with reference grids read, unless the study file brings its own texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..records import Page, Question, StudyFile, Texts

CONSENT = """\
You are invited to take part in a research study. It asks what people can tell about the parts of an image-sorting machine.

**What you will do.** You look at pictures and choose, again and again, one of two. It takes about {minutes} minutes. \
There is no risk beyond that of looking at pictures on a screen.{pay}

**What we keep.** Your answers, how long they took, and plain facts about your screen, such as the size of the window. They are stored \
under a random number and not under your name. We may publish them in that form, so that others can check our results.

**Your choice.** Taking part is voluntary. You may stop at any time, without giving a reason, with the button **Withdraw**. \
Your answers are then deleted.

**Questions.** Write to {contact}.

By going on you confirm that you are at least 18 years old, that you can see pictures and colours on this screen well, \
that you have read this page, and that you agree to take part."""

DETECTORS = """\
A machine that sorts pictures has many small parts, which we call **detectors**. Each detector answers to something in a picture: \
a colour, a texture, a shape, a thing. Nobody told the detectors what to answer to. The machine has learnt it by itself.

Some pictures activate a detector strongly. Others hardly activate it.

**Each question is about another detector.** What you find out in one question tells you nothing about the next."""

CONFIDENCE = """\
With your choice you also say **how sure you are**: {steps}, where 1 is "unsure" and {levels} is "certain". One click gives both."""

PRACTICE = """\
You start with {count}. There you are told after each answer whether it was right, and practice starts again if an answer was wrong."""

SILENT = "After that you are not told whether you were right."
TOLD = "After that you are still told the right answer to most questions."
CATCH = """\


**A few questions were easy on purpose:** one of the two pictures stood among the examples. They show us whether the examples were looked at."""
REPEATED = """\


**A few questions came twice.** They show us how steady answers are."""


def pages(
    study: StudyFile,
    *,
    task: Sequence[tuple[str, str]],
    debrief: str,
    quiz: Sequence[Question],
    facts: Mapping[str, object],
) -> Texts:
    """Join a protocol's pages with those that all studies with reference grids share.

    Parameters
    ----------
    study
        Gives the contact, the pay and the minutes.
    task
        Title and body of each page about the task, after the one about detectors.
    debrief
        The protocol's own last page.
    quiz
        Questions about the instructions.
    facts
        `practice`, `catch`, `repeats` and `confidence`, counts; `feedback`, whether test answers are told; `caught`, how catch
        trials are told of, where it is not by references.
    """
    contact = study.contact or ""
    filled = {
        "minutes": f"{study.recruitment.minutes:g}",
        "pay": f" You receive {study.recruitment.pay} for taking part." if study.recruitment.pay else "",
        "contact": contact,
    }
    whole = [("Parts of a machine", DETECTORS), *task]
    levels = int(str(facts["confidence"]))
    if levels:
        steps = " ".join(str(step) for step in range(1, levels + 1))
        whole.append(("How sure are you?", CONFIDENCE.format(steps=steps, levels=levels)))
    closing = TOLD if facts["feedback"] else SILENT
    if facts["practice"]:
        count = int(str(facts["practice"]))
        first = PRACTICE.format(count=f"{count} practice question{'' if count == 1 else 's'}")
        whole.append(("A little practice first", f"{first}\n\n{closing}"))
    last = (
        debrief + (str(facts.get("caught", CATCH)) if facts["catch"] else "") + (REPEATED if facts["repeats"] else "")
    )
    return Texts(
        consent=Page(title="Before you start", body=CONSENT.format(**filled)),
        instructions=tuple(Page(title=title, body=body) for title, body in whole),
        quiz=tuple(quiz),
        debrief=Page(title="What this was about", body=f"{last}\n\nIf you have questions, write to {contact}."),
        contact=contact,
    )


def counted(number: int) -> str:
    """Write a number of pictures."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return f"{words[number] if number < len(words) else number} picture{'' if number == 1 else 's'}"
