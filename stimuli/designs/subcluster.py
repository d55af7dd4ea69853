"""Binary fit: does a crop go better with its sub-concept than with the concept as a whole?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..balance import seeded
from ..protocol import Drawn, Material, design
from ..records import CellRow, ItemRow, StudyFile, Texts, TrialRow
from ..render import Album
from ..rows import Sheet, cells_of, opaque
from ._crops import Crops, crop_needs, read_crops
from ._panels import check_quota, common, pages, places, refuse_few, refuse_odd_lists
from ._subcluster_audit import audit

RESTARTS = 8
STEPS = 100
EXAMPLE = {
    "title": "Where does it fit best?",
    "run": "protocols",
    "conditions": ["nmf"],
    "design": {"layer": "stage4"},
    "checks": {
        "min_total_seconds": 45,
        "max_total_seconds": 3600,
        "min_median_rt_ms": 400,
        "max_same_side_share": 0.95,
    },
    "bots": {"accuracy": {"nmf": [0.65]}},
    "minutes": 6,
    "rule": "A condition is the label of a dictionary that the run fitted at design.layer.",
}
DEBRIEF = """\
Thank you. This was the last question.

**What this study is about.** Computers that recognise pictures build concepts of their own. Some concepts may consist of several \
finer ones. If the finer ones make sense to people, a piece should fit better with its finer group than with a mixture.

**What you saw.** The piece belonged to both groups: one was a finer group, the other a mixture of the whole concept. In some \
questions there may have been nothing to see: this is what we measure. The pieces may have come from different ways to look into \
the same computer."""


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's own pages for a study."""
    task = (
        f"You see one piece of a picture, and two groups of {options['references']} pieces each. "
        "**Choose the group in which the piece fits best.**\n\n"
        "Nobody tells you why the pieces of a group are together. You can click on a group, or use the left and right arrow keys. "
        "Some questions are hard: choose what you find most likely."
    )
    return pages(
        material.study,
        about="It asks whether people see what groups of pieces of pictures have in common for a machine.",
        doing="You look at pieces of pictures, and choose the group in which a piece fits best.",
        instructions=[("Where does it fit?", task)],
        debrief=DEBRIEF,
    )


