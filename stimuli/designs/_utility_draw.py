"""The pictures of the utility protocol: each image, and its explanation in each condition on one scale rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.overlay import enlarge, overlay

from ..protocol import Material
from ..records import ItemRow
from ..render import Album, Scope, Show, check_finite, spans, strength
from ._utility_concepts import ROLE, Concepts, board, top_concepts
from ._utility_regions import excess, masks_of


@dataclass(frozen=True)
class Look:
    """How explanations are drawn: the design's options of these names."""

    size: int
    show: Show
    scope: Scope
    percentile: float
    concepts: int
    crops: int


@dataclass(frozen=True)
class Shown:
    """The chosen items, the picture of each one's explanation, and how much of it lies on the region, by condition."""

    items: Mapping[str, ItemRow]
    explanations: Mapping[str, Mapping[str, str]]
    masses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def draw_study(
    material: Material,
    labels: Mapping[str, str | None],
    table: pd.DataFrame,
    album: Album,
    look: Look,
    region: str | None = None,
) -> Shown:
    """Draw the images of a study and their explanations.

    Parameters
    ----------
    material
        The run.
    labels
        Condition -> label of its explanations, None where nothing is shown.
    table
        The chosen images.
    album
        Takes the pictures.
    look
        How maps are drawn.
    region
        Mask of which each explanation's share is recorded, or None.
    """
    table = table.sort_values("index")
    index, names = table["index"].to_numpy(), list(table["image_id"])
    items = {row["image_id"]: _item(material, album, row, look.size) for row in table.to_dict("records")}
    maps: dict[str, np.ndarray] = {}
    boards: dict[str, Concepts] = {}
    for condition, label in labels.items():
        if label is None:
            continue
        if ROLE + label in material.artifacts:
            boards[condition] = top_concepts(material, label, table, look.concepts, look.crops)
            raw = boards[condition].maps
        else:
            raw = material.maps(label, index)
        check_finite(raw, names, f"study '{material.study.study}', condition '{condition}'")
        maps[condition] = strength(raw, look.show)
    signed = look.show == "signed"
    flat = {name: group.reshape(-1, *group.shape[-2:]) for name, group in maps.items()}
    ends = spans(flat, look.scope, look.percentile, signed=signed)
    explanations: dict[str, dict[str, str]] = {name: {} for name in maps}
    for condition, group in maps.items():
        for place, (item, i) in enumerate(zip(names, index, strict=True)):
            picture = material.pictures[i]
            if condition in boards:
                rows = ends[condition][place * look.concepts : (place + 1) * look.concepts]
                drawn = board(album, picture, group[place], boards[condition].crops[place], rows, look.size)
            else:
                drawn = album.add(overlay(picture, group[place], ends[condition][place], look.size, signed=signed))
            explanations[condition][item] = drawn
    masses = {}
    if region is not None:
        masks = masks_of(material, region, index)
        for condition, group in maps.items():
            whole = np.abs(group).mean(axis=1) if group.ndim == 4 else group
            masses[condition] = dict(zip(names, excess(whole, masks).round(6).tolist(), strict=True))
    facts = {name: _facts(name, place, boards, explanations, masses) for place, name in enumerate(names)}
    items = {name: replace(item, facts=json.dumps(facts[name], sort_keys=True)) for name, item in items.items()}
    return Shown(items, explanations, masses)


def _item(material: Material, album: Album, row: Mapping[Any, Any], size: int) -> ItemRow:
    return ItemRow(
        item_id=row["image_id"],
        role="main",
        picture=album.add(enlarge(material.pictures[row["index"]], size)),
        label=row["class_name"],
        predicted=row["predicted_class"],
        probability=float(row["probability"]),
        model_correct=bool(row["correct"]),
        group=row["group"],
    )


def _facts(
    name: str,
    place: int,
    boards: Mapping[str, Concepts],
    explanations: Mapping[str, Mapping[str, str]],
    masses: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Return what else is known of an item: its explanations, the concepts shown and where crops come from, its masses."""
    facts: dict[str, Any] = {"explanations": {condition: of[name] for condition, of in explanations.items()}}
    if boards:
        facts["concepts"] = {condition: shown.numbers[place].tolist() for condition, shown in boards.items()}
        facts["crops_of"] = {condition: shown.sources[place] for condition, shown in boards.items()}
    if masses:
        facts["region_mass"] = {condition: of[name] for condition, of in masses.items()}
    return facts
