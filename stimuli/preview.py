"""A stimulus set for the researcher to look at: explanations side by side, and a page that walks through every cell."""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image, ImageDraw, ImageFont

from bench.images import encode_png
from bench.registry import LimenError

from . import own_score
from .protocol import Drawn
from .records import ItemRow, StudyFile, TrialRow
from .trials import pictures_of
from .walk import Group, groups

PAPER, INK, SOFT, MARK = (255, 255, 255), (30, 32, 36), (100, 104, 110), (180, 86, 11)
THUMB, GAP, MARGIN, NOTE = 132, 10, 18, 156


def shown_pictures(payloads: Iterable[str]) -> set[str]:
    """Return the SHA-256 of every picture that some payloads (JSON) name."""
    return {name for payload in payloads for name in pictures_of(json.loads(payload))}


def contact_sheet(
    study: StudyFile, drawn: Drawn, *, conditions: tuple[str, ...] | None = None, images: int = 8
) -> bytes:
    """Draw images of the study, one a row, with the explanation of each condition beside it; return a PNG.

    The model's answers, wrong and right, take turns, so that the sheet shows each kind.

    Parameters
    ----------
    study, drawn
        What was drawn.
    conditions
        The columns; by default all conditions that show explanations.
    images
        Largest number of rows.
    """
    explained = _explanations(drawn)
    if not explained:
        return _trial_sheet(study, drawn, conditions or study.conditions, images)
    columns = [name for name in conditions or study.conditions if any(explained[name].values())]
    trained = set.intersection(*(set(items) for items in explained.values()))
    rows = _taking_turns([item for item in drawn.items if item.item_id in trained])[:images]
    table = [[item.picture, *(str(explained[name][item.item_id]) for name in columns)] for item in rows]
    pictures = [[_thumb(drawn.pictures[name]) for name in names] for names in table]
    notes = [f"the model says {item.predicted}:\n{_verdict(item)}" for item in rows]
    return _grid(f"{study.title}  ({study.study}, version {study.version})", ["picture", *columns], pictures, notes)


