"""Forced choices beside reference grids: ranking pictures by activation, choosing atoms, and writing the trials."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TypeVar

import numpy as np

from bench.overlay import enlarge
from bench.registry import LimenError

from ..balance import seeded, sides
from ..protocol import POOL, Material
from ..records import CellRow, StudyFile, TrialRow
from ..render import Album
from ..rows import Sheet, opaque
from ..trials import Confidence

ALL = "all"
"""The one condition of a study in which nothing differs between people."""
COMPLEXITY = "feature_complexity"
_SAMPLE = re.compile(r"^fit 1, atom (\d+)$")
Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Codes:
    """The largest activation of each atom of one basis at one layer on each distinct picture.

    Attributes
    ----------
    basis, layer : str
    peak : float array (n, k)
    index : int array (n,)
        The pictures' rows in the pool.
    complexity : float array (k,)
        K(z) of each atom, NaN where it is not known.
    measured : bool
        Whether the run measured K(z) of this basis at this layer.
    """

    basis: str
    layer: str
    peak: np.ndarray
    index: np.ndarray
    complexity: np.ndarray
    measured: bool

    @property
    def role(self) -> str:
        return f"{self.basis} @ {self.layer}"

    @property
    def size(self) -> int:
        return int(self.peak.shape[1])

    def order(self, seed: int, atom: int, among: np.ndarray | None = None) -> np.ndarray:
        """Return rows of `peak` from the most to the least activating; ties are broken by the seed."""
        rows = np.arange(len(self.peak)) if among is None else among
        shuffled = seeded(seed, "ties", self.role, atom).permutation(rows)
        return np.asarray(shuffled[np.argsort(-self.peak[shuffled, atom], kind="stable")])

    def alive(self, top: int, bottom: int) -> np.ndarray:
        """Return the atoms whose `top` highest activations are above 0 and above their `bottom` lowest ones."""
        if top + bottom > len(self.peak):
            return np.array([], dtype=int)
        ordered = np.sort(self.peak, axis=0)
        return np.flatnonzero(ordered[-top] > np.maximum(ordered[bottom - 1], 0))

    def known(self, atom: int) -> float | None:
        """Return K(z) of an atom, None where it is not known."""
        value = float(self.complexity[atom])
        return value if np.isfinite(value) else None


def feature_roles(roles: Iterable[str], basis: str, layers: Sequence[str]) -> list[str]:
    """Name what a basis needs of a run at some layers: activations, and complexities where they were measured."""
    offered = set(roles)
    found = []
    for layer in layers:
        found.append(f"features/{basis} @ {layer}")
        score = f"scores/{basis} @ {layer}/{COMPLEXITY}"
        found += [score] if score in offered else []
    return found


def layers_of(given: Sequence[str], roles: Iterable[str], bases: Sequence[str]) -> tuple[str, ...]:
    """Return the layers of a study: those given, or all with features of every basis, by name."""
    if given:
        return tuple(given)
    held = [
        {role.removeprefix(f"features/{basis} @ ") for role in roles if role.startswith(f"features/{basis} @ ")}
        for basis in bases
    ]
    return tuple(sorted(set.intersection(*held))) if held else ()


def check_conditions(study: StudyFile, kinds: Sequence[str], where: str) -> None:
    """Ask for the one condition 'all', or for kinds of references that differ between people.

    Raises
    ------
    LimenError
    """
    if study.conditions == (ALL,) or set(study.conditions) <= set(kinds):
        return
    raise LimenError(
        f"{where}, key 'conditions': given {', '.join(study.conditions)}; allowed is '{ALL}' alone (everyone sees all "
        f"kinds of references that the design names), or kinds of references that differ between people: "
        f"{', '.join(kinds)}."
    )


def read_codes(material: Material, basis: str, layer: str) -> Codes:
    """Read the activations of a basis at a layer; copies of one picture count once.

    Raises
    ------
    LimenError
        If the activations are of other pictures than the run kept.
    """
    rows = material.pool.rows
    peak = material.artifact(f"features/{basis} @ {layer}").tensors("features.safetensors")["peak"]
    if len(peak) != len(rows):
        raise LimenError(
            f"study '{material.study.study}', features '{basis} @ {layer}': given activations on {len(peak)} pictures, "
            f"allowed is {len(rows)}, one for each picture of '{POOL}'."
        )
    unique = rows.drop_duplicates("sha256")["index"].to_numpy()
    complexity = np.full(peak.shape[1], np.nan)
    score = material.artifacts.get(f"scores/{basis} @ {layer}/{COMPLEXITY}")
    if score is not None:
        for sample, value in score.rows()[["sample", "value"]].itertuples(index=False):
            named = _SAMPLE.match(str(sample))
            if named is not None:
                complexity[int(named[1]) - 1] = value
    return Codes(basis, layer, np.asarray(peak, dtype=float)[unique], unique, complexity, score is not None)


def strata(codes: Codes, atoms: np.ndarray, count: int, seed: int) -> list[list[int]]:
    """Cut atoms into `count` groups of rising complexity, shuffled by the seed; one group where it was not measured."""
    draws = seeded(seed, "strata", codes.role)
    if not codes.measured or count == 1:
        return [[int(atom) for atom in draws.permutation(atoms)]]
    known = atoms[np.isfinite(codes.complexity[atoms])]
    ranked = known[np.argsort(codes.complexity[known], kind="stable")]
    return [[int(atom) for atom in draws.permutation(part)] for part in np.array_split(ranked, count)]


def in_turns(
    groups: Sequence[Sequence[int]], count: int, make: Callable[[int], Choice | None]
) -> list[tuple[int, Choice]]:
    """Take from the groups in turn until `count` are made; what cannot be made is passed over.

    Returns
    -------
    list of (group, what was made)
        Shorter than `count` where the groups are exhausted.
    """
    queues = [list(group) for group in groups]
    found: list[tuple[int, Choice]] = []
    while len(found) < count and any(queues):
        for number, queue in enumerate(queues):
            while queue and len(found) < count:
                made = make(queue.pop(0))
                if made is not None:
                    found.append((number, made))
                    break
    return found


def deal(count: int, lists: int, per_list: int, where: str) -> list[list[int]]:
    """Deal items round robin: each list takes the next `per_list` of a ring, and each item stands in as many lists.

    Raises
    ------
    LimenError
        If the items do not come out even.
    """
    if per_list > count or lists * per_list % count:
        raise LimenError(
            f"{where}: given {per_list} of {count} in each of {lists} lists; allowed is at most {count}, with lists x "
            "their number a multiple of it, so that each stands in as many lists."
        )
    return [[(number * per_list + step) % count for step in range(per_list)] for number in range(lists)]


class Gallery:
    """Pictures of the pool, and others, in an album at one size."""

    def __init__(self, material: Material, size: int) -> None:
        self.album = Album()
        self._pictures = material.pool.pictures
        self._size = size
        self._held: dict[int, str] = {}

    def natural(self, index: int) -> str:
        """Keep a picture of the pool by its row; return its SHA-256."""
        if index not in self._held:
            self._held[index] = self.made(self._pictures[index])
        return self._held[index]

    def pixels(self, index: int) -> np.ndarray:
        """Return a picture of the pool by its row, uint8 (H, W, 3)."""
        return np.asarray(self._pictures[index])

    def made(self, pixels: np.ndarray) -> str:
        """Keep any picture; return its SHA-256."""
        return self.album.add(enlarge(pixels, self._size))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question: the two pictures, what stands beside them, and what is known of it."""

    item: str
    high: str
    low: str
    maximum: tuple[str, ...] = ()
    minimum: tuple[str, ...] = ()
    factors: Mapping[str, Any] = field(default_factory=dict)
    is_catch: bool = False
    labels: tuple[str, str] = ("", "")
    """Above the grids of strong and of weak examples."""
    base: tuple[str, str] = ("", "")
    """One picture that both queries were made from, and the label above it."""

    @property
    def kind(self) -> tuple[Any, ...]:
        """Questions of one kind share their sides evenly."""
        return (self.is_catch, *(self.factors.get(name, "") for name in ("reference", "basis", "layer", "scheme")))


