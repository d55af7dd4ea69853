"""Pictures of a stimulus set for the researcher: explanations side by side, and a page that walks through every cell."""

from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .protocol import Drawn
from .records import StudyFile
from .render import png

PAPER, INK, SOFT = (255, 255, 255), (30, 32, 36), (110, 114, 120)
THUMB, GAP, MARGIN, LINE = 132, 10, 18, 16


def contact_sheet(study: StudyFile, drawn: Drawn, *, images: int = 8) -> bytes:
    """Draw some images of the study, one a row, with the explanation of each condition beside it; return a PNG.

    Model-wrong and model-right images take turns, so that the sheet shows both.
    """
    by_condition = {
        condition: {
            trial.item_id: json.loads(trial.payload)["explanation"]
            for trial in drawn.trials
            if trial.condition == condition and trial.phase == "train"
        }
        for condition in study.conditions
    }
    shown = [name for name in study.conditions if any(by_condition[name].values())]
    trained = set.intersection(*(set(items) for items in by_condition.values()))
    rows = sorted((item for item in drawn.items if item.item_id in trained), key=lambda item: item.item_id)
    wrong = [item for item in rows if not item.model_correct]
    right = [item for item in rows if item.model_correct]
    rows = [item for pair in zip(wrong, right, strict=False) for item in pair][:images] or rows[:images]
    table: list[list[str | None]] = [
        [item.picture, *(by_condition[name][item.item_id] for name in shown)] for item in rows
    ]
    notes = [
        f"model: {item.predicted}\n{'right' if item.model_correct else f'wrong, it is {item.label}'}" for item in rows
    ]
    return _grid(drawn, ["picture", *shown], table, notes, f"{study.title} ({study.study}, version {study.version})")


def _grid(drawn: Drawn, heads: list[str], table: list[list[str | None]], notes: list[str], title: str) -> bytes:
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(12)
    note = 130
    width = 2 * MARGIN + note + len(heads) * (THUMB + GAP)
    top = MARGIN + 2 * LINE + 18
    height = top + max(1, len(table)) * (THUMB + GAP) + MARGIN - GAP
    canvas = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN - 4), title, fill=INK, font=bold)
    for column, head in enumerate(heads):
        x = MARGIN + note + column * (THUMB + GAP)
        pen.text((x, top - 20), _fit(pen, head, plain), fill=INK, font=plain)
        for row, names in enumerate(table):
            name = names[column]
            if name is not None:
                canvas.paste(_thumb(drawn.pictures[name]), (x, top + row * (THUMB + GAP)))
    for row, text in enumerate(notes):
        pen.multiline_text((MARGIN, top + row * (THUMB + GAP) + 4), text, fill=SOFT, font=plain, spacing=5)
    return png(np.asarray(canvas))


def _fit(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    if pen.textlength(text, font=font) <= THUMB:
        return text
    while pen.textlength(text + "...", font=font) > THUMB:
        text = text[:-1]
    return text + "..."


def _thumb(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as stored:
        picture = stored.convert("RGB")
    picture.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
    return picture
