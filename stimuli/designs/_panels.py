"""What the protocols of trial type `choice` share: explanations as panels, fair draws of images, places, pages, audits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.overlay import enlarge, overlay
from bench.registry import LimenError, unknown

from ..protocol import Material, Tables
from ..records import ItemRow, Page, StudyFile, Texts
from ..render import Album, Scope, Show, check_finite, spans, strength

BASELINE = "baseline"
EXPLANATIONS = "explanations/"


@dataclass(frozen=True)
class Look:
    """How maps are drawn: width in pixels, what of a map, what shares a scale, and the percentile at full strength."""

    size: int
    show: Show
    scope: Scope
    percentile: float


def explanation_roles(study: StudyFile, labels: Sequence[str], offered: Sequence[str], key: str) -> list[str]:
    """Name the roles of images, predictions and of the explanations under some labels.

    Raises
    ------
    UnknownName
        If the run has no explanations under a label.
    """
    known = sorted(role.removeprefix(EXPLANATIONS) for role in offered if role.startswith(EXPLANATIONS))
    for label in labels:
        if label not in known:
            raise unknown(f"study '{study.study}', key '{key}', explanations of run '{study.run}'", label, known)
    return ["images", "predictions", *(EXPLANATIONS + label for label in dict.fromkeys(labels))]


def plain_picture(material: Material, album: Album, row: Mapping[str, Any], size: int) -> str:
    """Keep the picture of a row of `material.images`; return its name."""
    return album.add(enlarge(material.pictures[row["index"]], size))


def image_items(material: Material, album: Album, table: pd.DataFrame, size: int) -> dict[str, ItemRow]:
    """Return an item for each row of a part of `material.images`, by image id."""
    return {
        row["image_id"]: ItemRow(
            item_id=row["image_id"],
            role="main",
            picture=plain_picture(material, album, {str(k): v for k, v in row.items()}, size),
            label=row["class_name"],
            predicted=row["predicted_class"],
            probability=float(row["probability"]),
            model_correct=bool(row["correct"]),
            group=row["group"],
        )
        for row in table.to_dict("records")
    }


def draw_maps(
    material: Material, album: Album, table: pd.DataFrame, labels: Sequence[str], look: Look
) -> dict[str, dict[str, str]]:
    """Draw the explanations of some images: label -> image id -> picture.

    Raises
    ------
    LimenError
        If a map holds a value that is not finite.
    """
    index, ids = table["index"].to_numpy(), list(table["image_id"])
    maps = {}
    for label in labels:
        raw = material.maps(label, index)
        check_finite(raw, ids, f"study '{material.study.study}', explanation '{label}'")
        maps[label] = strength(raw, look.show)
    signed = look.show == "signed"
    ends = spans(maps, look.scope, look.percentile, signed=signed)
    return {
        label: {
            item: album.add(overlay(material.pictures[i], shown, span, look.size, signed=signed))
            for item, i, shown, span in zip(ids, index, group, ends[label], strict=True)
        }
        for label, group in maps.items()
    }


def distinct(material: Material) -> pd.DataFrame:
    """Return the explained images, copies of one picture once."""
    return material.images.drop_duplicates("sha256")


def round_robin(table: pd.DataFrame, column: str, count: int, generator: np.random.Generator) -> pd.DataFrame:
    """Draw rows so that the values of a column are taken in turn: they differ by one at most while they last."""
    shuffled = table.iloc[generator.permutation(len(table))]
    turn = shuffled.groupby(column, sort=False).cumcount()
    order = pd.Series(generator.permutation(len(shuffled)), index=shuffled.index)
    keys = pd.DataFrame({"turn": turn, "order": order})
    return shuffled.loc[keys.sort_values(["turn", "order"]).index[:count]]


def places(trials: int, options: int, generator: np.random.Generator) -> list[int]:
    """Choose where the expected option stands in each trial: each place equally often, within one, in mixed order."""
    start = int(generator.integers(options))
    found = [(start + index) % options for index in range(trials)]
    return [found[i] for i in generator.permutation(trials)]


def refuse_odd_lists(options: Mapping[str, Any], where: str) -> None:
    """Refuse lists that cannot mirror each other.

    Raises
    ------
    LimenError
        If their number is odd.
    """
    if options["lists"] % 2:
        raise LimenError(
            f"{where}, key 'design.lists': given {options['lists']}; allowed are even numbers, since every second list mirrors "
            "the sides of the one before."
        )


def refuse_few(study: StudyFile, what: str, available: int, wanted: int, remedy: str) -> None:
    """Refuse a pool that is too small.

    Raises
    ------
    LimenError
        If fewer are available than wanted.
    """
    if available < wanted:
        raise LimenError(
            f"study '{study.study}', run '{study.run}': the design needs {wanted} {what} and the run has {available}; {remedy}."
        )


def check_quota(study: StudyFile, lists: int) -> None:
    """Refuse a quota that leaves a list without a participant.

    Raises
    ------
    LimenError
        If the quota is smaller than the number of lists.
    """
    if study.quota < lists:
        raise LimenError(
            f"study '{study.study}', key 'quota': given {study.quota}, allowed is at least lists = {lists}, "
            "so that each list has a participant."
        )


def common(study: StudyFile, *, session: int, sessions: int, index: int, count: int, lockout_ms: int) -> dict[str, Any]:
    """Return the fields of a test trial that are alike in all protocols."""
    return {
        "phase": "test",
        "session": session,
        "session_count": sessions,
        "index": index,
        "count": count,
        "lockout_ms": lockout_ms,
    }


CONSENT = """\
You are invited to take part in a research study. {about}

