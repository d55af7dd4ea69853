"""Which image stands where: the script of each list of the utility protocol, the same for all conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..balance import compose, rotations, round_half_up, seeded, sides

Kind = tuple[int, int]
"""(0 model right, 1 model wrong) x (index of the predicted class)."""
KINDS: tuple[Kind, ...] = ((0, 0), (0, 1), (1, 0), (1, 1))
Role = tuple[str, int]
"""(phase, session)."""


@dataclass(frozen=True)
class Plan:
    """How many images of each kind stand in each block: role -> int array (2, 2), indexed by kind."""

    blocks: Mapping[Role, np.ndarray]
    sessions: int

    @property
    def needs(self) -> dict[Kind, int]:
        """Images of each kind in one list."""
        return {kind: sum(int(counts[kind]) for counts in self.blocks.values()) for kind in KINDS}

    def roles(self, kind: Kind) -> list[Role]:
        """List the places of one kind: training first, so that a turned ring exchanges training and test."""
        return [role for role, counts in self.blocks.items() for _ in range(int(counts[kind]))]


def plan(sessions: int, train: int, test: int, wrong_share: float) -> Plan:
    """Compose the blocks: the share of model-wrong images is exact over the list, and over the test images."""
    wrong = round_half_up(wrong_share * sessions * (train + test))
    wrong_test = round_half_up(wrong_share * sessions * test)
    blocks: dict[Role, np.ndarray] = {}
    trained = compose([train] * sessions, wrong - wrong_test)
    asked = compose([test] * sessions, wrong_test)
    if np.abs(_lead(trained) + _lead(asked)).sum() > np.abs(_lead(asked) - _lead(trained)).sum():
        trained = [counts[:, ::-1] for counts in trained]
    for phase, composed in (("train", trained), ("test", asked)):
        for session, counts in enumerate(composed, start=1):
            blocks[phase, session] = counts
    return Plan(blocks, sessions)


def _lead(composed: list[np.ndarray]) -> np.ndarray:
    """By how many images class 0 leads, among the right and the wrong."""
    total = np.sum(composed, axis=0)
    return np.asarray(total[:, 0] - total[:, 1])


@dataclass(frozen=True, kw_only=True)
class Step:
    """One trial of a list before a condition is put on it."""

    phase: str
    session: int
    item: str
    index: int
    count: int
    left: bool
    """The expected answer stands on the left (not asked in training)."""
    is_catch: bool
    seen: tuple[str, ...]
    """Training items seen before this trial, in the order they were shown."""


@dataclass(frozen=True)
class Script:
    """The lists of a study, made from the chosen items.

    Attributes
    ----------
    plan : Plan
    chosen : kind -> item ids, as many as the plan needs
    answers : item id -> class the model answered
    lists, catch, seed : int
    """

    plan: Plan
    chosen: Mapping[Kind, Sequence[str]]
    answers: Mapping[str, str]
    lists: int
    catch: int
    seed: int

    def roles(self, number: int) -> dict[Role, list[str]]:
        """Give each item its place in list `number` (from 1), in a seeded order within each block."""
        placed: dict[Role, list[str]] = {role: [] for role in self.plan.blocks}
        for kind in KINDS:
            places, items = self.plan.roles(kind), self.chosen[kind]
            turn = rotations(len(items), self.lists)[number - 1]
            for index, item in enumerate(items):
                placed[places[(index + turn) % len(places)]].append(item)
        return {role: self._shuffled(items, "order", number, *role) for role, items in placed.items()}

    def steps(self, number: int) -> list[Step]:
        """Return the training and test trials of list `number`, in the order they are shown."""
        roles = self.roles(number)
        seen: tuple[str, ...] = ()
        steps = []
        for session in range(1, self.plan.sessions + 1):
            fresh = roles["train", session]
            for index, item in enumerate(fresh):
                steps.append(_step("train", session, item, (index + 1, len(fresh)), seen=(*seen, *fresh[:index])))
            seen = (*seen, *fresh)
            asked = roles["test", session]
            repeated = self._catch_items(number, session, fresh, asked)
            order = self._shuffled([*asked, *repeated], "catch order", number, session)
            draws = seeded(self.seed, "sides", number, session)
            for index, (item, left) in enumerate(
                zip(order, sides([self.answers[i] for i in order], draws), strict=True)
            ):
                place = (index + 1, len(order))
                steps.append(_step("test", session, item, place, left=left, is_catch=item in repeated, seen=seen))
        return steps

    def _catch_items(self, number: int, session: int, fresh: Sequence[str], asked: Sequence[str]) -> list[str]:
        """Choose training items of this session to ask again, so that the answers at test stay as even as they can."""
        pool = self._shuffled(fresh, "catch", number, session)
        answers = [self.answers[item] for item in asked]
        repeated: list[str] = []
        for _ in range(self.catch):
            item = min(pool, key=lambda one: answers.count(self.answers[one]))
            pool.remove(item)
            repeated.append(item)
            answers.append(self.answers[item])
        return repeated

    def _shuffled(self, items: Sequence[str], *key: object) -> list[str]:
        return [items[i] for i in seeded(self.seed, *key).permutation(len(items))]


def _step(
    phase: str,
    session: int,
    item: str,
    place: tuple[int, int],
    *,
    left: bool = True,
    is_catch: bool = False,
    seen: tuple[str, ...],
) -> Step:
    index, count = place
    return Step(
        phase=phase, session=session, item=item, index=index, count=count, left=left, is_catch=is_catch, seen=seen
    )