def check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse lists that cannot mirror each other."""
    refuse_odd_lists(options, where)


@design(
    version=1,
    citation="arXiv:2211.10154",
    trial_type="choice",
    question=(
        "A crop fits better with crops of its sub-concept than with crops of the whole concept.",
        "the chosen group is the sub-concept",
        0.5,
    ),
    factors=(("condition",), (), ("participant", "item")),
    analysis=("crossed", "correct ~ condition + (1|participant) + (1|item)"),
    texts=texts,
    audit=audit,
    needs=crop_needs,
    check=check,
    example=EXAMPLE,
)
def subcluster(
    material: Material,
    *,
    layer: str = "stage4",
    trials: Annotated[int, Field(ge=1, le=100)] = 12,
    lists: Annotated[int, Field(ge=2, le=50)] = 2,
    references: Annotated[int, Field(ge=2, le=9)] = 3,
    clusters: Annotated[int, Field(ge=2, le=6)] = 2,
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 500,
    size: Annotated[int, Field(ge=32, le=512)] = 160,
) -> Drawn:
    """Show a crop and two groups, one of its sub-concept and one of the concept as a whole; ask where it fits best.

    CRAFT finds sub-concepts by factorising the activations of an earlier layer on the crops of a concept. Here they are
    clusters of a concept's strongest crops by what else is active: k-means (seeded, best of 8 starts) of the largest codes
    of all other concepts of the same layer on the picture each crop is cut from, scaled by each concept's largest code
    among them and to unit length. So a cluster is of what goes with the concept, not of its parts in an earlier layer, and
    results are not to be pooled with CRAFT's. How many crops a group had in the source, the number of trials and the checks
    are unknown.

    Parameters
    ----------
    material
        The bench run.
    layer
        Layer of the network whose concepts are shown.
    trials
        Trials a person, each of another sub-concept, concepts in turn.
    lists
        Orders of the same trials, an even number: of every two, the second shows the first with the sides exchanged.
    references
        Crops in each of the two groups.
    clusters
        Sub-concepts that each concept is split into.
    lockout_ms
        No answer is taken before this time. The source's value is unknown.
    size
        Width of a crop in pixels.

    Raises
    ------
    LimenError
        If too few sub-concepts have enough crops.

    References
    ----------
    Fel et al.: CRAFT, arXiv:2211.10154.
    """
    study = material.study
    check_quota(study, lists)
    album = Album()
    pool: dict[str, Any] = {"kinds": []}
    asked: dict[str, list[_Fit]] = {}
    conditions: dict[str, dict[str, Any]] = {}
    for condition in study.conditions:
        crops = read_crops(material, condition, layer)
        found = _fits(crops, study.seed, condition, references, clusters)
        what = f"sub-concepts of '{condition}' with {references + 1} crops, and {references} others of the concept"
        remedy = "raise 'crops' in the plan, or lower trials or references"
        refuse_few(study, what, len(found), trials, remedy)
        asked[condition] = [one.kept(crops, album, size, condition) for one in found[:trials]]
        pool["kinds"].append({"condition": condition, "available": len(found), "chosen": trials})
        conditions[condition] = {"dictionary": crops.role, "artifact": material.parents[crops.role]}
    cells = cells_of(study, lists)
    return Drawn(
        pictures=album.pictures,
        trials=[row for cell in cells for row in _trials(study, cell, asked[cell.condition], lockout_ms)],
        cells=cells,
        items=[one.item for fits in asked.values() for one in fits],
        pool=pool,
        rules=(
            f"The strongest crops of each concept are split into {clusters} sub-concepts by k-means of the largest codes of all "
            "other concepts on the pictures they are from, scaled by each concept's largest and to unit length.",
            "Sub-concepts are taken in random order, one of each concept before a second of any; concepts that are never active "
            "are left out.",
            f"The crop and {references} crops of one group are drawn at random from the sub-concept; the other group from the "
            "rest of the concept's crops, at least one of them of another sub-concept. All are from different pictures.",
            "The sub-concept stands on the left as often as on the right, within one; of every two lists the second exchanges "
            "all sides.",
        ),
        conditions=conditions,
    )


@dataclass(frozen=True)
class _Fit:
    """A trial's crops by their places among the concept's: the crop asked about, and the two groups."""

    atom: int
    cluster: int
    query: int
    fine: tuple[int, ...]
    whole: tuple[int, ...]
    facts: Mapping[str, Any]
    pictures: Mapping[str, list[str]] = field(default_factory=dict)
    condition: str = ""

    def kept(self, crops: Crops, album: Album, size: int, condition: str) -> _Fit:
        parts = {"query": (self.query,), "fine": self.fine, "whole": self.whole}
        kept = {name: [crops.keep(album, self.atom, place, size) for place in part] for name, part in parts.items()}
        return _Fit(self.atom, self.cluster, self.query, self.fine, self.whole, self.facts, kept, condition)

    @property
    def item(self) -> ItemRow:
        facts = {"atom": self.atom, "cluster": self.cluster, **self.facts, **self.pictures}
        return ItemRow(
            item_id=f"{self.condition} {self.atom} {self.cluster}",
            role="main",
            picture=self.pictures["query"][0],
            label="",
            predicted="",
            probability=float("nan"),
            model_correct=False,
            group=self.condition,
            facts=json.dumps(facts, sort_keys=True),
        )


def _fits(crops: Crops, seed: int, condition: str, references: int, clusters: int) -> list[_Fit]:
    found: list[list[_Fit]] = []
    draw = seeded(seed, "fits", condition)
    for atom in crops.alive:
        _, first = np.unique(crops.source[atom], return_index=True)
        held = sorted(int(place) for place in first)
        labels = k_means(_context(crops, atom, held), clusters, seeded(seed, "clusters", condition, atom))
        mine = []
        for cluster in (int(one) for one in draw.permutation(clusters)):
            inside = [place for place, label in zip(held, labels, strict=True) if label == cluster]
            outside = [place for place in held if place not in inside]
            if len(inside) <= references or not outside:
                continue
            query, *fine = (inside[i] for i in draw.permutation(len(inside))[: references + 1])
            must = outside[int(draw.integers(len(outside)))]
            rest = [place for place in held if place not in (query, must, *fine)]
            if len(rest) < references - 1:
                continue
            whole = [must, *(rest[i] for i in draw.permutation(len(rest))[: references - 1])]
            whole = [whole[i] for i in draw.permutation(references)]
            sources = [int(crops.source[atom, place]) for place in (query, *fine, *whole)]
            members = [int(label) for place in (query, *fine, *whole) for label in [labels[held.index(place)]]]
            facts = {"sources": sources, "members": members, "size": len(inside)}
            mine.append(_Fit(atom, cluster, query, tuple(fine), tuple(whole), facts))
        found.append(mine)
    order = draw.permutation(len(found))
    rounds = max((len(mine) for mine in found), default=0)
    return [found[i][turn] for turn in range(rounds) for i in order if turn < len(found[i])]


def _context(crops: Crops, atom: int, held: Sequence[int]) -> np.ndarray:
    """Return what else is active where a concept's crops are from, (m, k - 1), rows of unit length."""
    codes = np.delete(crops.codes[atom, list(held)].astype(np.float64), atom, axis=1)
    largest = codes.max(axis=0, keepdims=True)
    scaled = codes / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(scaled / np.where(length > 0, length, 1))


