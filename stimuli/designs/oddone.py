"""Odd one out: find the rule that three of four pictures follow, and learn it over a block of problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from bench.registry import LimenError

from ..protocol import Drawn, Material, design
from ..records import StudyFile, Texts
from ..render import Album
from ..rows import cells_of
from ..rules.catalogue import COMPOSED, ELEMENTARY, rule_of
from ._oddone_audit import audit
from ._oddone_practice import practice_questions
from ._oddone_rows import Writer, description_item, draw_problems, kind_of
from ._oddone_script import choose_rules
from ._oddone_texts import texts

EXAMPLE = {
    "title": "Find the odd one out",
    "run": None,
    "conditions": ["everyone"],
    "rule": "This protocol has one, of any name: what differs is within each participant.",
    "checks": {"quiz_attempts": 3, "practice_attempts": 5, "min_median_rt_ms": 500, "max_same_side_share": 0.7},
    "words": {
        "practice.over.body": "Now the study begins. You are still told whether each answer is right. **Take your time and look closely.**"
    },
    "bots": {
        "accuracy": {"everyone": [0.7] * 6},
        "effects": {"composition": {"elementary": 0.3, "composed": -0.3}},
    },
    "minutes": 25,
}


def _needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> Iterable[str]:
    return ()


def _texts(material: Material, options: Mapping[str, Any]) -> Texts:
    return texts(material.study, options, len(choose_rules(options["rules"], options["composed"], material.study.seed)))


def _check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    given = options["rules"]
    for name in given or ():
        rule_of(name, where=f"{where}, key 'design.rules'")
    twice = [name for name, count in Counter(given or ()).items() if count > 1]
    if twice:
        raise LimenError(f"{where}, key 'design.rules': '{twice[0]}' is given twice; each rule may stand once.")
    rules = len(ELEMENTARY) + options["composed"] if given is None else len(given)
    if options["sessions"] > rules:
        raise LimenError(
            f"{where}, key 'design.sessions': given {options['sessions']}, allowed is at most {rules}, the number of rules."
        )
    if study.quota < rules:
        raise LimenError(
            f"{where}, key 'quota': given {study.quota}, allowed is at least {rules}, one participant for each of the lists, "
            "of which there are as many as rules."
        )
    if len(study.conditions) != 1:
        raise LimenError(
            f"{where}, key 'conditions': given {', '.join(study.conditions)}; allowed is one name, since all that differs "
            "is within each participant."
        )


@design(
    version=2,
    citation="arXiv:2206.05379",
    trial_type="choice",
    question=(
        "People find visual rules from few examples, elementary ones more easily than compositions of two.",
        "the picture that does not follow the rule that the three others follow",
        0.25,
    ),
    factors=((), ("rule", "composition", "problem"), ("participant", "rule", "item")),
    analysis=("oddone", "correct ~ composition + problem + (1|participant) + (1|rule) + (1|item)"),
    texts=_texts,
    audit=audit,
    needs=_needs,
    check=_check,
    example=EXAMPLE,
)
def oddone(
    material: Material,
    *,
    rules: tuple[str, ...] | None = None,
    composed: Annotated[int, Field(ge=0, le=len(COMPOSED))] = 9,
    sessions: Annotated[int, Field(ge=1, le=38)] = 6,
    problems: Annotated[int, Field(ge=1, le=100)] = 20,
    practice: Annotated[int, Field(ge=0, le=12)] = 4,
    quiz: bool = True,
    feedback: bool = True,
    describe: bool = True,
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 300,
    size: Annotated[int, Field(ge=64, le=512)] = 200,
) -> Drawn:
    """Show four pictures of which one breaks a rule; people learn the rule over a block of problems.

    The rules are those of `stimuli.rules`: the nine elementary relations of the paper, and compositions of two in which
    the odd one breaks one of both. They are not the paper's own 103 rules. From the paper: blocks of one rule, 6 of 20
    problems, quiz, practice on other stimuli, confidence from 0 to 100, feedback after each trial, a description of the
    rule at the end, 9 elementary rules. It does not say the pay, the time, who was excluded, the number of practice
    problems, the size of the pictures or how rules were given to people; each is an option or a rule of the study file.

    Parameters
    ----------
    material
        The study; no bench run is needed.
    rules
        Names of the rules; by default the nine elementary ones and `composed` compositions, drawn by the seed.
    composed
        How many compositions of two are drawn, where no rules are named.
    sessions
        Blocks, each with a rule of its own.
    problems
        Problems in a block.
    practice
        Practice problems, on patterns that no rule is about; practice repeats until all are right.
    quiz
        Whether comprehension questions follow the instructions.
    feedback
        Whether the right answer is told after each problem.
    describe
        Whether the rule is described in words at the end of its block.
    lockout_ms
        No answer is taken before this time.
    size
        Width of the pictures in pixels.

    References
    ----------
    Zerroug, Vaishnav, Colin, Musslick, Serre: A Benchmark for Compositional Visual Reasoning, arXiv:2206.05379.
    """
    study = material.study
    ring = choose_rules(rules, composed, study.seed)
    album = Album()
    drawn = {rule: draw_problems(album, rule, problems, size, study.seed) for rule in ring}
    questions = practice_questions(album, practice, size, study.seed)
    writer = Writer(study, ring, drawn, questions, sessions, feedback, describe, lockout_ms)
    cells = cells_of(study, len(ring))
    items = [shown.item for rule in ring for shown in drawn[rule]] + [question.item for question in questions]
    if describe:
        items += [description_item(rule, drawn[rule][0]) for rule in ring]
    return Drawn(
        pictures=album.pictures,
        trials=[row for cell in cells for row in writer.trials(cell)],
        cells=cells,
        items=items,
        pool=_pool(ring, problems),
        rules=_rules(len(ring), sessions, problems),
        conditions={name: {"rules": list(ring)} for name in study.conditions},
    )


def _pool(ring: Sequence[str], problems: int) -> dict[str, Any]:
    kinds = []
    for kind, available in (("elementary", len(ELEMENTARY)), ("composed", len(COMPOSED))):
        chosen = sum(kind_of(rule) == kind for rule in ring)
        kinds.append({"composition": kind, "available": available, "chosen": chosen, "problems": problems * chosen})
    return {"rules": sorted(ring), "kinds": kinds}


def _rules(rules: int, sessions: int, problems: int) -> tuple[str, ...]:
    return (
        f"{rules} rules with {problems} problems each, made by a seeded generator; each participant meets {sessions} rules.",
        "Three pictures of a problem follow the rule, the odd one does not; of a composition it breaks exactly one part, "
        "each part equally often.",
        "The value that the three share and the odd one's value are drawn alike, anew for each problem; what the rule is "
        "not about is drawn anew for each picture.",
        f"There are {rules} lists: over them each rule stands once in each block, and each list has equally many elementary "
        "and composed rules, in proportion and within one.",
        "A rule's problems stand in one seeded order, which starts at another problem in each block the rule can stand in.",
        "The odd one stands in each of the four places equally often in a block, within one, and moves on one place from "
        "block to block.",
        "Practice shows grey patterns, which no rule is about.",
    )