@dataclass(frozen=True, kw_only=True)
class Screen:
    """How all trials of a study look."""

    question: str
    arrangement: Literal["stacked", "side_by_side"]
    confidence: int
    lockout_ms: int

    def payload(self, asked: Asked, *, left: bool) -> dict[str, Any]:
        """Return what is shown, the strongly activating picture first where `left`."""
        base = (asked.base[0],) if asked.base[0] else ()
        grids = [
            ("max", asked.labels[0], asked.maximum),
            ("min", asked.labels[1], asked.minimum),
            ("base", asked.base[1], base),
        ]
        return {
            "question": self.question,
            "references": [
                {"polarity": polarity, "label": label, "pictures": list(pictures)}
                for polarity, label, pictures in grids
                if pictures
            ],
            "queries": [asked.high, asked.low] if left else [asked.low, asked.high],
            "arrangement": self.arrangement,
            "confidence": Confidence(levels=self.confidence).model_dump() if self.confidence else None,
            "lockout_ms": self.lockout_ms,
        }


@dataclass(frozen=True)
class Writer:
    """Writes blocks of questions into the sheet of a cell; cells of one list get the same sides."""

    study: StudyFile
    screen: Screen

    def sheet(self, cell: CellRow) -> Sheet:
        """Open the sheet of a cell."""
        return Sheet(self.study, cell, "forced_choice")

    def block(
        self,
        sheet: Sheet,
        name: str,
        asked: Sequence[Asked],
        *,
        practice: bool = False,
        feedback: bool = False,
        left: Sequence[bool] | None = None,
        repeats: Sequence[str] = (),
    ) -> list[TrialRow]:
        """Add a block; `left` says where the expected picture stands, by default balanced by the seed.

        `repeats` holds the trial id that each question repeats.
        """
        draws = seeded(self.study.seed, "sides", sheet.cell.list, name)
        left = sides([one.kind for one in asked], draws) if left is None else left
        rows = []
        for number, (one, first) in enumerate(zip(asked, left, strict=True)):
            options = [opaque(self.study, sheet.cell.cell, len(sheet.rows), k) for k in (0, 1)]
            payload = {
                "phase": "practice" if practice else "test",
                "options": options,
                "feedback": practice or (feedback and not one.is_catch),
                "session": 0 if practice else 1,
                "index": number + 1,
                "count": len(asked),
                **self.screen.payload(one, left=first),
            }
            answer = {"expected": options[0 if first else 1], "definition": "activates it more"}
            if repeats:
                answer["repeat_of"] = repeats[number]
            rows.append(
                sheet.add(payload, item=one.item, answer=answer, block=name, is_catch=one.is_catch, factors=one.factors)
            )
        return rows


def spaced(main: Sequence[Choice], among: Sequence[Choice], draws: np.random.Generator) -> list[Choice]:
    """Set `among` into `main`, one in each of as many stretches, never first."""
    edges = np.linspace(0, len(main), len(among) + 1).round().astype(int)
    places = [int(draws.integers(low, high)) + 1 if high > low else max(1, int(high)) for low, high in pairwise(edges)]
    found: list[Choice] = []
    for number, one in enumerate(main, start=1):
        found.append(one)
        found += [extra for extra, place in zip(among, places, strict=True) if place == number]
    return found