def k_means(points: np.ndarray, clusters: int, draw: np.random.Generator) -> np.ndarray:
    """Split points (n, d) by Lloyd's algorithm, best of 8 random starts; return a cluster's number for each, int (n,)."""
    best, least = np.zeros(len(points), dtype=int), np.inf
    if len(points) < clusters:
        return best
    for _ in range(RESTARTS):
        centres = points[draw.permutation(len(points))[:clusters]]
        labels = np.full(len(points), -1)
        for _ in range(STEPS):
            far = ((points[:, None] - centres[None]) ** 2).sum(axis=-1)
            now = far.argmin(axis=1)
            if (now == labels).all():
                break
            labels = now
            centres = np.stack(
                [points[labels == c].mean(axis=0) if (labels == c).any() else centres[c] for c in range(clusters)]
            )
        cost = float(((points - centres[labels]) ** 2).sum())
        if cost < least - 1e-12:
            best, least = labels, cost
    return best


def _trials(study: StudyFile, cell: CellRow, fits: Sequence[_Fit], lockout_ms: int) -> list[TrialRow]:
    block, mirrored = divmod(cell.list - 1, 2)
    order = seeded(study.seed, "order", cell.condition, block).permutation(len(fits))
    start = places(len(fits), 2, seeded(study.seed, "places", cell.condition, block))
    sheet = Sheet(study, cell, "choice")
    for index, which in enumerate(order, start=1):
        one = fits[which]
        place = (start[which] + mirrored) % 2
        groups = [one.pictures["fine"], one.pictures["whole"]]
        ids = [opaque(study, cell.cell, index - 1, k) for k in (0, 1)]
        payload = {
            **common(study, session=1, sessions=1, index=index, count=len(fits), lockout_ms=lockout_ms),
            "question": "In which group does this piece fit best?",
            "panels": [{"label": "Piece", "pictures": one.pictures["query"], "text": ""}],
            "options": ids,
            "faces": [{"label": "", "pictures": group, "text": ""} for group in (groups[::-1] if place else groups)],
            "layout": "row",
        }
        answer = {"expected": ids[place], "definition": "the sub-concept of the crop"}
        sheet.add(payload, item=one.item.item_id, answer=answer, block="fit", factors={})
    return sheet.rows