**What you will do.** {doing} It takes about {minutes} minutes. There is no risk beyond that of looking at pictures on a \
screen.{pay}

**What we keep.** Your answers, how long they took, and plain facts about your screen, such as the size of the window. They are \
stored under a random number and not under your name. We may publish them in that form, so that others can check our results.

**Your choice.** Taking part is voluntary. You may stop at any time, without giving a reason, with the button **Withdraw**. \
Your answers are then deleted.

**Questions.** Write to {contact}.

By going on you confirm that you are at least 18 years old, that you can see pictures on this screen well, \
that you have read this page, and that you agree to take part."""
LIGHT = "the lighter the colour, the more the place mattered to the machine"
SIGNED = "orange where it speaks for the machine's answer, blue where it speaks against it"


def pages(
    study: StudyFile, *, about: str, doing: str, instructions: Sequence[tuple[str, str]], debrief: str, quiz: Any = ()
) -> Texts:
    """Put a protocol's sentences between the pages that all of them have in common."""
    contact = study.contact or ""
    pay = f" You receive {study.recruitment.pay} for taking part." if study.recruitment.pay else ""
    facts = {"about": about, "doing": doing, "minutes": f"{study.recruitment.minutes:g}", "pay": pay}
    ending = f"{debrief}\n\nIf you have questions, write to {contact}."
    return Texts(
        consent=Page(title="Before you start", body=CONSENT.format(**facts, contact=contact)),
        instructions=tuple(Page(title=title, body=body) for title, body in instructions),
        quiz=tuple(quiz),
        debrief=Page(title="What this was about", body=ending),
        contact=contact,
    )


def parsed_cells(tables: Tables) -> Iterator[tuple[str, str, int, list[dict[str, Any]]]]:
    """Yield cell, condition, list and trials (payload, answer and factors as plain data) of each cell."""
    for row in tables.cells.to_dict("records"):
        rows = tables.trials[tables.trials["cell"] == row["cell"]].sort_values("position").to_dict("records")
        trials = [
            {**{str(k): v for k, v in one.items()}, **{k: json.loads(one[k]) for k in ("payload", "answer", "factors")}}
            for one in rows
        ]
        yield str(row["cell"]), str(row["condition"]), int(row["list"]), trials


def place_faults(trials: Sequence[Mapping[str, Any]], options: int) -> Iterator[str]:
    """Check that the expected option stands at each place equally often, within one."""
    places = [
        one["payload"]["options"].index(one["answer"]["expected"])
        for one in trials
        if one["answer"].get("expected") in one["payload"]["options"]
    ]
    counts = Counter(places)
    spread = [counts.get(place, 0) for place in range(options)]
    if max(spread) - min(spread) > 1:
        yield f"has the expected option {spread} times at its places, which differ by more than one"


def opaque_faults(trials: Sequence[Mapping[str, Any]], words: Sequence[str]) -> Iterator[str]:
    """Check that option ids are opaque, are of one length, and that no word of the answer is sent."""
    for one in trials:
        ids = one["payload"]["options"]
        if any(len(name) != 16 or set(name) - set("0123456789abcdef") for name in ids):
            yield f"trial {one['position']} has an option id that is not opaque"
        text = json.dumps(one["payload"])
        told = [word for word in words if word and f'"{word}"' in text]
        if told:
            yield f"trial {one['position']} sends '{told[0]}', which tells what stands behind an option"


def same_scripts(scripts: Mapping[str, tuple[int, Any]]) -> Iterator[str]:
    """Check that all conditions of a list have the same script: cell -> (list, what must be the same)."""
    first: dict[int, tuple[str, Any]] = {}
    for cell, (number, script) in scripts.items():
        name, shown = first.setdefault(number, (cell, script))
        if shown != script:
            yield f"cell '{cell}': shows other images, another order or other places than cell '{name}' of the same list."