def _trial_sheet(study: StudyFile, drawn: Drawn, conditions: tuple[str, ...], trials: int) -> bytes:
    """Draw test trials, one a row, with their pictures in displayed order; a frame marks the expected answer."""
    rows, notes = [], []
    for condition in conditions:
        mine = [t for t in drawn.trials if t.condition == condition and t.phase == "test" and not t.is_catch]
        for trial in _unlike(mine, max(2, trials // len(conditions))):
            shown = groups(trial.trial_type, json.loads(trial.payload), json.loads(trial.answer))
            rows.append([_framed(drawn, group) for group in shown if group.pictures])
            said = [condition, *(f"{name}: {value}" for name, value in json.loads(trial.factors).items())]
            notes.append("\n".join(said[:6]))
    heads = [""] * max((len(row) for row in rows), default=1)
    return _grid(f"{study.title}  ({study.study}, version {study.version})", heads, rows, notes)


def _unlike(trials: list[TrialRow], count: int) -> list[TrialRow]:
    """Choose trials one after the other, each with the most that the ones before lack: rules, layers, references, items."""
    left = list({t.item_id + t.factors: t for t in reversed(trials)}.values())[::-1]
    facts = {t.trial_id: {f"{k}={v}" for k, v in json.loads(t.factors).items()} | {f"item={t.item_id}"} for t in left}
    few = _counts(facts.values())
    seen: set[str] = set()
    chosen: list[TrialRow] = []
    while left and len(chosen) < count:
        # What few trials share is what tells kinds of trials apart; a number of its own for each trial tells nothing.
        best = max(left, key=lambda t: sum(few[fact] > 1 for fact in facts[t.trial_id] - seen))
        seen |= facts[best.trial_id]
        chosen.append(best)
        left.remove(best)
    return chosen


def _counts(groups: Iterable[set[str]]) -> Counter[str]:
    return Counter(fact for group in groups for fact in group)


def _framed(drawn: Drawn, group: Group) -> Image.Image:
    """Draw a group as one tile: a square grid of its pictures, framed if it is the expected answer."""
    side = math.isqrt(len(group.pictures) - 1) + 1
    step = THUMB // side
    tile = Image.new("RGB", (THUMB, THUMB), PAPER)
    for index, name in enumerate(group.pictures):
        with Image.open(io.BytesIO(drawn.pictures[name])) as stored:
            picture = stored.convert("RGB")
        picture.thumbnail((step - 2, step - 2), Image.Resampling.LANCZOS)
        tile.paste(picture, (step * (index % side) + 1, step * (index // side) + 1))
    if group.mark:
        ImageDraw.Draw(tile).rectangle((0, 0, THUMB - 1, THUMB - 1), outline=MARK, width=3)
    return tile


def _explanations(drawn: Drawn) -> dict[str, dict[str, str | None]]:
    found: dict[str, dict[str, str | None]] = {}
    for trial in drawn.trials:
        if trial.phase == "train":
            found.setdefault(trial.condition, {})[trial.item_id] = json.loads(trial.payload)["explanation"]
    return found


def _taking_turns(items: list[ItemRow]) -> list[ItemRow]:
    groups: dict[tuple[str, bool], list[ItemRow]] = {}
    for item in items:
        groups.setdefault((item.predicted, item.model_correct), []).append(item)
    ranked = [(place, kind, item) for kind, group in groups.items() for place, item in enumerate(group)]
    return [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])]


def _verdict(item: ItemRow) -> str:
    return "right" if item.model_correct else f"wrong, it is {item.label}"


def _grid(title: str, heads: list[str], pictures: list[list[Image.Image]], notes: list[str]) -> bytes:
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(12)
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    tall = max((picture.height for row in pictures for picture in row), default=THUMB)
    width = max(
        2 * MARGIN + NOTE + len(heads) * (THUMB + GAP) - GAP, 2 * MARGIN + round(pen.textlength(title, font=bold))
    )
    top = MARGIN + 48
    canvas = Image.new("RGB", (width, top + max(1, len(pictures)) * (tall + GAP) + MARGIN - GAP), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN - 4), title, fill=INK, font=bold)
    for column, head in enumerate(heads):
        pen.text((MARGIN + NOTE + column * (THUMB + GAP), top - 20), _fit(pen, head, plain), fill=INK, font=plain)
    for row, (cells, note) in enumerate(zip(pictures, notes, strict=True)):
        y = top + row * (tall + GAP)
        pen.multiline_text((MARGIN, y + 4), note, fill=SOFT, font=plain, spacing=5)
        for column, picture in enumerate(cells):
            canvas.paste(picture, (MARGIN + NOTE + column * (THUMB + GAP), y))
    return encode_png(np.asarray(canvas))


def _fit(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    if pen.textlength(text, font=font) <= THUMB:
        return text
    while pen.textlength(text + "...", font=font) > THUMB:
        text = text[:-1]
    return text + "..."


def _thumb(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as stored:
        picture = stored.convert("RGB")
    return picture.resize((THUMB, round(THUMB * picture.height / picture.width)), Image.Resampling.LANCZOS)


def write_preview(study: StudyFile, options: Mapping[str, Any], drawn: Drawn, folder: Path) -> Path:
    """Write a contact sheet for each condition and a page that walks through every trial of every cell.

    Parameters
    ----------
    study, options
        As resolved.
    drawn
        What was drawn; nothing of it is frozen.
    folder
        Where to write; it is made if it is not there.

    Returns
    -------
    Path of the page.

    Raises
    ------
    LimenError
        If the folder cannot be written.
    """
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for name in shown_pictures(trial.payload for trial in drawn.trials):
            (folder / "pictures" / f"{name}.png").write_bytes(drawn.pictures[name])
        (folder / "contact.png").write_bytes(contact_sheet(study, drawn))
        sheets = {}
        for condition, explained in _explanations(drawn).items():
            if any(explained.values()):
                sheets[condition] = f"contact-{re.sub('[^a-z0-9_-]+', '-', condition.lower())}.png"
                sheet = contact_sheet(study, drawn, conditions=(condition,), images=12)
                (folder / sheets[condition]).write_bytes(sheet)
        page = folder / "index.html"
        page.write_text(_page(study, options, drawn, sheets), encoding="utf-8")
    except OSError as error:
        raise LimenError(f"{folder}: the preview cannot be written ({error}).") from None
    return page


def _bold(text: str) -> Markup:
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", str(escape(text))))


def _with_example(row: TrialRow, drawn: Drawn) -> dict[str, Any]:
    """Return a trial's payload; where it tells people their own score, with an example that says that it is one."""
    payload: dict[str, Any] = json.loads(row.payload)
    rule = own_score.declared(payload)
    if rule is None:
        return payload
    cell = [vars(trial) for trial in drawn.trials if trial.cell == row.cell]
    return own_score.example(payload, asked=len(own_score.counted(rule, cell)))


def _page(study: StudyFile, options: Mapping[str, Any], drawn: Drawn, sheets: Mapping[str, str]) -> str:
    environment = Environment(
        loader=PackageLoader("stimuli"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bold"] = _bold
    trials: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in drawn.trials:
        payload, answer = _with_example(row, drawn), json.loads(row.answer)
        shown = groups(row.trial_type, payload, answer)
        factors = json.loads(row.factors)
        trial = {"row": row, "payload": payload, "answer": answer, "groups": shown, "factors": factors}
        trials.setdefault(row.cell, {}).setdefault(row.block, []).append(trial)
    return environment.get_template("preview.html").render(
        study=study, options=options, drawn=drawn, sheets=sheets, trials=trials
    )
